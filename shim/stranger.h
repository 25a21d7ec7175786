/* stranger.h: somebody has announced on an image (mark.h) what does not go with what is wanted of it: is he a stranger,
 * and is he in the way?
 *
 * The rules, which are the same for an open, for the guard of names and for imglock hold:
 *
 *   1. No stranger is a relative, nor who holds the lock of the same lock file: between these the lock has decided
 *      (markers.h).  To see that all that is announced is theirs is quick, so that is looked for first.
 *   2. Whoever announces something for an instant, to look or because he is refused himself, is waited for
 *      (PAUSE_INSTANT_NS).
 *   3. A stranger is known by his marks.  Whose marks /proc does not show, a loop device's above all, is known by what
 *      he has open or mapped (outsiders.h).
 *   4. Outside imglock is who has not its library, and IMGLOCK_OUTSIDERS says what he does: with deny he is in the way,
 *      with warn he is not, after a line, and with ignore not at all.  Who has the library is in the way whatever it
 *      says, and so is who can be seen by nothing.
 *
 * An open does the first two by itself, in the order in which it can (wrap/claim.c): the quick look is a part of taking
 * the lock; what its own process has announced has to be taken off to ask again; and it waits longer for other threads
 * that close the image, and for children that have what those have closed.  With deny it asks only when it tells of him
 * what he has open: it would look through all of /proc with each try of a wait.  The others are made once, or wait for
 * exactly him.
 *
 * Who has announced nothing, and is found by the kernel's count, is none of this: occupied.h.
 *
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_STRANGER_H
#define IMGLOCK_STRANGER_H

#include <stdbool.h>
#include <sys/types.h>

#include "markers.h"
#include "message.h"
#include "outsiders.h"
#include "settings.h"

struct stranger_question {
    const struct settings *settings;
    const char *path; /* of the image, real */
    dev_t device;
    ino_t inode;
    int descriptor;      /* open on it */
    enum lock_mode mode; /* what is wanted of it, */
    int access;          /* and for what it is to be open */
    int lock_descriptor; /* open on its lock file; -1: none */
    bool recorded;       /* who has but a record in the lock file is no stranger either */
};

struct stranger {
    struct marker marker;
    bool counted; /* he is known by what he has open, and not by his marks: */
    struct outsider outsider;
    bool outside; /* imglock */
};

/* The question of rule 1, as it is for markers_look. */
struct markers_question stranger_markers(const struct stranger_question *question);

/* Is a stranger there?  All of the first three rules; *stranger is who. */
bool stranger_is_there(const struct stranger_question *question, struct stranger *stranger);

/* The third rule: stranger->marker is known, the rest is filled. */
void stranger_see(const struct stranger_question *question, struct stranger *stranger);

/* The fourth rule. */
enum stranger_verdict {
    STRANGER_IN_THE_WAY,
    STRANGER_LET_PAST, /* after a line */
    STRANGER_IGNORED
};
enum stranger_verdict stranger_judge(const struct settings *settings, const struct stranger *stranger);

/* "imglock: PATH: ACTION: ..." of who is there.  advice: NULL: nothing is refused, or there is nothing to say. */
void stranger_tell(const struct settings *settings, const char *path, const char *action, int lock_descriptor,
                   const struct stranger *stranger, const struct message_advice *advice);

#endif
