/* own_locks.h: fcntl locks that the program sets on an image itself, or asks for.
 *
 * It finds what it would find without imglock: marks of its own process go before its first such call, and marks of
 * those whom the lock has let in beside it, relatives and sharers, are looked past: what is asked for is asked for
 * beside the bytes of the marks, and of these nothing is locked.  In modes that lock nothing (nolock, force-share,
 * inactive) all marks of imglock are looked past.  What others lock by themselves, QEMU first of all, is there as ever.
 *
 * Async-signal-safe where fcntl is. */
#ifndef IMGLOCK_OWN_LOCKS_H
#define IMGLOCK_OWN_LOCKS_H

#include <fcntl.h>
#include <stdbool.h>

#include "../policy.h"
#include "../track.h"
#include "duplicate.h"

/* Is this a command about locks? */
static inline bool own_locks_command(int command)
{
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK ||
           command == F_OFD_SETLKW || command == F_OFD_GETLK;
}

/* May this descriptor, which the table does not know, be an image's of mode nolock? */
static inline bool own_locks_unlocked(void)
{
    const struct settings *settings = settings_get();
    return !settings->off && (settings->mode == MODE_NOLOCK || settings->rules);
}

/* The call, of a descriptor that is an image's or may be one. */
int own_locks_call(fcntl_function *real, int descriptor, int command, void *argument);

#endif
