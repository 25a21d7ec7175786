/* arguments.h: what the program's own command line says about locks. */
#ifndef IMGLOCK_ARGUMENTS_H
#define IMGLOCK_ARGUMENTS_H

#include <stdbool.h>

enum arguments_sharing {
    SHARING_NONE,
    SHARING_ALL,  /* what it opens for reading, it reads beside a writer */
    SHARING_SOME, /* some of it: arguments_share says which */
};

/* Does this program of QEMU's say itself that it reads beside a writer?  All images: told -U, --force-share or
 * force-share=on; and qemu-img create with a backing file, of which it wants the size alone.  Some: a machine, which is
 * told so of one of its disks; whatever has an overlay and is told backing.file.locking=off, as libguestfs does.  Looks
 * at the arguments of these programs alone, in memory or in /proc/self/cmdline.  Async-signal-safe; errno is left
 * alone.
 */
enum arguments_sharing arguments_sharing(void);

/* Where the answer is SHARING_SOME: is this image one of them?  It is told so where its name is in the arguments; of
 * backing files, it is where it is not.  As safe. */
bool arguments_share(const char *image);

/* What a program that opens this image for reading is about to do with it: "to resize it".  NULL: to read it, or its
 * arguments do not tell; those that do not name the image tell nothing of it.  As safe. */
const char *arguments_purpose(const char *image);

#endif
