/* vfork_lock.h: the lock of an image that a vfork child opens.
 *
 * The table is the parent's memory and stays as it is.  The parent's locks are open in the child as well, under the
 * same numbers, so an image that the parent holds strongly enough needs nothing more; for another a lock of the child's
 * own is taken, which ends with the child or passes through its exec.
 *
 * For the section, entered as a foreign one.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_VFORK_LOCK_H
#define IMGLOCK_VFORK_LOCK_H

#include <stdbool.h>

#include "lock.h"

/* *descriptor: of the lock that the child has now, its parent's or its own; -1: none.  *opened as in lock_take.
 * *first: neither the parent nor a relative has a lock of the image. */
enum lock_result vfork_lock_take(const struct lock_request *request, int *descriptor, int *opened,
                                 struct lock_problem *problem, bool *first);

#endif
