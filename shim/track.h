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
 * closes, and drops it (track_close.h); a dup copies the hold and attaches the copy.  So a lock is given back only
 * after the last descriptor is really gone, and a wrapper that is cancelled in the middle drops what it has, or takes
 * its mark back.
 *
 * Processes (track_process.h): after fork the child has the table, the locks are shared with the parent, and neither
 * may change them any more.  In a vfork child the table is the parent's memory but the descriptors are the child's:
 * there nothing is changed. */
#ifndef IMGLOCK_TRACK_H
#define IMGLOCK_TRACK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lock.h"
#include "mark.h"
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

/* A lock that came through exec: its descriptor is known by number only.  It may be shared with the process that passed
 * it down, so it is never weakened here. */
void track_adopt_lock(const struct lock_name *name, int descriptor);

/* Gives back adopted locks that no descriptor came to need. */
void track_release_unused(void);

#endif
