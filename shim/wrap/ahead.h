/* ahead.h: an open whose file is judged and locked before the call is made.
 *
 * The file is judged through an O_PATH descriptor, which has no effect on it.  An image is not truncated by the call
 * but after it, on the descriptor, when that is known to be the locked file: a name may be replaced in between. */
#ifndef IMGLOCK_AHEAD_H
#define IMGLOCK_AHEAD_H

#include <stdbool.h>
#include <sys/stat.h>

#include "../track.h"
#include "judge.h"

struct ahead {
    struct track_hold hold;
    bool judged;    /* *status is the file that was judged */
    bool is_new;    /* there was nothing under the name */
    bool truncates; /* O_TRUNC has been kept from the call, and is ours to do */
    bool degraded;  /* the descriptor is to be one for reading (IMGLOCK_ON_CONFLICT=read-only) */
    int probe;      /* open as the program's descriptor will be, and marked: libc's open truncates; 0: none */
    struct stat status;
};

/* Before the call: judges and takes the lock.  0, or -1 and errno. */
int ahead_begin(struct opening *opening, struct ahead *ahead);

/* After it: binds the lock to the descriptor that came of it, or, for -1, drops it.  0; or -1 and errno, and the caller
 * closes the descriptor. */
int ahead_end(struct opening *opening, struct ahead *ahead, int descriptor);

/* The call has found no number for its descriptor.  Closes the probe, if there is one: true, and the call is worth
 * another try. */
bool ahead_gives_way(struct ahead *ahead);

/* A cleanup routine (cleanup.h) for a struct ahead. */
void ahead_abandon(void *ahead);

/* A descriptor that has no effect on what it is opened on, and by which that can be judged: opening a FIFO for reading
 * would let its writer go on. */
int ahead_open_handle(const struct opening *opening, int flags);

#endif
