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

/* Is somebody recorded in the lock file who does not have the lock any more, though it is there, or somebody whose
 * record cannot be read?  That is so as well if a child has it, to which the holder has left it.  The kernel tells: the
 * record only says where to look, and a lie in it makes a refusal come later, no more.  False where nobody may look.
 * Async-signal-safe; errno is left alone. */
bool lingering_is_there(int lock_descriptor);

#endif
