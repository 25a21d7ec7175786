/* pause.h: pauses that grow, between looks at something of whose end no event tells, or may not.
 *
 * What is there for a moment is gone at the first looks, so these come soon.  What has been there for a while stays
 * for a while, and each look is a question to the kernel, or to a server that others ask as well: so each pause is
 * twice as long as the one before.  None is longer than a quarter of a second, by which a person does not feel that it
 * was late; and none goes beyond the deadline of the wait that it is a part of, at which nothing is slept any more.
 *
 * Where what is waited for takes a moment and no more, sys_pause does.
 *
 * No memory, no lock, no errno: for a signal handler and a vfork child, too. */
#ifndef IMGLOCK_PAUSE_H
#define IMGLOCK_PAUSE_H

#include <stdbool.h>
#include <stdint.h>

#include "sys.h"

enum { PAUSE_LONGEST_NS = 250 * 1000 * 1000 };

/* Whoever locks something to look at it, or because he is refused himself, has it for so long at the most. */
enum { PAUSE_INSTANT_NS = 25 * 1000 * 1000 };

struct pause {
    int64_t next;     /* ns; 0: the longest, as long as nobody has said how long the first is */
    int64_t deadline; /* CLOCK_MONOTONIC, ns; INT64_MAX: for ever */
};

static inline struct pause pause_begin(int64_t first, int64_t deadline)
{
    return (struct pause){first, deadline};
}

/* How long the next one may be.  0 or less: the deadline is reached. */
static inline int64_t pause_length(const struct pause *pause)
{
    const int64_t left = pause->deadline - sys_monotonic(), next = pause->next ? pause->next : PAUSE_LONGEST_NS;
    return left < next ? left : next;
}

/* One has passed in which nothing has happened. */
static inline void pause_grow(struct pause *pause)
{
    pause->next = pause->next < PAUSE_LONGEST_NS / 2 ? 2 * pause->next : PAUSE_LONGEST_NS;
}

/* For who waits for no event.  False: the deadline is reached.  A signal ends it early; no cancellation point. */
static inline bool pause_sleep(struct pause *pause)
{
    const int64_t length = pause_length(pause);
    if (length <= 0) return false;
    sys_sleep(length);
    pause_grow(pause);
    return true;
}

#endif
