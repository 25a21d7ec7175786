/* lock_pass.h: the lock passed from one process to another, byte by byte, and back where that fails.
 *
 * The owner is who holds byte 0 of the lock, or, while nobody does, byte 1.  Every other opener needs both bytes at
 * once, so the lock goes from hand to hand without a moment in which a stranger could take it: the source gives up
 * byte 1, the destination takes byte 1, the source gives up byte 0, the destination takes byte 0.  Cut short anywhere,
 * this leaves one owner, and can be gone on with. */
#ifndef IMGLOCK_LOCK_PASS_H
#define IMGLOCK_LOCK_PASS_H

#include "lock_transfer.h"

/* Each returns 0, or the exit status after one line that says why, and who owns the lock. */

/* Passes the locks from the source, which may be nobody, to the target, and writes the records. */
int lock_pass_move(struct transfer *transfer);

/* Takes the locks from the source, for nobody. */
int lock_pass_give_up(struct transfer *transfer);

#endif
