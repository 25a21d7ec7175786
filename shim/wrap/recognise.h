/* recognise.h: is what this descriptor is open on a disk image?
 *
 * The one place that decides, for every way in: an open of whatever kind, stdio, a descriptor that came through exec, a
 * name that is about to be created.  By the name, by the content, and by IMGLOCK_IMAGES; libimglock(7) has the rules.
 *
 * An open for writing is judged by the real name always: nothing is damaged through a link whose name tells nothing. An
 * open for reading is judged by the name that it used, and by the real one where the size is a disk's: to ask for it
 * takes a call, and a reader harms nobody. */
#ifndef IMGLOCK_RECOGNISE_H
#define IMGLOCK_RECOGNISE_H

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "../image.h"
#include "../policy.h"

enum recognised {
    RECOGNISED_NO_IMAGE,
    RECOGNISED_IMAGE,
    RECOGNISED_UNKNOWN, /* it could not be looked at: for IMGLOCK_ON_ERROR to decide */
};

/* What is to be judged. */
struct sight {
    int directory;
    const char *path; /* that the open used, seen from directory; NULL: none */
    int flags;        /* of the open */
    int descriptor;
    bool readable; /* the descriptor can be read from */
    const struct stat *status;
};

/* *error: why, after RECOGNISED_UNKNOWN.  At most 3 KiB of stack; async-signal-safe. */
enum recognised recognise(const struct settings *settings, const struct sight *sight, int *error);

/* The same for a name under which there is nothing yet.  leads_on: it is a symbolic link, and what counts is where that
 * leads.  The kernel has read the path before. */
bool recognise_new(const struct settings *settings, int directory, const char *path, bool leads_on);

/* Does an open with these flags change what it opens? */
static inline bool recognise_writing(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

/* Raw images have no magic.  One that is opened for reading through a symbolic link with another name, or through
 * /dev/fd/N, can only be told by its real name. */
static inline bool recognise_may_be_raw(const struct stat *status)
{
    return status->st_size >= 65536 && status->st_size % 256 == 0;
}

/* What the real path of an open file says of it: 1 an image, -1 none, 0 nothing. */
int recognise_by_real_name(const struct settings *settings, int directory, const char *path, int descriptor,
                           const struct stat *status);

#endif
