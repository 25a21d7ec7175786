#include "opening.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "../message.h"
#include "../realpath.h"
#include "../sys.h"
#include "ahead.h"
#include "cleanup.h"

/* ---- read-only storage ---------------------------------------------------------------------------------- */

/* Does the mode of this image leave reading as a way out? */
static PATH_FRAME bool mode_lets_read(const struct settings *settings, const struct opening *opening, int handle)
{
    char path[PATH_MAX];
    bool deleted;
    if (realpath_of_descriptor(handle, path, &deleted) < 0) return false;
    const struct policy_decision decision = policy_decide(settings, path, opening->flags, true);
    return decision.locked && !decision.refusal && !decision.insists && decision.mode >= LOCK_SHARED;
}

bool opening_reads_instead(const struct opening *opening)
{
    const struct settings *settings = settings_get();
    if ((errno != EROFS && errno != EACCES) || !opening->path || !policy_may_degrade(settings, opening->flags))
        return false;
    struct stat status;
    struct opening look = *opening;
    int error;
    look.purpose = PURPOSE_LOOK;
    int handle = ahead_open_handle(opening, 0);
    bool image = handle >= 0 && sys_fstat(handle, &status) == 0 && !record_locks_on(&status) &&
                 judge_recognise(settings, &look, handle, &status, &error) == RECOGNISED_IMAGE &&
                 !settings->bad_variable && mode_lets_read(settings, opening, handle);
    if (handle >= 0) sys_close(handle);
    return image;
}

PATH_FRAME void opening_tell_degraded(const struct opening *opening, int descriptor, int why)
{
    char path[PATH_MAX];
    bool deleted;
    bool known = realpath_of_descriptor(descriptor, path, &deleted) > 0;
    message_degraded(settings_get(), known ? path : opening->path, -1, why, NULL);
}

static int open_and_judge(struct opening *opening);

/* The same open for reading alone.  saved: errno as it was before the open that failed. */
static SELDOM int open_for_reading(const struct opening *opening, int saved)
{
    int why = errno;
    struct opening reading = *opening;
    reading.flags = (opening->flags & ~(O_ACCMODE | O_CREAT)) | O_RDONLY;
    errno = saved;
    int descriptor = open_and_judge(&reading);
    if (descriptor >= 0) opening_tell_degraded(opening, descriptor, why);
    return descriptor;
}

/* ---- the call ------------------------------------------------------------------------------------------- */

/* Another process may have asked who else has the file open, which takes it microseconds, and longer if it loses the
 * processor.  Devices have reasons of their own to say EAGAIN. */
static SELDOM int invoke_again(const struct opening *opening, int flags, int saved)
{
    struct stat status;
    int descriptor = -1;
    const int64_t deadline = sys_monotonic() + LOCK_GRACE_NS;
    errno = EAGAIN;
    if (!opening->path || sys_fstatat(opening->directory, opening->path, &status, 0) < 0 || !S_ISREG(status.st_mode))
        return -1;
    while (descriptor < 0 && errno == EAGAIN && sys_pause(deadline)) {
        errno = saved;
        descriptor = opening->invoke(opening, flags);
    }
    return descriptor;
}

static int invoke(const struct opening *opening, int flags)
{
    const int saved = errno;
    const int descriptor = opening->invoke(opening, flags);
    return descriptor < 0 && opening_was_kept_out(flags) ? invoke_again(opening, flags, saved) : descriptor;
}

/* ---- as it was asked; judging after ---------------------------------------------------------------------- */

static int open_as_asked(const struct opening *opening)
{
    int descriptor = invoke(opening, opening->flags);
    track_opened(descriptor);
    return descriptor;
}

/* Judges what an open gave; opens it once more when it was replaced meanwhile, as long as the open has time.  A file
 * that is found a second time without its name will not get it back.  errno is what it was before the open. */
int opening_opened(struct opening *opening, int descriptor)
{
    int saved = errno;
    struct identity before = {0};
    for (bool last = false;;) {
        struct identity identity = {0};
        int error = judge_file(opening, descriptor, last, &identity, NULL);
        if (!error) return descriptor;
        if (error == ESTALE && !last && identity.device == before.device && identity.inode == before.inode) {
            last = true;
            continue;
        }
        before = identity;
        sys_close(descriptor);
        errno = saved;
        if (error != ESTALE || last) {
            errno = error;
            return -1;
        }
        claim_start(&opening->time, settings_get());
        last = sys_monotonic() >= opening->time.deadline;
        descriptor = invoke(opening, opening->flags);
        if (descriptor < 0) return descriptor;
        track_opened(descriptor);
    }
}

static int open_and_judge(struct opening *opening)
{
    int saved = errno;
    int descriptor = invoke(opening, opening->flags);
    if (descriptor < 0) return opening_reads_instead(opening) ? open_for_reading(opening, saved) : descriptor;
    track_opened(descriptor);
    /* The kernel has read the path, so we may. */
    if (opening->path && opening_by_name(settings_get()) &&
        opening_is_clear_by_name(opening->path, opening->flags, descriptor))
        return descriptor;
    return opening_opened(opening, descriptor);
}

/* Apart: the other ways get along without its frame. */
static __attribute__((noinline)) int open_ahead(struct opening *opening)
{
    struct ahead ahead = {.judged = false};
    struct _pthread_cleanup_buffer cleanup;
    int saved = errno;
    int descriptor = -1;
    bool reads = false;
    _pthread_cleanup_push(&cleanup, ahead_abandon, &ahead);
    if (ahead_begin(opening, &ahead) == 0) {
        errno = saved;
        descriptor = invoke(opening, ahead.truncates ? opening->flags & ~O_TRUNC : opening->flags);
        const int after = errno;
        reads = descriptor < 0 && opening_reads_instead(opening);
        if (ahead_end(opening, &ahead, descriptor) == 0) {
            errno = after;
        } else {
            sys_close(descriptor);
            descriptor = -1;
        }
    }
    _pthread_cleanup_pop(&cleanup, 0);
    return reads ? open_for_reading(opening, saved) : descriptor;
}

/* ---- which way ------------------------------------------------------------------------------------------- */

static enum way way_creating(const struct settings *settings, const struct opening *opening)
{
    char byte;
    /* Which case is it: a new name, a file, a symbolic link?  The kernel reads the path first, so that garbage gives
     * the program EFAULT and not us a fault. */
    const ssize_t link = sys_readlinkat(opening->directory, opening->path, &byte, 1);
    if (link == -ENOENT) {
        if (settings->images || image_by_extension(opening->path)) return WAY_JUDGE_AHEAD;
        /* Not known to be new unless O_EXCL says so: it may have come into being this moment. */
        return opening->flags & O_EXCL || opening_by_name(settings) ? WAY_AS_ASKED : WAY_JUDGE_AFTER;
    }
    if (opening->flags & O_EXCL) return WAY_AS_ASKED; /* fails, and libc says how */
    /* Where a symbolic link leads to, there may be nothing yet. */
    if (link >= 0) return WAY_JUDGE_AHEAD;
    return link == -EINVAL ? WAY_JUDGE_AFTER : WAY_AS_ASKED;
}

enum way opening_way(const struct opening *opening)
{
    const struct settings *settings = settings_get();
    /* No content can be reached through these: a path handle, a directory, a file that never has a name. */
    if (opening->flags & (O_PATH | O_DIRECTORY) || settings->off) return WAY_AS_ASKED;
    if (opening->flags & O_TRUNC) return WAY_JUDGE_AHEAD;
    if (record_locks_on_path(opening->directory, opening->path)) return WAY_JUDGE_AHEAD;
    return opening->flags & O_CREAT ? way_creating(settings, opening) : WAY_JUDGE_AFTER;
}

int opening_run(struct opening *opening)
{
    switch (opening_way(opening)) {
    case WAY_AS_ASKED:
        return open_as_asked(opening);
    case WAY_JUDGE_AHEAD:
        return open_ahead(opening);
    default:
        return open_and_judge(opening);
    }
}
