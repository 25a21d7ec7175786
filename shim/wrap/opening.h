/* opening.h: which way an open of the program has to go, and the order of things on it.
 *
 * The wrappers of the open family describe their call (judge.h) and leave the rest to opening_run; stdio, which opens
 * inside libc, asks for the way and goes it by itself.
 *
 * There are three ways:
 *
 *   as it was asked  what certainly is no image gets the program's own call and nothing else.
 *   judge after      the call is made as it was asked, since it neither destroys nor creates anything; then the
 *                    descriptor is judged (judge.h), and closed again where the program may not have it.
 *   judge ahead      the file is judged and locked; then the call is made (ahead.h).  For what truncates, for a new
 *                    name that is an image's, and where the program has record locks on the file, which any
 *                    descriptor that we close would drop. */
#ifndef IMGLOCK_OPENING_H
#define IMGLOCK_OPENING_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "../image.h"
#include "../look.h"
#include "../track.h"
#include "judge.h"
#include "recognise.h"
#include "record_locks.h"

/* Does the call, with the lock taken where the file is an image.  Returns what the program gets: a descriptor, or
 * -1 and errno. */
int opening_run(struct opening *opening);

/* Opens that neither create nor destroy, most of them, need no struct opening before they are done. */
static inline bool opening_is_simple(const struct settings *settings, int flags)
{
    return !(flags & (O_CREAT | O_TRUNC | O_PATH | O_DIRECTORY)) && settings->on_conflict != CONFLICT_READ_ONLY &&
           !record_locks_exist();
}

/* Names decide alone where IMGLOCK_MAGIC is off and IMGLOCK_IMAGES is not set. */
static inline bool opening_by_name(const struct settings *settings)
{
    return !settings->magic && !settings->images;
}

/* May somebody be asking who has the file open just now, which keeps out whoever does not wait (count.h)? */
static inline bool opening_was_kept_out(int flags)
{
    return flags & O_NONBLOCK && errno == EAGAIN;
}

/* Is what a simple open gave certainly no image?  Else it is for opening_opened.  The kernel has read the path, so we
 * may.  By name where names decide alone. */
static inline bool opening_is_clear_by_name(const char *path, int flags, int descriptor)
{
    if (descriptor < 0) return !opening_was_kept_out(flags);
    track_opened(descriptor);
    return (flags & O_ACCMODE) == O_RDONLY && !image_by_extension(path);
}

/* The bytes of a look take 2 KiB of the stack, which what comes after it must not stand upon.  gcc gives a frame up
 * before a last call; clang does not where the address of something in it went elsewhere. */
#ifdef __clang__
#define LOOK_FRAME __attribute__((noinline))
#else
#define LOOK_FRAME __attribute__((always_inline))
#endif

/* Where the content is looked at as well: a second way to the answer of recognise, for reading, since the way of the
 * images costs every other file a tenth more (look.h). */
static inline LOOK_FRAME bool opening_is_clear(const struct settings *settings, const char *path, int directory,
                                               int flags, int descriptor)
{
    _Alignas(64) unsigned char head[HEAD_SIZE]; /* the kernel fills whole lines of the cache faster: 5 ns an open */
    struct stat status;
    int error = 0;
    if (descriptor < 0) return !opening_was_kept_out(flags);
    track_opened(descriptor);
    if (settings->images || (flags & O_ACCMODE) != O_RDONLY || image_by_extension(path)) return false;
    if (sys_fstat(descriptor, &status) < 0) return false;
    if (!S_ISREG(status.st_mode)) return true;
    if (image_may_be_read(descriptor, &status) &&
        (look_at_content(path, descriptor, &status, flags, head, &error) || error))
        return false;
    return !recognise_may_be_raw(&status) ||
           recognise_by_real_name(settings, directory, path, descriptor, &status) <= 0;
}

/* opening_run from there on. */
int opening_opened(struct opening *opening, int descriptor);

enum way { WAY_AS_ASKED, WAY_JUDGE_AFTER, WAY_JUDGE_AHEAD };

/* Which way this open has to go.  At most two system calls. */
enum way opening_way(const struct opening *opening);

/* An open for reading and writing has failed, errno says why: is the image on read-only storage, and will an open for
 * reading do (IMGLOCK_ON_CONFLICT=read-only)?  errno stays. */
bool opening_reads_instead(const struct opening *opening);

/* The line for an image on read-only storage that was opened for reading; why: the errno of the open for writing. */
void opening_tell_degraded(const struct opening *opening, int descriptor, int why);

#endif
