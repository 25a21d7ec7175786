/* lock.h: the lock beside an image: taking it, converting it, waiting, giving it back.
 *
 * A lock is an open file description lock on bytes 0 and 1 of $IMGLOCK_DIR/.qemu-<sha1>.lock; of whoever is let past
 * the lock of a relative, on one byte of the relatives' range.  It belongs to the open file description, so it lives
 * until the last descriptor of it is closed, in whatever process, and it is given back by closing, never by F_UNLCK: an
 * unlock in a fork child would free the parent's lock.  Likewise a description that a second process may have is never
 * converted: who needs more takes a lock of its own, as a relative of itself.
 *
 * Nothing here knows the program's descriptors.  Everything is async-signal-safe and leaves errno alone;
 * lock_wait alone is a cancellation point. */
#ifndef IMGLOCK_LOCK_H
#define IMGLOCK_LOCK_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lock_file.h"
#include "lock_name.h"
#include "pause.h"
#include "policy.h"
#include "protocol.h"
#include "relatives.h"

/* Who keeps the lock file's locks. */
enum lock_place {
    LOCK_HERE,  /* this host's kernel, which loses none */
    LOCK_SHOWN, /* a server, which may lose them; the kernel shows those of this host */
    LOCK_HIDDEN /* the same, and the kernel knows of none */
};

struct lock {
    int descriptor; /* private, at a high number; -1: no lock */
    dev_t device;   /* of the lock file */
    ino_t inode;
    int slot; /* the record's, or -1 */
    enum lock_mode mode;
    enum lock_place place;
    int start;          /* LOCK_BYTE, or the byte of the relatives' range */
    unsigned block;     /* the operations that are forbidden to others */
    const char *reason; /* for the record, or NULL */
};

/* Does the lock lie beside a relative's? */
static inline bool lock_is_beside(const struct lock *lock)
{
    return lock->start != LOCK_BYTE;
}

enum lock_result { LOCK_FAILED = -1, LOCK_BUSY = 0, LOCK_TAKEN = 1 };

/* What passes by itself, such as the moment in which imglock gc looks at a lock file, is waited for that long even
 * where nothing else is: nanoseconds. */
enum { LOCK_GRACE_NS = 100 * 1000 * 1000 };

struct lock_request {
    const struct lock_name *name;
    const char *directory;
    const char *image_path; /* for a new lock file's header */
    enum lock_mode mode;
    bool relatives;      /* an ancestor's lock lets us past */
    bool patient;        /* may wait: a reader then queues behind a writer that holds the gate */
    bool repeats;        /* waits for longer than what passes by itself: no try has to */
    unsigned operations; /* 1 << enum operation, each: what is about to be done, which a holder may block */
    unsigned block;      /* what the lock is to forbid others */
    const char *reason;  /* for the record, or NULL */
    bool through_exec;   /* the private descriptor is not to be close-on-exec */
    const struct relatives_known *known; /* what this process has of this lock file, or NULL */
    int64_t deadline;                    /* CLOCK_MONOTONIC, ns: no try is made again after it */
    pid_t section; /* this process, where the caller is in track's section with all signals blocked; else 0 */
};

/* Takes the lock, waiting for nothing but what passes by itself; of a mode below LOCK_SHARED, which excludes nobody,
 * only the record is made.  *opened: the lock file's descriptor while its lock is still to be had: -1 at first; after
 * LOCK_BUSY the open lock file, for another try or for the caller to close, or -1 where that kept changing.  Kept open
 * between tries, since closing it would wake everybody who waits, ourselves first.  LOCK_FAILED fills *problem. */
enum lock_result lock_take(const struct lock_request *request, struct lock *lock, int *opened,
                           struct lock_problem *problem);

/* After LOCK_BUSY: keeps the lock file open at a high number and leaves a record of mode "none" there, for an image
 * that is let through without its lock.  *opened is taken over. */
void lock_watch(struct lock *lock, const struct lock_request *request, int *opened);

/* Is the descriptor still open on the lock file that the lock was taken on? */
bool lock_is_open(const struct lock *lock);

/* Has the description its bytes still?  The kernel's word; nothing is changed.  False: the lock was given up or passed
 * on, by imglock inactivate or imglock handoff, which reach the description from outside. */
bool lock_is_held(const struct lock *lock);

/* Asks a server once more for what the description has: to lock again what one has changes nothing, and what the server
 * has lost is had again, if nobody else has it by now.  0: it is had; 1: and had been lost; -EAGAIN: others have it;
 * or -errno: not told, -EBADFD: the server takes nothing from this description any more. */
enum lock_again {
    LOCK_AGAIN_ALONE,  /* not for the record, whose time is over */
    LOCK_AGAIN_SLOT,   /* for its slot, and it is not written anew: another process may have the description */
    LOCK_AGAIN_RECORD, /* for both: who had the lock meanwhile may have taken the slot */
};
int lock_ask_again(struct lock *lock, enum lock_again what);

/* Raises or lowers the mode of a lock whose description this process alone has; atomically, the old mode stays when the
 * new one is not to be had.  problem as above. */
enum lock_result lock_convert(struct lock *lock, const struct lock_request *request, struct lock_problem *problem);

/* Moves a lock beside a relative's to bytes 0-1, if those are free: scripts ask for these alone.  Only of a description
 * that this process alone has. */
void lock_come_forward(struct lock *lock);

/* Fills *lock for a descriptor that came through exec with its lock: what the kernel says that its description has. */
void lock_adopt(struct lock *lock, int descriptor, const char *reason);

/* Gives the lock back: closes the descriptor. */
void lock_release(struct lock *lock);

/* Gives back a lock that was taken for one call of the program alone.  By F_UNLCK and close: a fork in another thread
 * may have copied the descriptor, and that child has no use for the lock. */
void lock_end_guard(int lock_descriptor);

/* Is there a lock file of that name, as far as this process can see?  Cheaper than to open it. */
bool lock_exists(const char *directory, const struct lock_name *name);

/* Opens an existing lock file, never creating one, to ask about holders or to lock it for the time of one
 * operation.  Returns a descriptor at whatever number, -ENOENT when nobody ever locked, or -errno with
 * *problem. */
int lock_open_existing(const char *directory, const struct lock_name *name, struct lock_problem *problem);

/* Is the lock held by others in a way that excludes mode?  1 yes, 0 no, -errno.  Locks of this descriptor's own
 * open file description are not seen. */
int lock_in_the_way(int lock_descriptor, enum lock_mode mode);

/* ---- waiting (lock_wait.c) -------------------------------------------------------------------------------- */

struct lock_waiter {
    const char *directory;
    const struct lock_name *name;
    int inotify;        /* -1 where inotify is not to be had; then waiting polls */
    int watch;          /* inotify's number for the file that is watched */
    int image;          /* that file is the one that this descriptor is open on, not the lock file; -1: it is not */
    bool gate;          /* we hold the gate */
    bool untried;       /* no try since the watch is there */
    struct pause pause; /* no event may come: look again after it.  Its deadline is that of the wait */
    /* Where what is waited for may happen on another host, of which no event tells: */
    bool distant;
    int turn;       /* by this descriptor one waiter of this host asks the server for all of them; -1: it is not open */
    unsigned looks; /* since the last try */
    bool still;     /* result of lock_wait: what was in the way still is, so that a try would be for nothing */
};

/* Starts waiting, until the deadline at the most.  inotify: an instance that an earlier wait has left, unwatched, or
 * -1. */
void lock_wait_start(struct lock_waiter *waiter, const char *directory, const struct lock_name *name, int64_t deadline,
                     int inotify);

/* From now on what is waited for is that somebody closes the image, which this descriptor is open on; or, with -1, the
 * lock again. */
void lock_wait_for_image(struct lock_waiter *waiter, int descriptor);

/* Waits until the lock is worth another try.  True: try again, unless waiter->still.  False: the time is over, or a
 * signal handler ran that was installed without SA_RESTART (*interrupted).  A cancellation point: *waiter must be under
 * a cleanup handler that calls lock_wait_end.  lock_descriptor: the open lock file, for the gate. */
bool lock_wait(struct lock_waiter *waiter, int lock_descriptor, enum lock_mode mode, bool *interrupted);

/* Sleeps for that many nanoseconds, less than a second, or until an inotify instance, -1: none, has something to tell:
 * true.  *interrupted as above.  A cancellation point. */
bool lock_wait_sleep(int inotify, int64_t time, bool *interrupted);

/* Ends waiting: gives the gate back.  waiter->inotify stays open for the caller to keep: to close an instance that had
 * a watch lately waits for a grace period of the kernel's, 7 to 15 ms.  So does its waiter->watch, which costs 16 us to
 * take off, nearly as much as a hand-over: lock_wait_unwatch does so when nobody waits for us. */
void lock_wait_end(struct lock_waiter *waiter, int lock_descriptor);
void lock_wait_unwatch(int inotify, int watch);

#endif
