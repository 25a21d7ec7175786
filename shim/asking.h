/* asking.h: locks and marks that a server may have lost: asked for once more.
 *
 * A server that restarts, or that a host was cut off from, may have lost what it kept for us, and tells nobody
 * (GlusterFS).  To lock again what one has changes nothing; what was lost is had again where nobody has it by now; and
 * who has it is told of.  Images whose lock file and marks this host's own kernel keeps are never asked about.
 *
 * Everything here is for the section.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_ASKING_H
#define IMGLOCK_ASKING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lock.h"

enum asking_answer {
    ASKING_KEPT,     /* it is had, or had again; or nothing can be told; or it was told already that others have it */
    ASKING_DOUBTFUL, /* somebody has the lock or has marked the image, for a moment perhaps: ask again soon */
    ASKING_LOST,     /* others have it, and nobody was told so far */
};

/* What is lost. */
struct asking_loss {
    struct lock_name name;
    enum lock_mode mode;
    bool cut_off;   /* the server has told so, and takes nothing from the descriptions of then any more */
    bool marks;     /* those, and not the lock; then: */
    int descriptor; /* of the program, open on the image */
    int access;     /* O_ACCMODE of its open */
};

/* Asks for the lock of an image, and for its marks, unless a server has answered within a second.  closing: before a
 * descriptor of it is closed.  certain: others have had the lock, or marks, for so long that they are not about to be
 * refused.  With IMGLOCK_ON_LOST=fail the program's descriptors of an image that others have are for reading alone from
 * then on. */
enum asking_answer asking_ask(uint32_t number, bool closing, bool certain, struct asking_loss *loss);

/* Waits until no descriptor is being made one for reading by another thread: before a call that closes one, and after
 * its entry says so. */
void asking_let_replace(void);

#endif
