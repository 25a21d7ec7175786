/* track.h: which descriptors keep which lock alive.
 *
 * The table maps a descriptor to a tracked image, and a tracked image counts the descriptors that need it
 * shared and exclusive.  The table is read without a lock, so a descriptor that is no image costs one load.
 * Everything else, but for the mark of a descriptor that is about to be closed, happens in a critical section with all
 * signals blocked, so it can neither be interrupted by a handler that comes here too nor be cancelled; no call of the
 * program is made inside.
 *
 * The unit of exchange is the hold: one claim on one image, which is either attached to a descriptor or in the
 * hands of a wrapper between two steps.  An open takes a hold and attaches it; a close marks the descriptor's hold,
 * closes, and drops it; a dup copies the hold and attaches the copy.  So a lock is given back only after the last
 * descriptor is really gone, and a wrapper that is cancelled in the middle drops what it has, or takes its mark back.
 *
 * Processes: after fork the child has the table, the locks are shared with the parent, and neither may change them any
 * more.  In a vfork child the table is the parent's memory but the descriptors are the child's: there
 * nothing is changed. */
#ifndef IMGLOCK_TRACK_H
#define IMGLOCK_TRACK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lock.h"
#include "mark.h"
#include "sys.h"
#include "table.h"

struct track_hold {
    uint32_t image; /* 0: none */
    enum lock_mode mode;
    enum lock_mode before; /* what this process had before the hold was taken; LOCK_NONE: the lock is new */
    bool attached;         /* after track_take: the descriptor has it, and nothing is left here */
    bool family;           /* let past a relative's lock */
    bool crowded;          /* somebody else has it open, for writing perhaps: asked by request->lease */
    bool disputed;         /* somebody's mark is in the way: track_give_back or track_accept */
    bool beside_own;       /* and this process has other marks on the file, which only a further try tells from it */
    bool foreign;          /* taken in a vfork child: not in the table */
    int foreign_private;   /* the lock's descriptor in that child */
    dev_t device;          /* of the image, for the question whether a descriptor is still it */
    ino_t inode;
};

struct track_request {
    struct lock_request lock;           /* the lock by path */
    const struct lock_name *inode_name; /* the lock by inode, or NULL */
    int *inode_opened;                  /* for the lock by inode what *opened is for the one by path; may be NULL */
    bool watch;                         /* where the lock is not to be had, keep track of the image without it */
    /* The program's descriptor that the hold is to be attached to at once, and the image that it is open on; -1: none.
     */
    int attach_to;
    bool close_on_exec;
    dev_t device;
    ino_t inode;
    int mark;    /* the descriptor that is to be marked: the program's, or one that is open likewise; -1: none */
    int access;  /* O_ACCMODE of its open */
    bool first;  /* what this process has of it already is of the same open */
    short lease; /* how the process's first open asks who else has it open, through the same: count.h; F_UNLCK: not */
    bool set_marks; /* false: the marks of others are only looked at */
    bool inherited; /* the descriptor came through exec */
};

/* ---- the descriptor table, as the wrappers see it ------------------------------------------------------- */

/* What the table says of a descriptor; 0: nothing.  Any number may be asked for, negative ones too. */
static inline uint64_t track_entry(int descriptor)
{
    return table_entry(descriptor);
}

/* Is this descriptor one of imglock's own? */
static inline bool track_is_private(int descriptor)
{
    return table_is_private(descriptor);
}

/* May it have been one until lately, and is nothing now?  A listing that was read before still has it. */
bool track_was_private(int descriptor);

/* The lowest tracked or private descriptor in [first, last], or -1. */
static inline int64_t track_next(unsigned first, unsigned last)
{
    return table_next(first, last);
}

/* ---- holds ---------------------------------------------------------------------------------------------- */

/* Takes a hold on an image, with the lock that it needs; LOCK_BUSY with request->watch takes a hold without.  *opened
 * as in lock_take.  Where this process already has the lock strongly enough nothing is asked of the kernel.  With the
 * lock taken the image is marked; hold->disputed: *found, which may be NULL where nothing is to be marked, is in the
 * way, and the caller, who holds the lock meanwhile, finds out who that is. */
enum lock_result track_take(const struct track_request *request, struct track_hold *hold, int *opened,
                            struct lock_problem *problem, struct bytes_found *found);

/* Is another thread just closing a descriptor of the request's file? */
bool track_is_closing(const struct track_request *request);

/* Looks again at a disputed hold.  False: nobody is in the way any more. */
bool track_is_disputed(const struct track_request *request, struct track_hold *hold, struct bytes_found *found);

/* Whoever is in the way of a disputed hold may be there. */
void track_accept(const struct track_request *request, struct track_hold *hold);

/* Another description of the image, opened with this access, is about to take the place of the one that the hold on it
 * has marked. */
void track_move_marks(const struct track_request *request, int to, int access);

/* Marks a descriptor of an image, opened with this access, for this mode, and asks nobody: it became another
 * description under the same number, or goes without the lock. */
void track_mark(int descriptor, const struct stat *status, enum lock_mode mode, int access);

/* Gives a hold back that was just taken, bound to its descriptor or not, and the marks of that. */
void track_give_back(const struct track_request *request, struct track_hold *hold);

/* Binds the hold, whose device and inode are those of the image by now, to a descriptor, which keeps it until it is
 * closed.  On -ENOMEM the caller still has it. */
int track_attach(struct track_hold *hold, int descriptor, bool close_on_exec);

/* A further hold on the same image in the same mode.  False when the descriptor has none. */
bool track_copy(int descriptor, struct track_hold *hold);

/* A further hold as one that no descriptor has. */
void track_copy_hold(const struct track_hold *hold, struct track_hold *copy);

/* Gives a hold back.  The last one releases the lock; the last exclusive one lowers it. */
void track_drop(struct track_hold *hold);

/* Is the descriptor still open on the hold's image? */
bool track_still_open(const struct track_hold *hold, int descriptor);

/* ---- closing -------------------------------------------------------------------------------------------- */

/* A call of the program that closes a descriptor. */
struct track_closing {
    int descriptor;
    uint64_t entry; /* what the table says of it meanwhile; 0: it has no hold */
    enum lock_mode mode;
    pid_t thread;
};

/* Before the call.  From now on the hold is not copied any more: between the call and its end another thread may
 * already get the same number for another file.  An empty *closing has to be where a cleanup routine finds it before:
 * a handler that jumps away may run at any point in here. */
void track_begin_close(struct track_closing *closing, int descriptor);

/* After it, when the descriptor is gone, or is to go: drops its hold. */
void track_end_close(struct track_closing *closing);

/* After a call that did not come back, or of which it is not known what it closed: a descriptor that is still open on
 * its image keeps its hold, one that is not has it dropped. */
void track_cancel_close(struct track_closing *closing);

/* After a call that closed nothing. */
void track_undo_close(struct track_closing *closing);

/* Is the descriptor still open on its image? */
bool track_closed_nothing(const struct track_closing *closing);

/* ---- what a server may have lost ------------------------------------------------------------------------ */

/* Asks once more for the lock and the marks of the image that a descriptor is open on, or that has this name, where a
 * server keeps them (asking.h): before a close, and before an open.  What others have by now is told of. */
void track_ask_again(int descriptor);
void track_ask_again_of(const struct lock_name *name);

/* ---- events that wrappers report ------------------------------------------------------------------------ */

/* A call of the program returned this new descriptor; whatever the table says of it is out of date. */
void track_forget_stale(int descriptor);

static inline void track_opened(int descriptor)
{
    if (__builtin_expect(descriptor >= 0 && track_entry(descriptor) != 0, 0)) track_forget_stale(descriptor);
}

/* The program is about to lock the file of this tracked descriptor itself, or to ask who has: no mark of ours is to be
 * met there. */
void track_locks_itself(int descriptor);

/* The program set or cleared FD_CLOEXEC. */
void track_set_close_on_exec(int descriptor, bool close_on_exec);

/* The program's call is about to take the number of a private descriptor: moves it aside.  False when there is no other
 * number left. */
bool track_move_private(int descriptor);

/* Before a call that takes a number, whatever it is: where another thread may be about to give it to a private
 * descriptor, which then would be closed, and written to as a lock file as the program's, none is made until
 * track_thaw. The only real call that is made in the section: dup2(2) onto a high number that nobody has, with threads;
 * so it closes nothing.  False: that cannot be. */
bool track_freeze(int descriptor, sys_signals *before);
void track_thaw(const sys_signals *before);

/* The private descriptors that keep this descriptor's image locked: one, with IMGLOCK_KEY=inode two, or none.  Returns
 * how many. */
enum { TRACK_PRIVATES = 8 };
int track_privates(int descriptor, int privates[TRACK_PRIVATES]);

/* What a call makes that is no thread. */
enum track_child {
    TRACK_PROGRAM, /* another program: posix_spawn, system, popen */
    TRACK_COPY,    /* what runs on in our code, and comes from no fork(3), which has its handlers: _Fork, clone */
    TRACK_SHARER,  /* the same, which shares our memory and our descriptors, or may do so */
};

/* Around such a call: the child may get every lock that is there or comes meanwhile.  track_end_child in the parent
 * alone. Safe in signal handlers and vfork children. */
void track_begin_child(enum track_child child);
void track_end_child(void);

/* Before vfork, and in its child before exec: the child keeps what it has got. */
void track_note_child(void);

/* What this process has of an image's lock. */
struct track_own {
    struct lock_name name;
    int descriptor; /* private */
    enum lock_mode mode;
    int start;      /* of its bytes: struct lock */
    unsigned block; /* operations that it forbids others */
};

/* Has this very process the image's lock, or its record? */
bool track_own_lock(const struct lock_name *name, struct track_own *own);

/* The same for the image that a descriptor of the program is open on. */
bool track_lock_of(int descriptor, struct track_own *own);

/* The inotify instance that a wait has left, for the next one; -1: none.  Parked, it is as private as a lock's
 * descriptor is, and its watch is taken off when an image is released; a second instance is closed. */
int track_take_watcher(void);
void track_park_watcher(int inotify, int watch);

/* A lock that came through exec: its descriptor is known by number only.  It may be shared with the process that passed
 * it down, so it is never weakened here. */
void track_adopt_lock(const struct lock_name *name, int descriptor);

/* Gives back adopted locks that no descriptor came to need. */
void track_release_unused(void);

/* Registers what has to happen around fork.  Once, from the constructor. */
void track_start(void);

#endif
