/* usage_locks.h: who uses a lock: holds it, has it by inheritance, waits for it, or blocks operations.
 *
 * Two sources are put together.  A lock file tells, to every user, that it is locked, and in its records by whom; but
 * records are text that anybody may have written, and a lock may have none.  The processes tell what they truly hold,
 * but only those that this user may look into.  So: what the kernel says of the lock's bytes decides whether it is
 * held; a record is believed as far as no process contradicts it; who holds a lock that no record explains is looked
 * for among the processes. */
#ifndef IMGLOCK_USAGE_LOCKS_H
#define IMGLOCK_USAGE_LOCKS_H

struct joining;

/* Adds the users of every lock in the list to the list. */
void join_locks(struct joining *joining);

#endif
