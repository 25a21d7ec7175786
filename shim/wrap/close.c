/* close.c: close, close_range, closefrom. */
#include <limits.h>
#include <stdbool.h>
#include <unistd.h>

#include "../threads.h"
#include "../track.h"
#include "../track_close.h"
#include "cleanup.h"
#include "real.h"
#include "release.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

extern int __close(int descriptor);

int close_tracked(int (*real)(int), int descriptor)
{
    /* One of ours: for the program that number is not open, and libc says so. */
    if (track_is_private(descriptor)) return real(-1);
    struct release release;
    release_begin(&release, descriptor);
    int result = real(descriptor);
    release_end(&release);
    return result;
}

EXPORT int close(int descriptor)
{
    return close_by(REAL(close), descriptor);
}

EXPORT int __close(int descriptor)
{
    return close_by(REAL(__close), descriptor);
}

int close_range_around(close_range_function *real, unsigned first, unsigned last, int flags)
{
    /* What the kernel refuses is refused before anything is closed. */
    if (first > last || flags & ~(int)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) || track_next(first, last) < 0)
        return real(first, last, flags);
    /* With a table of its own the calling thread says nothing about the other threads' descriptors: their locks
     * stay. */
    bool table_is_ours = !(flags & (int)CLOSE_RANGE_UNSHARE) || threads_none();
    unsigned start = first;
    for (int64_t at; (at = track_next(start, last)) >= 0; start = (unsigned)at + 1) {
        if (track_is_private((int)at)) {
            if ((unsigned)at > start && real(start, (unsigned)at - 1, flags) < 0) return -1;
        } else if (flags & (int)CLOSE_RANGE_CLOEXEC) {
            if (real(start, (unsigned)at, flags) < 0) return -1;
            if (table_is_ours) track_set_close_on_exec((int)at, true);
        } else {
            struct release release;
            if (table_is_ours) release_begin(&release, (int)at);
            int result = real(start, (unsigned)at, flags);
            /* A filter of system calls may refuse it, and a table of its own may be more than there is memory for. */
            if (table_is_ours && result < 0) track_cancel_close(&release.closing);
            if (table_is_ours) release_end(&release);
            if (result < 0) return -1;
        }
        if ((unsigned)at == last) return 0;
    }
    return real(start, last, flags);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    return close_range_around(REAL(close_range), first, last, flags);
}

EXPORT void closefrom(int lowest)
{
    unsigned first = lowest < 0 ? 0 : (unsigned)lowest;
    if (track_next(first, INT_MAX) < 0)
        REAL(closefrom)(lowest);
    else
        close_range_around(REAL(close_range), first, ~0U, 0);
}
