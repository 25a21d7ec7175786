/* held_image.h: the image itself, in the hands of imglock hold, beside its lock: marked, and asked who else has it.
 *
 * As at an open of a program with the library: marks and a count.  The marks are of imglock hold's own kind, which
 * exclude no QEMU, since the command may be one; they end with imglock hold. */
#ifndef IMGLOCK_HELD_IMAGE_H
#define IMGLOCK_HELD_IMAGE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "lock.h"
#include "settings.h"
#include "stranger.h"

struct held_image {
    const struct settings *settings;
    const char *path; /* real */
    enum lock_mode mode;
    bool announces; /* it is to be marked */
    bool recorded;  /* who has a record in the lock file may be there */
    int descriptor; /* -1: not open */
    struct stat status;
    struct stranger stranger; /* who is in the way, after LOCK_BUSY */
};

/* With the lock taken: marks the image and looks who has it.  LOCK_TAKEN: nobody who is in the way, or it is not there,
 * or may not be opened, so that nobody can be asked.  LOCK_BUSY: the above tells who is, and the mark is taken back.
 * LOCK_FAILED fills *problem. */
enum lock_result held_image_take(struct held_image *image, const struct lock *lock, struct lock_problem *problem);

/* Sets the mark once more, which a server may have lost. */
void held_image_mark_again(const struct held_image *image);

/* Takes the mark back.  The descriptor stays, to wait by. */
void held_image_give_back(struct held_image *image);

/* After LOCK_BUSY and an event or a pause: is somebody there still?  The event of a close comes before the kernel has
 * done it, so it looks for two milliseconds. */
bool held_image_is_busy(const struct held_image *image);

#endif
