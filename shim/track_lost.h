/* track_lost.h: a lock or marks that a server may have lost (asking.h): asked for once more when the image is used, and
 * who has it by now is told of.
 *
 * Outside the section.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_TRACK_LOST_H
#define IMGLOCK_TRACK_LOST_H

#include "lock_name.h"

/* Asks once more for the lock and the marks of the image that a descriptor is open on, or that has this name, where a
 * server keeps them: before a close, and before an open.  What others have by now is told of. */
void track_ask_again(int descriptor);
void track_ask_again_of(const struct lock_name *name);

#endif
