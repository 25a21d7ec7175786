/* lock.h: the sidecar lock: its name, taking it, converting it, waiting, giving it back.
 *
 * A lock is an open file description lock on bytes 0 and 1 of $IMGLOCK_DIR/.qemu-<sha1>.lock.  It belongs to
 * the open file description, so it lives until the last descriptor of it is closed, in whatever process, and
 * it is given back by closing, never by F_UNLCK: an unlock in a fork child would free the parent's lock.
 *
 * Nothing here knows the program's descriptors.  Everything is async-signal-safe and leaves errno alone;
 * lock_wait alone is a cancellation point. */
#ifndef IMGLOCK_LOCK_H
#define IMGLOCK_LOCK_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "policy.h"
#include "protocol.h"

struct lock {
    int descriptor; /* private, at a high number; -1: no lock */
    dev_t device;   /* of the lock file */
    ino_t inode;
    int slot; /* the record's, or -1 */
    enum lock_mode mode;
    int family;         /* 0: on bytes 0-1; n: on the n-th pair of the descendants' bytes, beside an ancestor's lock */
    unsigned block;     /* the operations that are forbidden to others */
    const char *reason; /* for the record, or NULL */
};

enum lock_result { LOCK_FAILED = -1, LOCK_BUSY = 0, LOCK_TAKEN = 1 };

/* Why a lock could not be evaluated. */
struct lock_problem {
    int error;        /* errno of the call that failed; 0: the lock file is not fit to be one */
    const char *what; /* "cannot open the lock file", ... */
    uid_t owner;      /* of the lock file, where that is the reason; else (uid_t)-1 */
    bool own;    /* after LOCK_BUSY: only children that this process forked are in the way, with its own old locks */
    int blocked; /* after LOCK_BUSY: 1 + the operation that a holder blocks; 0: the lock itself is in the way */
};

/* sha1 of the path's bytes; printf %s PATH | sha1sum gives the same. */
void lock_name_of_path(const char *real_path, struct lock_name *name);

/* sha1 of "inode:MAJOR:MINOR:INODE", decimal numbers; of "device:MAJOR:MINOR" for a block device, which any number of
 * nodes may stand for. */
void lock_name_of_inode(const struct stat *status, struct lock_name *name);

/* The lock file's path into path[LOCK_PATH_SIZE(directory)]. */
#define LOCK_PATH_SIZE(directory) (strlen(directory) + sizeof "/" + LOCK_FILE_LENGTH)
void lock_path(const char *directory, const struct lock_name *name, char *path);

struct lock_request {
    const struct lock_name *name;
    const char *directory;
    const char *image_path; /* for a new lock file's header */
    enum lock_mode mode;
    bool family;             /* an ancestor's lock lets us past */
    bool patient;            /* may wait: a reader then queues behind a writer that holds the gate */
    unsigned operations;     /* 1 << enum operation, each: what is about to be done, which a holder may block */
    unsigned block;          /* what the lock is to forbid others */
    const char *reason;      /* for the record, or NULL */
    bool through_exec;       /* the private descriptor is not to be close-on-exec */
    bool shared_description; /* lock_convert: another process may have this open file description, too */
    int64_t deadline;        /* CLOCK_MONOTONIC, ns: until when anything is tried again */
    pid_t process;           /* this process, where the caller knows it and has blocked all signals; else 0 */
};

/* Takes the lock, without waiting; of a mode below LOCK_SHARED, which excludes nobody, only the record is made.
 * *opened: the lock file's descriptor while its lock is still to be had: -1 at first; after LOCK_BUSY the open lock
 * file, for another try or for the caller to close.  Kept open between tries, since closing it would wake everybody who
 * waits, ourselves first.  LOCK_FAILED fills *problem. */
enum lock_result lock_take(const struct lock_request *request, struct lock *lock, int *opened,
                           struct lock_problem *problem);

/* After LOCK_BUSY: keeps the lock file open at a high number and leaves a record of mode "none" there, for an image
 * that is let through without its lock.  *opened is taken over. */
void lock_watch(struct lock *lock, const struct lock_request *request, int *opened);

/* Is the descriptor still open on the lock file that the lock was taken on? */
bool lock_is_open(const struct lock *lock);

/* Is an exclusive lock still held?  Asked by locking once more what is held, which changes nothing; where it is not,
 * and nobody else holds it, it is held again.  False: the lock was passed on (imglock handoff). */
bool lock_confirm(const struct lock *lock);

/* Does the record say that the lock was given up on purpose (imglock inactivate, imglock handoff)? */
bool lock_says_inactive(const struct lock *lock);

/* Raises or lowers the mode of a lock that is held; atomically, the old mode stays when the new one is not to
 * be had.  A description that another process may have, too, is never weakened: it may have raised it.  problem as
 * above. */
enum lock_result lock_convert(struct lock *lock, const struct lock_request *request, struct lock_problem *problem);

/* Fills *lock for a descriptor that came through exec with its lock, from the record that goes with it; without one the
 * mode is taken to be shared, which it is at least.  Where the record is this process's from before the exec, it is
 * written anew. */
void lock_adopt(struct lock *lock, int descriptor, const char *reason);

/* Gives the lock back: closes the descriptor. */
void lock_release(struct lock *lock);

/* Gives back a lock that was taken for one call of the program alone.  By F_UNLCK and close: a fork in another thread
 * may have copied the descriptor, and that child has no use for the lock. */
void lock_end_guard(int lock_descriptor);

/* Opens an existing lock file, never creating one, to ask about holders or to lock it for the time of one
 * operation.  Returns a descriptor at whatever number, -ENOENT when nobody ever locked, or -errno with
 * *problem. */
int lock_open_existing(const char *directory, const struct lock_name *name, struct lock_problem *problem);

/* Is the lock held by others in a way that excludes mode?  1 yes, 0 no, -errno.  Locks of this descriptor's own
 * open file description are not seen. */
int lock_in_the_way(int lock_descriptor, enum lock_mode mode);

/* Do others hold bytes 0-1, or the family's pair?  Never while this open file description has them exclusively: then
 * they were passed on. */
bool lock_is_elsewhere(int lock_descriptor, int family);

/* ---- waiting (lock_wait.c) -------------------------------------------------------------------------------- */

struct lock_waiter {
    const char *directory;
    const struct lock_name *name;
    int inotify;      /* -1 where inotify is not to be had; then waiting polls */
    int watch;        /* inotify's number for the lock file that is watched */
    bool gate;        /* we hold the gate */
    bool untried;     /* no try since the watch is there */
    int64_t deadline; /* CLOCK_MONOTONIC, ns; WAIT_FOREVER */
};

/* Starts waiting until deadline, CLOCK_MONOTONIC in ns, or WAIT_FOREVER.  inotify: an instance that an earlier wait has
 * left, unwatched, or -1.
 */
void lock_wait_start(struct lock_waiter *waiter, const char *directory, const struct lock_name *name, int64_t deadline,
                     int inotify);

/* Waits until the lock is worth another try.  True: try again.  False: the time is over, or a signal handler
 * ran that was installed without SA_RESTART (*interrupted).  A cancellation point: *waiter must be under a
 * cleanup handler that calls lock_wait_end.  lock_descriptor: the open lock file, for the gate. */
bool lock_wait(struct lock_waiter *waiter, int lock_descriptor, enum lock_mode mode, bool *interrupted);

/* Ends waiting: gives the gate back.  waiter->inotify stays open for the caller to keep: to close an instance that had
 * a watch lately waits for a grace period of the kernel's, 7 to 15 ms.  So does its waiter->watch, which costs 16 us to
 * take off, nearly as much as a hand-over: lock_wait_unwatch does so when nobody waits for us. */
void lock_wait_end(struct lock_waiter *waiter, int lock_descriptor);
void lock_wait_unwatch(int inotify, int watch);

#endif
