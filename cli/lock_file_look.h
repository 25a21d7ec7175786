/* lock_file_look.h: a lock file that is looked at, and not locked. */
#ifndef IMGLOCK_LOCK_FILE_LOOK_H
#define IMGLOCK_LOCK_FILE_LOOK_H

#include "lock.h"

/* Opens a lock file for reading, which is enough to ask the kernel who holds what in it.  A descriptor; -ENOENT: nobody
 * ever locked; or -errno with *problem. */
int lock_file_look(const char *directory, const struct lock_name *name, struct lock_problem *problem);

#endif
