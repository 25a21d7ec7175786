/* blocker.h: operations that a holder forbids others meanwhile, libimglock(7).
 *
 * A blocker is a shared lock on the operation's byte of the lock file, on the holder's own open file description: it
 * ends with the holder, however that ends.  Who performs the operation holds the byte exclusively meanwhile, so a
 * blocker that comes while the operation is under way is not set.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_BLOCKER_H
#define IMGLOCK_BLOCKER_H

#include "holders.h"
#include "policy.h"

/* Sets of operations: 1 << enum operation, each. */

/* Forbids operations to others.  One that somebody performs just now is waited for until the deadline (CLOCK_MONOTONIC,
 * ns).  0; or 1 + the operation that somebody performs just now, and then none is blocked; or
 * -errno. */
int blocker_set(int lock_descriptor, unsigned operations, int64_t deadline);

/* Which of these operations do others block?  1 + the first one, 0 none. */
int blocker_find(int lock_descriptor, unsigned operations);

/* Takes the operations' bytes for the time of one call, on a descriptor opened for that; closing it ends that.  0, or
 * 1 + the operation that is blocked.  Waits a moment for another process that performs the same one. */
int blocker_begin_operation(int lock_descriptor, unsigned operations, int64_t deadline);

/* The record of a holder that blocks this operation. */
bool blocker_holder(int lock_descriptor, enum operation operation, struct holder *holder);

#endif
