#include "opening.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "../audit.h"
#include "../count.h"
#include "../descriptor.h"
#include "../message.h"
#include "../realpath.h"
#include "../sys.h"
#include "../track_close.h"
#include "cleanup.h"
#include "guard.h"

/* ---- refusing ------------------------------------------------------------------------------------------- */

/* Out of the way of every open: frames of what is seldom called would add to those of what is called under them. */
#define SELDOM __attribute__((noinline, cold))

static const char *shown_path(const struct opening *opening)
{
    return opening->path ? opening->path : "(a descriptor)";
}

/* What stands in the way of evaluating the lock, in one line; then the errno, or 0 with IMGLOCK_ON_ERROR=allow. */
static SELDOM int refuse_for_problem(const struct settings *settings, const struct opening *opening, int error,
                                     const char *what)
{
    const struct lock_problem problem = {.error = error, .what = what, .owner = (uid_t)-1};
    message_problem(settings, shown_path(opening), claim_action(opening->flags), NULL, &problem);
    return settings->allow_on_error ? 0 : claim_problem_errno(&problem);
}

static SELDOM int refuse_for_setting(const struct settings *settings, const struct opening *opening)
{
    message_bad_setting(settings, shown_path(opening), claim_action(opening->flags));
    return settings->allow_on_error ? 0 : ENOLCK;
}

/* ---- holds ---------------------------------------------------------------------------------------------- */

/* An image's descriptor is about to be returned to the program. */
static PATH_FRAME void audit_attached(const struct settings *settings, const struct opening *opening,
                                      const struct track_hold *hold, int descriptor)
{
    char path[PATH_MAX];
    bool deleted;
    struct stat status;
    struct lock_name name;
    if (realpath_of_descriptor(descriptor, path, &deleted) < 0) return;
    lock_name_of_image(path, sys_fstat(descriptor, &status) < 0 ? NULL : &status, &name);
    const struct audit_image about = {
        .path = path, .name = &name, .lock_descriptor = -1, .device = hold->device, .inode = hold->inode};
    audit_open(settings, &about, descriptor, opening->flags, hold->mode);
}

/* Takes back what an open that fails after all has. */
static void give_up(struct track_hold *hold, int descriptor)
{
    struct track_closing closing = {0};
    if (hold->attached) track_begin_close(&closing, descriptor);
    track_end_close(&closing);
    track_drop(hold);
}

/* Binds the hold to the program's descriptor. */
static int attach(const struct settings *settings, const struct opening *opening, struct track_hold *hold,
                  int descriptor)
{
    if (settings->audit && hold->mode) audit_attached(settings, opening, hold, descriptor);
    if (hold->attached) return 0;
    int result = track_attach(hold, descriptor, opening->flags & O_CLOEXEC);
    if (result == 0) return 0;
    track_drop(hold);
    return refuse_for_problem(settings, opening, -result, "cannot keep track of it");
}

static void abandon_hold(void *hold)
{
    track_drop(hold);
}

/* ---- an image that is open ------------------------------------------------------------------------------ */

/* Is the file still the one that this real path names? */
static bool has_name(const char *path, const struct stat *status)
{
    struct stat named;
    return sys_fstatat(AT_FDCWD, path, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_dev == status->st_dev &&
           named.st_ino == status->st_ino;
}

/* An image that is open, and what is done with it. */
struct judgement {
    const struct settings *settings;
    struct opening *opening;
    int descriptor;
    const struct stat *status;
    bool last; /* no open follows that could find the file's new name */
    bool degraded;
    int mark;                /* the descriptor that is marked; -1: none */
    struct track_hold *hold; /* under a cleanup handler before it is taken */
    struct track_hold *also; /* an earlier one of the same open, or NULL */
};

/* The image's lock.  0, or an errno.  ESTALE: the file has lost its name meanwhile, open it once more. */
static int lock_open_image(struct judgement *judgement, char *path)
{
    const struct opening *opening = judgement->opening;
    const struct stat *status = judgement->status;
    judgement->degraded = false;
    for (bool again = false;; again = true) {
        bool deleted;
        ssize_t length = realpath_of_descriptor(judgement->descriptor, path, &deleted);
        if (length == -ENOENT && opening->path)
            length = realpath_of_name(opening->directory, opening->path, true, path);
        if (length < 0)
            return refuse_for_problem(judgement->settings, opening, (int)-length, "cannot tell its real path");
        /* The first letter tells nearly all of them, for less than the call. */
        bool nameless = (!path[1] || path[1] == 'm') && realpath_of_nameless(path, status, path) > 0;
        if (deleted && !judgement->last && !nameless) return ESTALE;
        struct claim claim = {
            .settings = judgement->settings,
            .path = path,
            .flags = opening->flags,
            /* A probe is closed by whoever has made it. */
            .descriptor = opening->purpose == PURPOSE_LOOK && judgement->mark >= 0 ? -1 : judgement->descriptor,
            .status = status,
            .mark = judgement->mark,
            .also = judgement->also,
            .inherited = opening->purpose == PURPOSE_INHERIT,
            .attach = opening->purpose != PURPOSE_LOOK,
            .degradable = policy_may_degrade(judgement->settings, opening->flags) && !record_locks_on(status),
            .time = &judgement->opening->time};
        int error = claim_image(&claim, judgement->hold);
        judgement->degraded = claim.degraded;
        if (error || !judgement->hold->mode || nameless || has_name(path, status)) return error;
        /* Renamed or replaced between open and lock: what is locked is not what is open.  A file that was opened
         * through /proc after its deletion, or that another mount hides, never gets its name back: the second
         * time its last name has to do. */
        if (judgement->last && again) return 0;
        give_up(judgement->hold, judgement->descriptor);
        if (!judgement->last) return ESTALE;
    }
}

/* The program's descriptor becomes one for reading, under the same number.  0 or an errno. */
static int reopen_for_reading(const struct opening *opening, int descriptor)
{
    struct stat was, is;
    int flags = sys_fcntl(descriptor, F_GETFL, 0);
    if (flags < 0) return -flags;
    /* The kernel keeps O_NOFOLLOW, which would not follow the link. */
    flags = (flags & ~(O_ACCMODE | O_NOFOLLOW)) | O_RDONLY | O_NOCTTY | O_CLOEXEC;
    int reading = count_reopen(descriptor, flags);
    /* A chroot without /proc: by name, once more. */
    if (reading == -ENOENT && opening->path) reading = sys_openat(opening->directory, opening->path, flags, 0);
    if (reading < 0) return -reading;
    bool same = sys_fstat(descriptor, &was) == 0 && sys_fstat(reading, &is) == 0 && was.st_dev == is.st_dev &&
                was.st_ino == is.st_ino;
    /* One that came through exec may have been read from already. */
    long position = sys_call(SYS_lseek, descriptor, 0, SEEK_CUR, 0, 0, 0);
    if (position > 0) sys_call(SYS_lseek, reading, position, SEEK_SET, 0, 0, 0);
    long result = same ? sys_call(SYS_dup3, reading, descriptor, opening->flags & O_CLOEXEC, 0, 0, 0) : -ESTALE;
    sys_close(reading);
    return result < 0 ? (int)-result : 0;
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

/* Locks an image that is open, and binds the lock to its descriptor. */
static PATH_FRAME int judge_image(const struct settings *settings, struct opening *opening, int descriptor,
                                  const struct stat *status, bool last, struct track_hold *also)
{
    char path[PATH_MAX];
    struct track_hold hold = {0};
    struct judgement judgement = {settings, opening, descriptor, status, last, false, descriptor, &hold, also};
    struct _pthread_cleanup_buffer cleanup;
    _pthread_cleanup_push(&cleanup, abandon_hold, &hold);
    int error = lock_open_image(&judgement, path);
    if (!error && judgement.degraded) error = reopen_for_reading(opening, descriptor);
    if (!error && judgement.degraded) track_mark(descriptor, status, LOCK_SHARED, O_RDONLY);
    if (!error) error = attach(settings, opening, &hold, descriptor);
    if (error)
        give_up(&hold, descriptor);
    else
        track_drop(&hold);
    _pthread_cleanup_pop(&cleanup, 0);
    return error;
}

/* ---- judging -------------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) enum recognised recognise_opened(const struct settings *settings,
                                                                              const struct opening *opening,
                                                                              int descriptor, const struct stat *status,
                                                                              int *error)
{
    const int access = opening->flags & O_ACCMODE;
    const struct sight sight = {.directory = opening->directory,
                                .path = opening->path,
                                .flags = opening->flags,
                                .descriptor = descriptor,
                                .readable =
                                    opening->purpose != PURPOSE_LOOK && (access == O_RDONLY || access == O_RDWR),
                                .status = status};
    /* To read what is open for writing alone takes a second descriptor. */
    if (opening->purpose == PURPOSE_INHERIT && access != O_RDONLY) record_locks_note_inherited(descriptor);
    return recognise(settings, &sight, error);
}

/* The file that was judged. */
struct identity {
    dev_t device;
    ino_t inode;
};

/* Judges an open file, and locks it where it is an image.  0 or an errno.  ESTALE: open it once more and judge again,
 * unless last.  also: an earlier hold of the same open, or NULL. */
static inline __attribute__((always_inline)) int judge(struct opening *opening, int descriptor, bool last,
                                                       struct identity *identity, struct track_hold *also)
{
    const struct settings *settings = settings_get();
    struct stat status;
    int error = -sys_fstat(descriptor, &status);
    /* A file system that has lost its server: there is no open to refuse, and the program is not ended for it. */
    if (error && opening->purpose == PURPOSE_INHERIT) return 0;
    if (error) return refuse_for_problem(settings, opening, error, "cannot look at it");
    *identity = (struct identity){status.st_dev, status.st_ino};
    switch (recognise_opened(settings, opening, descriptor, &status, &error)) {
    case RECOGNISED_NO_IMAGE:
        return 0;
    case RECOGNISED_UNKNOWN:
        return refuse_for_problem(settings, opening, error, "cannot look at its content");
    case RECOGNISED_IMAGE:
        break;
    }
    if (settings->bad_variable) return refuse_for_setting(settings, opening);
    return judge_image(settings, opening, descriptor, &status, last, also);
}

int opening_judge(struct opening *opening, int descriptor)
{
    if (settings_get()->off) return 0;
    struct identity identity;
    track_opened(descriptor);
    int error = judge(opening, descriptor, true, &identity, NULL);
    if (error) errno = error;
    return error ? -1 : 0;
}

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

/* A descriptor that has no effect on what it is opened on, and by which that can be judged: opening a FIFO for reading
 * would let its writer go on. */
static int open_handle(const struct opening *opening, int flags)
{
    int handle;
    do {
        handle = opening->look ? opening->look(opening, flags | O_PATH | O_CLOEXEC)
                               : sys_openat(opening->directory, opening->path, flags | O_PATH | O_CLOEXEC, 0);
    } while (handle == -EINTR);
    return handle;
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
    int handle = open_handle(opening, 0);
    bool image = handle >= 0 && sys_fstat(handle, &status) == 0 && !record_locks_on(&status) &&
                 recognise_opened(settings, &look, handle, &status, &error) == RECOGNISED_IMAGE &&
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
        int error = judge(opening, descriptor, last, &identity, NULL);
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

/* ---- judging ahead --------------------------------------------------------------------------------------- */

/* The probe's marks go by name: a child that is being made may have its description. */
static void end_probe(struct ahead *ahead)
{
    const int probe = ahead->probe;
    ahead->probe = 0;
    if (probe <= 0) return;
    mark_clear(probe);
    sys_close(probe);
}

bool opening_gives_way(struct ahead *ahead)
{
    const bool probed = ahead->probe > 0;
    end_probe(ahead);
    return probed;
}

void opening_abandon(void *argument)
{
    struct ahead *ahead = argument;
    end_probe(ahead);
    track_drop(&ahead->hold);
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
static PATH_FRAME int lock_ahead(const struct settings *settings, struct opening *look, int *handle,
                                 struct ahead *ahead)
{
    char path[PATH_MAX];
    int error = begin_probe(look, *handle, ahead);
    if (error) return error;
    const int mark = ahead->probe ? ahead->probe : -1;
    if (ahead->probe) {
        /* A table that is all but full has no numbers for both and the lock file. */
        sys_close(*handle);
        *handle = -1;
    }
    const int descriptor = ahead->probe ? ahead->probe : *handle;
    struct judgement judgement = {settings, look, descriptor, &ahead->status, true, false, mark, &ahead->hold, NULL};
    error = lock_open_image(&judgement, path);
    ahead->degraded = judgement.degraded;
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
    if (result < 0) return refuse_for_problem(settings, look, -result, "cannot look at it");
    ahead->judged = true;
    const enum recognised recognised = recognise_opened(settings, look, *handle, status, &error);
    if (recognised == RECOGNISED_NO_IMAGE) return 0;
    if (!may_open(look, *handle)) {
        ahead->judged = false; /* should it be allowed after all, it is judged then */
        return 0;
    }
    if (recognised == RECOGNISED_UNKNOWN)
        return refuse_for_problem(settings, look, error, "cannot look at its content");
    if (settings->bad_variable) return refuse_for_setting(settings, look);
    const bool loses = look->flags & O_TRUNC && may_lose(status, *handle);
    error = lock_ahead(settings, look, handle, ahead);
    ahead->truncates = ahead->hold.mode && loses;
    return error;
}

/* The lock of an image that is about to be created. */
static PATH_FRAME int lock_new(const struct settings *settings, struct opening *opening, struct ahead *ahead)
{
    char path[PATH_MAX];
    if (settings->bad_variable) return refuse_for_setting(settings, opening);
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
    int handle = open_handle(opening, O_NOFOLLOW);
    if (handle >= 0 && !exclusive && sys_fstat(handle, &ahead->status) == 0 && S_ISLNK(ahead->status.st_mode)) {
        sys_close(handle);
        if (opening->flags & O_NOFOLLOW) return 0; /* libc says so */
        leads_on = true;
        handle = open_handle(opening, 0);
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

int opening_begin(struct opening *opening, struct ahead *ahead)
{
    memset(ahead, 0, sizeof *ahead);
    if (settings_get()->off) return 0;
    int error = begin(opening, ahead);
    if (!error) return 0;
    end_probe(ahead);
    errno = error;
    return -1;
}

/* Takes back what a descriptor has that the program does not get after all. */
static void take_back(int descriptor)
{
    struct track_closing closing = {0};
    track_begin_close(&closing, descriptor);
    track_end_close(&closing);
}

/* The call has opened the file that was judged.  Its lock is had already; it is marked now, before it is truncated. */
static int end_as_judged(struct opening *opening, struct ahead *ahead, int descriptor)
{
    const struct settings *settings = settings_get();
    int error = ahead->degraded ? reopen_for_reading(opening, descriptor) : 0;
    if (ahead->degraded) opening->flags = (opening->flags & ~O_ACCMODE) | O_RDONLY;
    if (!error) error = judge_image(settings, opening, descriptor, &ahead->status, true, &ahead->hold);
    if (error || !ahead->truncates) return error;
    error = truncate_image(settings, opening, descriptor);
    if (error) take_back(descriptor);
    return error;
}

int opening_end(struct opening *opening, struct ahead *ahead, int descriptor)
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
        error = refuse_for_problem(settings_get(), opening, -result, "cannot look at it");
    } else {
        /* A new image, whose inode is known only now; or another file than the one that was judged.  The new hold
         * comes before the old one goes. */
        struct track_hold *also = ahead->hold.mode && !ahead->is_new ? &ahead->hold : NULL;
        ahead->hold.before = LOCK_NONE; /* and nobody has been asked who has it open */
        error = judge(opening, descriptor, true, &(struct identity){0}, also);
        if (!error && ahead->truncates && status.st_size > 0) {
            error = truncate_opened(opening, descriptor);
            if (error) take_back(descriptor);
        }
    }
    track_drop(&ahead->hold);
    if (error) errno = error;
    return error ? -1 : 0;
}

/* Apart: the other ways get along without its frame. */
static __attribute__((noinline)) int open_ahead(struct opening *opening)
{
    struct ahead ahead = {.judged = false};
    struct _pthread_cleanup_buffer cleanup;
    int saved = errno;
    int descriptor = -1;
    bool reads = false;
    _pthread_cleanup_push(&cleanup, opening_abandon, &ahead);
    if (opening_begin(opening, &ahead) == 0) {
        errno = saved;
        descriptor = invoke(opening, ahead.truncates ? opening->flags & ~O_TRUNC : opening->flags);
        const int after = errno;
        reads = descriptor < 0 && opening_reads_instead(opening);
        if (opening_end(opening, &ahead, descriptor) == 0) {
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
