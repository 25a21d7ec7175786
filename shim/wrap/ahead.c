#include "ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "../count.h"
#include "../descriptor.h"
#include "../mark.h"
#include "../realpath.h"
#include "../sys.h"
#include "../track_close.h"
#include "guard.h"
#include "record_locks.h"

/* ---- the probe ------------------------------------------------------------------------------------------ */

/* The probe's marks go by name: a child that is being made may have its description. */
static void end_probe(struct ahead *ahead)
{
    const int probe = ahead->probe;
    ahead->probe = 0;
    if (probe <= 0) return;
    mark_clear(probe);
    sys_close(probe);
}

bool ahead_gives_way(struct ahead *ahead)
{
    const bool probed = ahead->probe > 0;
    end_probe(ahead);
    return probed;
}

void ahead_abandon(void *argument)
{
    struct ahead *ahead = argument;
    end_probe(ahead);
    track_drop(&ahead->hold);
}

/* ---- before the call ------------------------------------------------------------------------------------ */

int ahead_open_handle(const struct opening *opening, int flags)
{
    int handle;
    do {
        handle = opening->look ? opening->look(opening, flags | O_PATH | O_CLOEXEC)
                               : sys_openat(opening->directory, opening->path, flags | O_PATH | O_CLOEXEC, 0);
    } while (handle == -EINTR);
    return handle;
}

/* Is there anything to lose by O_TRUNC?  An empty file may be written to any moment, and has time stamps.  One that is
 * none, on tracefs, wants to hear of it. */
static bool may_lose(const struct stat *status, int handle)
{
    return S_ISREG(status->st_mode) && (status->st_size > 0 || count_is_possible(handle, status->st_dev));
}

/* A descriptor like the program's, for a call that truncates inside libc: what others have announced is asked before.
 * Not where the program has record locks, which its close would drop; such a program locks for itself.  Waits for a
 * lease to be broken, as libc's open would.  0, or the errno that libc's open would have. */
static int begin_probe(const struct opening *look, int handle, struct ahead *ahead)
{
    char link[32];
    const int flags = (look->flags & O_ACCMODE) | O_NOCTTY | O_CLOEXEC;
    if (look->invoke || !(look->flags & O_TRUNC) || !may_lose(&ahead->status, handle) ||
        record_locks_on(&ahead->status))
        return 0;
    realpath_descriptor_link(handle, link);
    int probe = sys_openat(AT_FDCWD, link, flags, 0);
    /* A chroot without /proc: by name, once more. */
    if (probe == -ENOENT && look->path) probe = sys_openat(look->directory, look->path, flags, 0);
    if (probe < 0) return -probe;
    ahead->probe = descriptor_move_high(probe, false);
    return 0;
}

/* Will libc's open of this regular file or block device be allowed?  What it refuses needs no lock and no line.  Asked
 * without an open: closing a descriptor drops the program's own record locks on the file. */
static bool may_open(const struct opening *opening, int handle)
{
    int access = opening->flags & O_ACCMODE;
    int wanted = (access != O_WRONLY ? R_OK : 0) | (recognise_writing(opening->flags) ? W_OK : 0);
    long result = sys_call(SYS_faccessat2, handle, (long)"", wanted, AT_EMPTY_PATH | AT_EACCESS, 0, 0);
    return result != -EACCES && result != -EPERM && result != -EROFS;
}

/* *handle: closed, and -1, where the probe serves as well. */
static __attribute__((noinline)) int lock_ahead(const struct settings *settings, struct opening *look, int *handle,
                                                struct ahead *ahead)
{
    int error = begin_probe(look, *handle, ahead);
    if (error) return error;
    const int mark = ahead->probe ? ahead->probe : -1;
    if (ahead->probe) {
        /* A table that is all but full has no numbers for both and the lock file. */
        sys_close(*handle);
        *handle = -1;
    }
    const int descriptor = ahead->probe ? ahead->probe : *handle;
    error = judge_lock_ahead(settings, look, descriptor, &ahead->status, mark, &ahead->hold, &ahead->degraded);
    /* Who else has it open has been asked through the probe: when libc has truncated it there is nothing to refuse. */
    if (ahead->probe) ahead->hold.before = ahead->hold.mode;
    return error;
}

/* Judges what there is under the name. */
static int judge_ahead(const struct settings *settings, struct opening *look, int *handle, struct ahead *ahead)
{
    const struct stat *status = &ahead->status;
    int error;
    int result = sys_fstat(*handle, &ahead->status);
    if (result < 0) return judge_refuse_for_problem(settings, look, -result, "cannot look at it");
    ahead->judged = true;
    const enum recognised recognised = judge_recognise(settings, look, *handle, status, &error);
    if (recognised == RECOGNISED_NO_IMAGE) return 0;
    if (!may_open(look, *handle)) {
        ahead->judged = false; /* should it be allowed after all, it is judged then */
        return 0;
    }
    if (recognised == RECOGNISED_UNKNOWN)
        return judge_refuse_for_problem(settings, look, error, "cannot look at its content");
    if (settings->bad_variable) return judge_refuse_for_setting(settings, look);
    const bool loses = look->flags & O_TRUNC && may_lose(status, *handle);
    error = lock_ahead(settings, look, handle, ahead);
    ahead->truncates = ahead->hold.mode && loses;
    return error;
}

/* The lock of an image that is about to be created. */
static PATH_FRAME int lock_new(const struct settings *settings, struct opening *opening, struct ahead *ahead)
{
    char path[PATH_MAX];
    if (settings->bad_variable) return judge_refuse_for_setting(settings, opening);
    /* What stands in the way of the path stands in the way of the open: libc says so. */
    if (realpath_of_name(opening->directory, opening->path, true, path) < 0) return 0;
    struct claim claim = {.settings = settings,
                          .path = path,
                          .flags = opening->flags,
                          .descriptor = -1,
                          .mark = -1,
                          .time = &opening->time};
    return claim_image(&claim, &ahead->hold);
}

static int begin(struct opening *opening, struct ahead *ahead)
{
    const struct settings *settings = settings_get();
    const bool exclusive = opening->flags & O_EXCL && opening->flags & O_CREAT;
    bool leads_on = false;
    int handle = ahead_open_handle(opening, O_NOFOLLOW);
    if (handle >= 0 && !exclusive && sys_fstat(handle, &ahead->status) == 0 && S_ISLNK(ahead->status.st_mode)) {
        sys_close(handle);
        if (opening->flags & O_NOFOLLOW) return 0; /* libc says so */
        leads_on = true;
        handle = ahead_open_handle(opening, 0);
    }
    if (handle < 0) {
        /* libc would say the same. */
        if (handle == -EMFILE || handle == -ENFILE || handle == -ENOMEM || handle == -EIO) return -handle;
        /* libc says why; and what is there by then is judged before it is truncated. */
        ahead->truncates = opening->flags & O_TRUNC && !(opening->flags & O_CREAT);
        if (handle != -ENOENT || !(opening->flags & O_CREAT)) return 0;
        ahead->is_new = true;
        if (!recognise_new(settings, opening->directory, opening->path, leads_on)) return 0;
        return lock_new(settings, opening, ahead);
    }
    int error = 0;
    if (!exclusive) {
        const enum purpose purpose = opening->purpose;
        opening->purpose = PURPOSE_LOOK;
        error = judge_ahead(settings, opening, &handle, ahead);
        opening->purpose = purpose;
    }
    if (handle >= 0) sys_close(handle);
    return error;
}

int ahead_begin(struct opening *opening, struct ahead *ahead)
{
    memset(ahead, 0, sizeof *ahead);
    if (settings_get()->off) return 0;
    int error = begin(opening, ahead);
    if (!error) return 0;
    end_probe(ahead);
    errno = error;
    return -1;
}

/* ---- after it ------------------------------------------------------------------------------------------- */

/* Takes back what a descriptor has that the program does not get after all. */
static void take_back(int descriptor)
{
    struct track_closing closing = {0};
    track_begin_close(&closing, descriptor);
    track_end_close(&closing);
}

/* What O_TRUNC would have done, on the descriptor; it moves the same time stamps.  0 or an errno. */
static int truncate_opened(const struct opening *opening, int descriptor)
{
    const int access = opening->flags & O_ACCMODE;
    char link[32];
    if (access == O_WRONLY || access == O_RDWR) return -sys_ftruncate(descriptor, 0);
    /* O_RDONLY|O_TRUNC truncates, too, on Linux, and so does the access mode 3 of old drivers. */
    realpath_descriptor_link(descriptor, link);
    return (int)-sys_call(SYS_truncate, (long)link, 0, 0, 0, 0, 0);
}

/* The same for an image whose lock we have, and whose holders may block it. */
static PATH_FRAME int truncate_image(const struct settings *settings, const struct opening *opening, int descriptor)
{
    char path[PATH_MAX];
    bool deleted;
    struct guard guard;
    if (realpath_of_descriptor(descriptor, path, &deleted) < 0) return truncate_opened(opening, descriptor);
    int error = guard_image(&guard, settings, OPERATION_TRUNCATE, path);
    if (error) return error;
    error = truncate_opened(opening, descriptor);
    guard_end(&guard);
    return error;
}

/* The call has opened the file that was judged.  Its lock is had already; it is marked now, before it is truncated. */
static int end_as_judged(struct opening *opening, struct ahead *ahead, int descriptor)
{
    const struct settings *settings = settings_get();
    int error = ahead->degraded ? judge_reopen_for_reading(opening, descriptor) : 0;
    if (ahead->degraded) opening->flags = (opening->flags & ~O_ACCMODE) | O_RDONLY;
    if (!error) error = judge_image(settings, opening, descriptor, &ahead->status, true, &ahead->hold);
    if (error || !ahead->truncates) return error;
    error = truncate_image(settings, opening, descriptor);
    if (error) take_back(descriptor);
    return error;
}

int ahead_end(struct opening *opening, struct ahead *ahead, int descriptor)
{
    struct stat status = {0};
    end_probe(ahead);
    if (descriptor < 0) {
        track_drop(&ahead->hold);
        return 0;
    }
    if (settings_get()->off) return 0;
    track_opened(descriptor);
    int error;
    int result = sys_fstat(descriptor, &status);
    if (result == 0 && ahead->judged && status.st_dev == ahead->status.st_dev &&
        status.st_ino == ahead->status.st_ino) {
        error = ahead->hold.mode ? end_as_judged(opening, ahead, descriptor) : 0;
    } else if (result == 0 && ahead->is_new && !ahead->hold.mode && status.st_size == 0) {
        error = 0; /* by a name that is no image's */
    } else if (result < 0 && opening->invoke) {
        error = judge_refuse_for_problem(settings_get(), opening, -result, "cannot look at it");
    } else {
        /* A new image, whose inode is known only now; or another file than the one that was judged.  The new hold
         * comes before the old one goes. */
        struct track_hold *also = ahead->hold.mode && !ahead->is_new ? &ahead->hold : NULL;
        ahead->hold.before = LOCK_NONE; /* and nobody has been asked who has it open */
        error = judge_file(opening, descriptor, true, &(struct identity){0}, also);
        if (!error && ahead->truncates && status.st_size > 0) {
            error = truncate_opened(opening, descriptor);
            if (error) take_back(descriptor);
        }
    }
    track_drop(&ahead->hold);
    if (error) errno = error;
    return error ? -1 : 0;
}
