/* claim.h: the lock that one open needs: taken, waited for, refused, with the line that says so. */
#ifndef IMGLOCK_CLAIM_H
#define IMGLOCK_CLAIM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "../policy.h"
#include "../track.h"

/* Until when one open of the program waits, on CLOCK_MONOTONIC in ns; WAIT_FOREVER.  Set by the first claim and kept by
 * each further one of the same open: a file that is replaced and opened again starts no new wait.  Zeros: not set yet.
 */
struct claim_time {
    int64_t wait;     /* for whoever has the image: as long as IMGLOCK_WAIT says */
    int64_t deadline; /* for what passes by itself as well: LOCK_GRACE_NS at the least; 0: not set yet */
};

/* Sets the time, if it is not set. */
void claim_start(struct claim_time *time, const struct settings *settings);

struct claim {
    const struct settings *settings;
    const char *path; /* real */
    int flags;        /* of the open */
    int descriptor;   /* the program's, opened but not yet returned, closed should its thread be cancelled; or -1 */
    const struct stat *status; /* of the image; NULL: it does not exist yet */
    int mark; /* the descriptor that is marked: the program's, or one that is open likewise; -1: none.  Needs status */
    struct track_hold *also; /* of the same open, or NULL: given back while this one waits */
    bool inherited;          /* the descriptor came through exec */
    bool attach;             /* the hold goes to the descriptor at once */
    bool degradable;         /* when the lock is not to be had, a shared one and a descriptor for reading will do */
    bool degraded;           /* result: that is what came of it */
    struct claim_time *time;
};

/* Takes a hold, waiting as long as IMGLOCK_WAIT says.  0: *hold has it, or is empty where the open goes through
 * without (mode nolock, IMGLOCK_ON_ERROR=allow).  Else an errno, after one line on why.  A cancellation point when it
 * waits. */
int claim_image(struct claim *claim, struct track_hold *hold);

/* "cannot open for writing": what an open with these flags cannot do when it is refused. */
const char *claim_action(int flags);

/* What a refusal for want of a lock returns.  Running out of descriptors or memory is what it is; everything else
 * is ENOLCK, on which every program that was measured gives up cleanly. */
int claim_problem_errno(const struct lock_problem *problem);

#endif
