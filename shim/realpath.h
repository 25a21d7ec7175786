/* realpath.h: real paths without allocation.
 *
 * The lock's name is made from the image's real path, so this has to give byte for byte what realpath(3)
 * gives.  The kernel knows the real path of an open descriptor; asking it through /proc costs one call and
 * 4 KiB of stack.  Where /proc is not mounted (a chroot), the path is walked by hand. */
#ifndef IMGLOCK_REALPATH_H
#define IMGLOCK_REALPATH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Writes "/proc/self/fd/<descriptor>", at most 32 bytes, NUL included. */
void realpath_descriptor_link(int descriptor, char link[32]);

/* The real path of an open file into path[PATH_MAX], NUL-terminated.  Returns its length, or -errno:
 * -ENAMETOOLONG for 4096 bytes and more, -ENOENT when /proc cannot tell.  *deleted: the file's name is gone;
 * path is then the name that it had. */
ssize_t realpath_of_descriptor(int descriptor, char *path, bool *deleted);

/* The real path that name, seen from directory, has or would have once created: the real path of the
 * directory that it lies in, a slash, the last component.  Symbolic links at the end are followed when
 * follow.  Returns the length, or -errno: what the kernel says when a directory on the way cannot be
 * searched, -EISDIR when name ends in a slash or a dot. */
ssize_t realpath_of_name(int directory, const char *name, bool follow, char *path);

/* For an open file whose path is no name of its own: one of a memfd, or one that was opened by its handle before
 * anybody looked its name up, which is "/".  What stands for it into shown, which may be path; 0: it has a name. */
ssize_t realpath_of_nameless(const char *path, const struct stat *status, char *shown);

/* Directories have been renamed: paths that were remembered count no longer. */
void realpath_forget(void);

#endif
