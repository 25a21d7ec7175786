/* lock_directory.h: the lock files of a directory. */
#ifndef IMGLOCK_LOCK_DIRECTORY_H
#define IMGLOCK_LOCK_DIRECTORY_H

#include <stddef.h>

#include "protocol.h"

struct lock_names {
    struct lock_name *names;
    size_t count;
};

/* The names in a lock directory that lock files have, in their order.  0 or an errno. */
int lock_directory_list(const char *directory, struct lock_names *list);

#endif
