/* lock_name.h: the name of an image's lock, and the path of its lock file.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_LOCK_NAME_H
#define IMGLOCK_LOCK_NAME_H

#include <string.h>
#include <sys/stat.h>

#include "protocol.h"

/* sha1 of the path's bytes; printf %s PATH | sha1sum gives the same. */
void lock_name_of_path(const char *real_path, struct lock_name *name);

/* The name of an image's own lock: of a block device, which any number of nodes may stand for, that of its number; of
 * all else that of its path.  status: NULL where there is no such file yet. */
void lock_name_of_image(const char *real_path, const struct stat *status, struct lock_name *name);

/* sha1 of "inode:MAJOR:MINOR:INODE", decimal numbers; of a block device the same as lock_name_of_image. */
void lock_name_of_inode(const struct stat *status, struct lock_name *name);

/* sha1 of "device:MAJOR:MINOR", decimal numbers. */
void lock_name_of_device(dev_t device, struct lock_name *name);

/* The lock file's path into path[LOCK_PATH_SIZE(directory)]. */
#define LOCK_PATH_SIZE(directory) (strlen(directory) + sizeof "/" + LOCK_FILE_LENGTH)
void lock_path(const char *directory, const struct lock_name *name, char *path);

#endif
