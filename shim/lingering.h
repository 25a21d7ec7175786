/* lingering.h: locks that nobody has any more.
 *
 * Whoever looks at a descriptor of another process, be it by stat(2) of /proc/PID/fd/N or by its fdinfo, has its open
 * file description for that moment (fs/proc/fd.c).  If the process closes it just then, the locks go when the one who
 * looks returns from the kernel; and if that one has to leave the processor first, when it gets one again: 40 to 220 ms
 * beside 10 to 30 programs that compute.  Beside these and six to ten that read fdinfo without pause, 23 of 4.6 million
 * opens of a file that had just been closed were refused for that; none of 6.2 million, since it is asked for. */
#ifndef IMGLOCK_LINGERING_H
#define IMGLOCK_LINGERING_H

#include <stdbool.h>

#include "protocol.h"

struct lingering_question {
    int lock_descriptor;                                 /* in whose way it is */
    enum lock_mode mode;                                 /* that is wanted */
    bool (*is_relative)(int slot, const void *argument); /* has a relative this slot, who is in nobody's way? */
    const void *argument;
};

/* May what is in the way be a lock that nobody has?  Not if somebody who is recorded in the lock file is seen to have
 * one.  The kernel tells: a record only says where to look, so a lie in it, or no record, makes a refusal come later
 * and does no more.  The answer is yes as well where a child has the lock that its holder has closed, and where
 * somebody is about to give back what he has locked for a moment.  It is no where nobody may look.  Async-signal-safe;
 * errno is left alone. */
bool lingering_may_be(const struct lingering_question *question);

#endif
