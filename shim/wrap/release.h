/* release.h: a call of the program is about to close a descriptor that has a hold.
 *
 * The hold is marked before the call and dropped after it.  If the call does not come back (close is a cancellation
 * point), the descriptor is looked at: still the image, then the mark is taken back; gone, then the hold is dropped. */
#ifndef IMGLOCK_RELEASE_H
#define IMGLOCK_RELEASE_H

#include "../track.h"
#include "../track_close.h"
#include "../track_lost.h"
#include "cleanup.h"

/* close by that function, of a descriptor that the table knows (close.c). */
int close_tracked(int (*real)(int), int descriptor);

static inline int close_by(int (*real)(int), int descriptor)
{
    return __builtin_expect(track_entry(descriptor) == 0, 1) ? real(descriptor) : close_tracked(real, descriptor);
}

typedef int close_range_function(unsigned first, unsigned last, int flags);

/* close_range with these bounds by that function, our own descriptors left alone (close.c). */
int close_range_around(close_range_function *real, unsigned first, unsigned last, int flags);

struct release {
    struct track_closing closing;
    struct _pthread_cleanup_buffer cleanup;
};

static inline void release_interrupted(void *closing)
{
    track_cancel_close(closing);
}

static inline void release_begin(struct release *release, int descriptor)
{
    release->closing = (struct track_closing){0};
    track_ask_again(descriptor);
    _pthread_cleanup_push(&release->cleanup, release_interrupted, &release->closing);
    track_begin_close(&release->closing, descriptor);
}

/* The call came back; the descriptor is gone, whatever it returned: on Linux also after EINTR and EIO.  (After a
 * close_range that failed it is not: track_cancel_close comes before.) */
static inline void release_end(struct release *release)
{
    track_end_close(&release->closing);
    _pthread_cleanup_pop(&release->cleanup, 0);
}

#endif
