/* arguments.h: what the program's own command line says about locks. */
#ifndef IMGLOCK_ARGUMENTS_H
#define IMGLOCK_ARGUMENTS_H

#include <stdbool.h>

/* Is this qemu-img, qemu-io, qemu-nbd or qemu-storage-daemon, told -U, --force-share or force-share=on?  Looks
 * at the arguments of these programs alone, in memory or in /proc/self/cmdline.  Async-signal-safe; errno is left
 * alone.
 */
bool arguments_force_share(void);

#endif
