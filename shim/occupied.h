/* occupied.h: the kernel's count (count.h) says that somebody has a file open for writing: is it an outsider
 * (outsiders.h), and does he stay?
 *
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_OCCUPIED_H
#define IMGLOCK_OCCUPIED_H

#include <stdbool.h>

#include "outsiders.h"

struct occupied_question {
    struct outsiders_question who;
    int through; /* the descriptor that is asked through, which nobody else uses meanwhile */
    bool exact;  /* it is for reading, so readers are not counted */
    bool family; /* the lock let us past a relative's */
};

/* Has anybody it open just now?  One question to the kernel. */
bool occupied_now(const struct occupied_question *question);

/* Somebody has: is it an outsider?  Whoever opens it to be refused, or ends, is gone in a moment; so it has to be the
 * same one for a while.  True: *outsider has it.  Takes milliseconds. */
bool occupied_by(const struct occupied_question *question, struct outsider *outsider);

/* Both, for the first time: whoever is refused by the lock has the image open until then, and to see him gone takes a
 * fraction of a look at /proc; and what this process or an ancestor with the library has, that one has asked about. */
bool occupied_ask(const struct occupied_question *question, struct outsider *outsider);

#endif
