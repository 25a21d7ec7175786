/* lock_cache.h: lock files that stay open from one list to the next, so that looking at them is no event that a watch
 * reports. */
#ifndef IMGLOCK_LOCK_CACHE_H
#define IMGLOCK_LOCK_CACHE_H

#include "lock_file.h"
#include "protocol.h"
#include "usage.h"

struct lock_cache *lock_cache_make(void);

/* The lock file of this name in the question's directory, for reading: from the question's cache, where it has one.
 * Results are those of lock_file_look. */
int lock_cache_open(const struct question *question, const struct lock_name *name, struct lock_problem *problem);

/* Closes it, unless it is to stay open. */
void lock_cache_close(const struct question *question, int descriptor);

#endif
