/* track_close.h: a call of the program that closes a descriptor of an image.
 *
 * The descriptor's hold is marked before the call and dropped after it, so that a lock is given back only when the
 * descriptor is really gone; where the call closed nothing, or did not come back, the mark is taken back.
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_TRACK_CLOSE_H
#define IMGLOCK_TRACK_CLOSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"

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

#endif
