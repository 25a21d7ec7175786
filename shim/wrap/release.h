/* release.h: a call of the program is about to close a descriptor that has a hold.
 *
 * The entry goes before the call, the lock after it: in between another thread may already get the same number
 * for another file, and must not find the old entry.  If the call does not come back (close is a cancellation
 * point), the descriptor is looked at: still the image, then the hold is bound again; gone, then it is dropped. */
#ifndef IMGLOCK_RELEASE_H
#define IMGLOCK_RELEASE_H

#include "../track.h"
#include "cleanup.h"

/* close by that function (close.c). */
int close_by(int (*real)(int), int descriptor);

typedef int close_range_function(unsigned first, unsigned last, int flags);

/* close_range with these bounds by that function, our own descriptors left alone (close.c). */
int close_range_around(close_range_function *real, unsigned first, unsigned last, int flags);

struct release {
    struct track_hold hold;
    int descriptor;
    struct _pthread_cleanup_buffer cleanup;
};

static inline void release_interrupted(void *argument)
{
    struct release *release = argument;
    if (release->hold.image && track_still_open(&release->hold, release->descriptor) &&
        track_attach(&release->hold, release->descriptor, release->hold.close_on_exec) == 0)
        return;
    track_drop(&release->hold);
}

static inline void release_begin(struct release *release, int descriptor)
{
    release->descriptor = descriptor;
    release->hold = (struct track_hold){0};
    /* First, since a handler that jumps away may run at the end of track_detach. */
    _pthread_cleanup_push(&release->cleanup, release_interrupted, release);
    track_detach(descriptor, &release->hold);
}

/* The call came back; the descriptor is gone, whatever it returned: on Linux also after EINTR and EIO. */
static inline void release_end(struct release *release)
{
    track_drop(&release->hold);
    _pthread_cleanup_pop(&release->cleanup, 0);
}

#endif
