/* family.h: a holder's descendants are let past it.
 *
 * syslinux runs mtools on the image that it holds, lima and mkosi run qemu-img: the ancestor started the helper
 * to work on its image.  A process is let past a lock whose holders are all its ancestors, by pid and start
 * time, in one pid namespace and since one boot.
 *
 * And past its own: a process that closes an image which its child inherited, and opens it again, meets the lock that
 * it took itself and that the child keeps alive.  A program never locks itself out. */
#ifndef IMGLOCK_FAMILY_H
#define IMGLOCK_FAMILY_H

#include <stdbool.h>

#include "policy.h"

/* Are all who stand in the way of mode, on bytes 0-1 or on the descendants' bytes, this process itself or, if ancestors
 * are let past, its ancestors?  own: how many locks lock_descriptor itself has on those bytes by now, 0 or 1.  False
 * when in doubt: a holder without a record, a record that cannot be checked.  Async-signal-safe. */
bool family_holds(int lock_descriptor, enum lock_mode mode, bool ancestors, int own);

/* Are all who stand in the way, on whichever bytes, locks that this process took and that children of it still have? */
bool family_is_self(int lock_descriptor, enum lock_mode mode);

#endif
