#include "judge.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "../audit.h"
#include "../count.h"
#include "../lock_name.h"
#include "../message.h"
#include "../realpath.h"
#include "../sys.h"
#include "../track_close.h"
#include "cleanup.h"

/* ---- refusing ------------------------------------------------------------------------------------------- */

static const char *shown_path(const struct opening *opening)
{
    return opening->path ? opening->path : "(a descriptor)";
}

int judge_refuse_for_problem(const struct settings *settings, const struct opening *opening, int error,
                             const char *what)
{
    const struct lock_problem problem = {.error = error, .what = what, .owner = (uid_t)-1};
    message_problem(settings, shown_path(opening), claim_action(opening->flags), NULL, &problem);
    return settings->allow_on_error ? 0 : claim_problem_errno(&problem);
}

int judge_refuse_for_setting(const struct settings *settings, const struct opening *opening)
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
    return judge_refuse_for_problem(settings, opening, -result, "cannot keep track of it");
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
            return judge_refuse_for_problem(judgement->settings, opening, (int)-length, "cannot tell its real path");
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

int judge_reopen_for_reading(const struct opening *opening, int descriptor)
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

PATH_FRAME int judge_lock_ahead(const struct settings *settings, struct opening *look, int descriptor,
                                const struct stat *status, int mark, struct track_hold *hold, bool *degraded)
{
    char path[PATH_MAX];
    struct judgement judgement = {settings, look, descriptor, status, true, false, mark, hold, NULL};
    const int error = lock_open_image(&judgement, path);
    *degraded = judgement.degraded;
    return error;
}

PATH_FRAME int judge_image(const struct settings *settings, struct opening *opening, int descriptor,
                           const struct stat *status, bool last, struct track_hold *also)
{
    char path[PATH_MAX];
    struct track_hold hold = {0};
    struct judgement judgement = {settings, opening, descriptor, status, last, false, descriptor, &hold, also};
    struct _pthread_cleanup_buffer cleanup;
    _pthread_cleanup_push(&cleanup, abandon_hold, &hold);
    int error = lock_open_image(&judgement, path);
    if (!error && judgement.degraded) error = judge_reopen_for_reading(opening, descriptor);
    if (!error && judgement.degraded) track_mark(descriptor, status, LOCK_SHARED, O_RDONLY);
    if (!error) error = attach(settings, opening, &hold, descriptor);
    if (error)
        give_up(&hold, descriptor);
    else
        track_drop(&hold);
    _pthread_cleanup_pop(&cleanup, 0);
    return error;
}

int judge_opened(struct opening *opening, int descriptor)
{
    if (settings_get()->off) return 0;
    struct identity identity;
    track_opened(descriptor);
    int error = judge_file(opening, descriptor, true, &identity, NULL);
    if (error) errno = error;
    return error ? -1 : 0;
}
