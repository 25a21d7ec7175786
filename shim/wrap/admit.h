/* admit.h: may this open go through?
 *
 * The one place that knows the order of things: which call of the program comes when, what is looked at, when
 * the lock is taken, what is undone on refusal.  The wrappers of the open family describe their call and leave
 * the rest to admit_open; stdio, which opens inside libc, asks in two steps. */
#ifndef IMGLOCK_ADMIT_H
#define IMGLOCK_ADMIT_H

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "../image.h"
#include "../look.h"
#include "../policy.h"
#include "../track.h"

/* One call of the open family.  invoke does the real call with the flags given, which differ from the call's own
 * by O_CREAT, O_EXCL and O_TRUNC, or ask for reading alone; it returns a descriptor, or -1 with libc's errno. */
struct open_call {
    int (*invoke)(const struct open_call *call, int flags);
    int directory;
    const char *path;
    int flags;
    mode_t mode;
    const void *real; /* for invoke */
    const void *extra;
};

/* Does the call, with the lock taken where the file is an image.  Returns what the program gets: a descriptor, or
 * -1 and errno. */
int admit_open(const struct open_call *call);

/* Opens that neither create nor destroy, most of them, need no struct open_call before they are done. */
static inline bool admit_is_simple(const struct settings *settings, int flags)
{
    return !(flags & (O_CREAT | O_TRUNC | O_PATH | O_DIRECTORY)) && settings->on_conflict != CONFLICT_READ_ONLY;
}

/* Names decide alone where IMGLOCK_MAGIC is off and IMGLOCK_IMAGES is not set. */
static inline bool admit_by_name(const struct settings *settings)
{
    return !settings->magic && !settings->images;
}

/* Raw images have no magic.  One that is opened through a symbolic link with another name, or through /dev/fd/N,
 * can only be told by its real name, which costs a call: worth it where the size is a disk's. */
static inline bool admit_may_be_raw(const struct stat *status)
{
    return S_ISBLK(status->st_mode) || (status->st_size >= 65536 && status->st_size % 256 == 0);
}

/* What the real path of an open file says of it, and IMGLOCK_IMAGES of that; shown is what its name and content have
 * said. */
bool admit_real_name_shows_image(const struct settings *settings, int directory, const char *name, int descriptor,
                                 bool shown);

/* Is what a simple open gave certainly no image?  Else it is for admit_opened.  The kernel has read the path, so we
 * may.  By name where names decide alone. */
static inline bool admit_is_clear_by_name(const char *path, int descriptor)
{
    if (descriptor < 0) return true;
    track_opened(descriptor);
    return !image_by_extension(path);
}

/* Where the content is looked at as well: a second way to the same answer, since the way of the images costs every
 * other file a tenth more (look.h). */
static inline __attribute__((always_inline)) bool admit_is_clear(const struct settings *settings, const char *path,
                                                                 int directory, int flags, int descriptor)
{
    if (descriptor < 0) return true;
    track_opened(descriptor);
    struct stat status;
    if (settings->images || (flags & O_ACCMODE) == O_WRONLY || image_by_extension(path)) return false;
    if (sys_fstat(descriptor, &status) < 0) return false;
    if (!image_possible(&status)) return true;
    if (image_may_be_read(descriptor, &status) && look_at_content(path, descriptor, &status, flags)) return false;
    return !admit_may_be_raw(&status) || !admit_real_name_shows_image(settings, directory, path, descriptor, false);
}

/* admit_open from there on. */
int admit_opened(const struct open_call *call, int descriptor);

/* Judges a descriptor that the program's call has just opened without destroying anything.  0: it may have it.
 * -1: errno says why not; the caller closes the descriptor by the means that opened it. */
int admit_descriptor(const struct open_call *call, int descriptor);

/* The two steps for a call that creates or truncates inside libc.  admit_ahead judges by name and takes the lock:
 * 0, or -1 and errno.  admit_behind binds the lock to the descriptor that came of it, or, for -1, drops it. */
struct admission {
    struct track_hold hold;
    bool judged;   /* *status is the file that was judged */
    bool degraded; /* the descriptor is to be one for reading (IMGLOCK_ON_CONFLICT=read-only) */
    struct stat status;
};
int admit_ahead(const struct open_call *call, struct admission *admission);
int admit_behind(const struct open_call *call, struct admission *admission, int descriptor);

/* A cleanup routine (cleanup.h) for a struct admission. */
void admit_abandon(void *admission);

/* An open for reading and writing has failed, errno says why: is the image on read-only storage, and will an open for
 * reading do (IMGLOCK_ON_CONFLICT=read-only)?  errno stays. */
bool admit_reads_instead(const struct open_call *call);

/* The line for an image on read-only storage that was opened for reading; why: the errno of the open for writing. */
void admit_tell_degraded(const struct open_call *call, int descriptor, int why);

/* The program takes locks by F_SETLK, which it would lose with any descriptor of the file that is closed. */
void admit_note_posix_lock(void);

#endif
