/* other_name.h: what marks on an image say of a lock that is elsewhere. */
#ifndef IMGLOCK_OTHER_NAME_H
#define IMGLOCK_OTHER_NAME_H

#include <stdbool.h>
#include <sys/types.h>

#include "mark.h"

/* Where the lock is of a process that has imglock's marks on this image by this descriptor, in words: "as
 * /other/name", "in /other/directory".  The caller frees it.  NULL: it cannot be told. */
char *other_name_of(const char *directory, const char *image, pid_t pid, int descriptor);

/* What the locks on an image say, whoever has them; by asking the kernel through an open for reading, which tells every
 * user who may read the image, of other hosts and containers as well.  False: there are none. */
bool image_locks_ask(const char *image, struct mark_meaning *meaning);

#endif
