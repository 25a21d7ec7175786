/* arguments.h: what the program's own command line says about locks. */
#ifndef IMGLOCK_ARGUMENTS_H
#define IMGLOCK_ARGUMENTS_H

#include <stdbool.h>

/* Is this qemu-img, qemu-io, qemu-nbd or qemu-storage-daemon, told -U, --force-share or force-share=on?  Or qemu-img
 * create with a backing file, of which it wants the size alone, so that QEMU opens it beside a writer?  Looks at the
 * arguments of these programs alone, in memory or in /proc/self/cmdline.  Async-signal-safe; errno is left alone.
 */
bool arguments_force_share(void);

/* What a program that opens this image for reading is about to do with it: "to resize it".  NULL: to read it, or its
 * arguments do not tell; those that do not name the image tell nothing of it.  As safe as the other. */
const char *arguments_purpose(const char *image);

#endif
