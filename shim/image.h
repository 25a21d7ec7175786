/* image.h: is this path, or this descriptor, a disk image?
 *
 * One table, formats.def, says which names and which bytes are images.  Extension or magic makes a candidate:
 * a false positive costs a lock on a file that nobody shares, a false negative costs the image. */
#ifndef IMGLOCK_IMAGE_H
#define IMGLOCK_IMAGE_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* The name of the format whose extension ends this path, or NULL.  Looks at the end of the path alone; no
 * system call, no copy.  Case does not matter. */
const char *image_by_extension(const char *path);

/* The name of the format that the content of a regular file shows, or NULL; *error then says why it could not be read,
 * or 0.  status is the descriptor's; path its name, for the few extensions that count only together with a size, or
 * NULL; flags what open(2) was given, for F_SETFL.
 *
 * Reads once, at most 2 KiB, unless the first 512 bytes are all zero or the size is exactly that of a floppy
 * format.  The descriptor must be readable.  The access time stays
 * as it was where the caller owns the file.  Async-signal-safe; 2.2 KiB of stack. */
const char *image_by_content(const char *path, int descriptor, const struct stat *status, int flags, int *error);

/* Could a file of this kind be an image at all: a regular file or a block device? */
static inline bool image_possible(const struct stat *status)
{
    return S_ISREG(status->st_mode) || S_ISBLK(status->st_mode);
}

/* The smallest images: a VMDK descriptor is a text of some 350 bytes, a CHD or an MFI of an empty disk has fewer. */
enum { SMALLEST_IMAGE = 16 };

/* Is the file one that somebody stored, and not one that the kernel makes up when it is read, as in /proc?  A call of
 * statfs. */
bool image_is_on_storage(int descriptor);

/* Is the content of a regular file worth a look?  Says no to what is too small for any format, and to the made-up files
 * of the kernel, whose reading can have effects. */
static inline bool image_may_be_read(int descriptor, const struct stat *status)
{
    if (status->st_size < SMALLEST_IMAGE) return false;
    /* proc, sysfs and their kin have no device and no blocks.  So have sparse files on tmpfs or btrfs; statfs tells
     * them apart, and is rarely needed. */
    if (status->st_blocks != 0 || major(status->st_dev) != 0) return true;
    return image_is_on_storage(descriptor);
}

#endif
