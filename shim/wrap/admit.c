#include "admit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../audit.h"
#include "../image.h"
#include "../message.h"
#include "../policy.h"
#include "../realpath.h"
#include "../sys.h"
#include "claim.h"
#include "cleanup.h"
#include "guard.h"

/* What stands in the way of evaluating the lock, in one line; then the errno, or 0 with IMGLOCK_ON_ERROR=allow. */
static int refuse_for_problem(const struct settings *settings, const struct open_call *call,
                              const struct lock_problem *problem)
{
    message_problem(settings, call->path ? call->path : "(a descriptor)", claim_action(call->flags), NULL, problem);
    return settings->allow_on_error ? 0 : claim_problem_errno(problem);
}

static int path_problem(const struct settings *settings, const struct open_call *call, ssize_t length)
{
    struct lock_problem problem = {.error = (int)-length, .what = "cannot tell its real path", .owner = (uid_t)-1};
    return refuse_for_problem(settings, call, &problem);
}

/* An image's descriptor is about to be returned to the program. */
static void audit_attached(const struct settings *settings, const struct open_call *call, const struct track_hold *hold,
                           int descriptor)
{
    char path[PATH_MAX];
    bool deleted;
    struct lock_name name;
    if (realpath_of_descriptor(descriptor, path, &deleted) < 0) return;
    lock_name_of_path(path, &name);
    const struct audit_image about = {
        .path = path, .name = &name, .lock_descriptor = -1, .device = hold->device, .inode = hold->inode};
    audit_open(settings, &about, descriptor, call->flags, hold->mode);
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
static int attach(const struct settings *settings, const struct open_call *call, struct track_hold *hold,
                  int descriptor)
{
    if (settings->audit && hold->mode) audit_attached(settings, call, hold, descriptor);
    if (hold->attached) return 0;
    int result = track_attach(hold, descriptor, call->flags & O_CLOEXEC);
    if (result == 0) return 0;
    struct lock_problem problem = {.error = -result, .what = "cannot keep track of it", .owner = (uid_t)-1};
    track_drop(hold);
    return refuse_for_problem(settings, call, &problem);
}

static int setting_problem(const struct settings *settings, const char *path, int flags)
{
    message_bad_setting(settings, path, claim_action(flags));
    return settings->allow_on_error ? 0 : ENOLCK;
}

/* ---- judging an open file ------------------------------------------------------------------------------- */

/* Closing any descriptor of a file drops all F_SETLK locks that the process has on it, so a program that uses such
 * locks gets no second descriptor closed behind its back: names decide then. */
static _Atomic bool posix_locks_used;

void admit_note_posix_lock(void)
{
    posix_locks_used = true;
}

/* A second descriptor for looking at the content, where the program's own is for writing only.  The program's open has
 * been allowed already, so this follows no name anew. */
static int open_for_looking(const struct open_call *call, int descriptor)
{
    char link[32];
    if (posix_locks_used) return -EBUSY;
    realpath_descriptor_link(descriptor, link);
    int reading = sys_openat(AT_FDCWD, link, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    /* A chroot without /proc: by name, once more. */
    if (reading == -ENOENT && call->path)
        reading = sys_openat(call->directory, call->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    return reading;
}

static inline __attribute__((always_inline)) bool shows_image(const struct open_call *call, int descriptor,
                                                              const struct stat *status)
{
    if (!image_may_be_read(descriptor, status)) return false;
    bool reads = (call->flags & O_ACCMODE) != O_WRONLY && !(call->flags & O_PATH);
    int reading = reads ? descriptor : open_for_looking(call, descriptor);
    if (reading < 0) return false;
    const char *format =
        image_by_content(call->path, reading, status, reading == descriptor ? call->flags : O_NONBLOCK);
    if (reading != descriptor) sys_close(reading);
    return format != NULL;
}

/* Apart for the sake of its 4 KiB. */
__attribute__((noinline)) bool admit_real_name_shows_image(const struct settings *settings, int directory,
                                                           const char *name, int descriptor, bool shown)
{
    char path[PATH_MAX];
    bool deleted;
    ssize_t length = realpath_of_descriptor(descriptor, path, &deleted);
    if (length == -ENOENT && name) length = realpath_of_name(directory, name, true, path);
    if (length < 0) return shown;
    int named = settings->images ? policy_names_image(settings, path) : 0;
    return named ? named > 0 : shown || image_by_extension(path);
}

/* Is this open file an image?  Inlined for the sake of every open of what is none. */
static inline __attribute__((always_inline)) bool is_image(const struct settings *settings,
                                                           const struct open_call *call, int descriptor,
                                                           const struct stat *status, bool through_link)
{
    bool image = call->path && image_by_extension(call->path);
    if (!image && settings->magic) image = shows_image(call, descriptor, status);
    if (settings->images || (!image && (through_link || !call->path || (settings->magic && admit_may_be_raw(status)))))
        return admit_real_name_shows_image(settings, call->directory, call->path, descriptor, image);
    return image;
}

/* The image's lock, for a file that is open already.  0, or an errno.  ESTALE: the file has lost its name
 * meanwhile, open it anew.  *degraded: the lock is a shared one, and the program gets a descriptor for reading. */
static int lock_open_image(const struct settings *settings, const struct open_call *call, int descriptor,
                           const struct stat *status, char *path, bool last_attempt, struct track_hold *hold,
                           bool *degraded)
{
    struct stat named;
    *degraded = false;
    for (int attempt = 0;; attempt++) {
        bool deleted;
        ssize_t length = realpath_of_descriptor(descriptor, path, &deleted);
        if (length == -ENOENT && call->path) length = realpath_of_name(call->directory, call->path, true, path);
        if (length < 0) return path_problem(settings, call, length);
        /* The first letter tells nearly all of them, for less than the call. */
        bool nameless = (!path[1] || path[1] == 'm') && realpath_of_nameless(path, status, path) > 0;
        if (deleted && !last_attempt && !nameless) return ESTALE;
        struct claim claim = {.settings = settings,
                              .path = path,
                              .flags = call->flags & ~O_PATH, /* of a look ahead */
                              .descriptor = descriptor,
                              .status = status,
                              .attach = !(call->flags & O_PATH),
                              .degradable = policy_may_degrade(settings, call->flags) && !posix_locks_used};
        int error = claim_image(&claim, hold);
        *degraded = claim.degraded;
        if (error || !hold->mode || nameless) return error;
        if (sys_fstatat(AT_FDCWD, path, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_dev == status->st_dev &&
            named.st_ino == status->st_ino)
            return 0;
        /* Renamed or replaced between open and lock: what is locked is not what is open.  A file that was opened
         * through /proc after its deletion, or that another mount hides, never gets its name back: the second
         * time its last name has to do. */
        if (last_attempt && attempt) return 0;
        give_up(hold, descriptor);
        if (!last_attempt) return ESTALE;
    }
}

/* The program's descriptor becomes one for reading, under the same number.  0 or an errno. */
static int reopen_for_reading(const struct open_call *call, int descriptor)
{
    struct stat was, is;
    char link[32];
    int flags = sys_fcntl(descriptor, F_GETFL, 0);
    if (flags < 0) return -flags;
    /* The kernel keeps O_NOFOLLOW, which would not follow the link. */
    flags = (flags & ~(O_ACCMODE | O_NOFOLLOW)) | O_RDONLY | O_NOCTTY | O_CLOEXEC;
    realpath_descriptor_link(descriptor, link);
    int reading = sys_openat(AT_FDCWD, link, flags, 0);
    /* A chroot without /proc: by name, once more. */
    if (reading == -ENOENT && call->path) reading = sys_openat(call->directory, call->path, flags, 0);
    if (reading < 0) return -reading;
    bool same = sys_fstat(descriptor, &was) == 0 && sys_fstat(reading, &is) == 0 && was.st_dev == is.st_dev &&
                was.st_ino == is.st_ino;
    /* One that came through exec may have been read from already. */
    long position = sys_call(SYS_lseek, descriptor, 0, SEEK_CUR, 0, 0, 0);
    if (position > 0) sys_call(SYS_lseek, reading, position, SEEK_SET, 0, 0, 0);
    long result = same ? sys_call(SYS_dup3, reading, descriptor, call->flags & O_CLOEXEC, 0, 0, 0) : -ESTALE;
    sys_close(reading);
    return result < 0 ? (int)-result : 0;
}

/* O_TRUNC, after the lock.  ftruncate on the descriptor moves the same time stamps that O_TRUNC moves. */
static int truncate_opened(const struct open_call *call, int descriptor, const struct stat *status)
{
    /* O_CREAT was taken off where a symbolic link led here. */
    if (S_ISDIR(status->st_mode) && call->flags & (O_TRUNC | O_CREAT)) return EISDIR;
    if (!(call->flags & O_TRUNC)) return 0;
    if (!S_ISREG(status->st_mode)) return 0;
    if ((call->flags & O_ACCMODE) == O_WRONLY || (call->flags & O_ACCMODE) == O_RDWR)
        return -sys_ftruncate(descriptor, 0);
    /* O_RDONLY|O_TRUNC truncates, too, on Linux, and so does the access mode 3 of old drivers. */
    char link[32];
    realpath_descriptor_link(descriptor, link);
    int writing = sys_openat(AT_FDCWD, link, O_WRONLY | O_NOCTTY | O_CLOEXEC, 0);
    if (writing < 0) return -writing;
    int result = sys_ftruncate(writing, 0);
    sys_close(writing);
    return -result;
}

/* The same for an image, whose holders may block it. */
static int truncate_image(const struct settings *settings, const struct open_call *call, int descriptor,
                          const struct stat *status, const char *path)
{
    struct guard guard;
    /* An empty file, one that was made just now above all, has nothing to lose. */
    if (!(call->flags & O_TRUNC) || status->st_size == 0) return truncate_opened(call, descriptor, status);
    int error = guard_image(&guard, settings, OPERATION_TRUNCATE, path);
    if (error) return error;
    error = truncate_opened(call, descriptor, status);
    guard_end(&guard);
    return error;
}

static void abandon_hold(void *hold)
{
    track_drop(hold);
}

/* The part of judge that is for images: apart, since a path takes 4 KiB of a stack that may be a signal handler's. */
static __attribute__((noinline)) int judge_image(const struct settings *settings, const struct open_call *call,
                                                 int descriptor, const struct stat *status, bool last_attempt)
{
    char path[PATH_MAX];
    struct track_hold hold = {0};
    bool degraded;
    struct _pthread_cleanup_buffer cleanup;
    _pthread_cleanup_push(&cleanup, abandon_hold, &hold);
    int error = lock_open_image(settings, call, descriptor, status, path, last_attempt, &hold, &degraded);
    if (!error) error = truncate_image(settings, call, descriptor, status, path);
    if (!error && degraded) error = reopen_for_reading(call, descriptor);
    if (!error) error = attach(settings, call, &hold, descriptor);
    if (error)
        give_up(&hold, descriptor);
    else
        track_drop(&hold);
    _pthread_cleanup_pop(&cleanup, 0);
    return error;
}

/* Judges an open file; where it is an image, locks it, and does what O_TRUNC asks for.  0 or an errno.  ESTALE:
 * open it anew and judge again, unless last_attempt. */
static inline __attribute__((always_inline)) int judge(const struct open_call *call, int descriptor, bool through_link,
                                                       bool last_attempt)
{
    const struct settings *settings = policy_settings();
    struct stat status;
    int result = sys_fstat(descriptor, &status);
    if (result < 0) {
        /* A file system that has lost its server.  What is no image by its name either is none of our business. */
        if (!call->path || !image_by_extension(call->path)) return 0;
        struct lock_problem problem = {.error = -result, .what = "cannot look at it", .owner = (uid_t)-1};
        return refuse_for_problem(settings, call, &problem);
    }
    if (!image_possible(&status) || !is_image(settings, call, descriptor, &status, through_link))
        return truncate_opened(call, descriptor, &status);
    if (settings->bad_variable) {
        int refused = setting_problem(settings, call->path ? call->path : "(a descriptor)", call->flags);
        return refused ? refused : truncate_opened(call, descriptor, &status);
    }
    return judge_image(settings, call, descriptor, &status, last_attempt);
}

int admit_descriptor(const struct open_call *call, int descriptor)
{
    track_opened(descriptor);
    int error = judge(call, descriptor, false, true);
    if (error) errno = error;
    return error ? -1 : 0;
}

/* ---- the open family ------------------------------------------------------------------------------------ */

enum { REOPENS = 16 }; /* a name that is replaced that often between open and lock is not replaced by chance */

/* Does the mode of this image leave reading as a way out?  Apart, for the sake of its 4 KiB. */
static __attribute__((noinline)) bool mode_lets_read(const struct settings *settings, const struct open_call *call,
                                                     int handle)
{
    char path[PATH_MAX];
    bool deleted;
    if (realpath_of_descriptor(handle, path, &deleted) < 0) return false;
    const struct policy_decision decision = policy_decide(settings, path, call->flags, true);
    return decision.locked && !decision.refusal && !decision.insists && decision.mode >= LOCK_SHARED;
}

bool admit_reads_instead(const struct open_call *call)
{
    const struct settings *settings = policy_settings();
    if ((errno != EROFS && errno != EACCES) || !call->path || !policy_may_degrade(settings, call->flags)) return false;
    /* Looked at through a descriptor that has no effect on what it is opened on. */
    struct stat status;
    struct open_call look = *call;
    look.flags |= O_PATH;
    int handle = sys_openat(call->directory, call->path, O_PATH | O_CLOEXEC, 0);
    bool image = handle >= 0 && sys_fstat(handle, &status) == 0 && image_possible(&status) &&
                 is_image(settings, &look, handle, &status, true) && !settings->bad_variable &&
                 mode_lets_read(settings, call, handle);
    if (handle >= 0) sys_close(handle);
    return image;
}

static int open_and_judge(const struct open_call *call, int flags, bool through_link);

/* Apart, for the sake of its 4 KiB. */
__attribute__((noinline)) void admit_tell_degraded(const struct open_call *call, int descriptor, int why)
{
    char path[PATH_MAX];
    bool deleted;
    bool known = realpath_of_descriptor(descriptor, path, &deleted) > 0;
    message_degraded(policy_settings(), known ? path : call->path, -1, why);
}

/* On read-only storage: the same open for reading alone.  saved: errno as it was before the open that failed. */
static int open_for_reading(const struct open_call *call, bool through_link, int saved)
{
    int why = errno;
    struct open_call reading = *call;
    reading.flags = (call->flags & ~(O_ACCMODE | O_CREAT)) | O_RDONLY;
    errno = saved;
    int descriptor = open_and_judge(&reading, reading.flags, through_link);
    if (descriptor >= 0) admit_tell_degraded(call, descriptor, why);
    return descriptor;
}

/* Judges what an open gave; opens it anew as long as it is replaced meanwhile.  errno is what it was before the open.
 */
static int judge_opened(const struct open_call *call, int flags, bool through_link, int descriptor)
{
    int saved = errno;
    for (int reopens = 0;; reopens++) {
        int error = judge(call, descriptor, through_link, reopens == REOPENS);
        if (!error) return descriptor;
        sys_close(descriptor);
        errno = saved;
        if (error != ESTALE || reopens == REOPENS) {
            errno = error;
            return -1;
        }
        descriptor = call->invoke(call, flags);
        if (descriptor < 0) return descriptor;
        track_opened(descriptor);
    }
}

int admit_opened(const struct open_call *call, int descriptor)
{
    return judge_opened(call, call->flags, false, descriptor);
}

/* Opens without creating or truncating, and judges. */
static int open_and_judge(const struct open_call *call, int flags, bool through_link)
{
    int saved = errno;
    int descriptor = call->invoke(call, flags);
    if (descriptor < 0) return admit_reads_instead(call) ? open_for_reading(call, through_link, saved) : descriptor;
    track_opened(descriptor);
    /* The kernel has read the path, so we may. */
    if (call->path && !through_link && !(call->flags & O_TRUNC) && admit_by_name(policy_settings()) &&
        !image_by_extension(call->path))
        return descriptor;
    return judge_opened(call, flags, through_link, descriptor);
}

static int open_plainly(const struct open_call *call)
{
    int descriptor = call->invoke(call, call->flags);
    track_opened(descriptor);
    return descriptor;
}

/* Creates a file whose name says that it becomes an image: the lock comes first. */
static int create_image(const struct open_call *call)
{
    struct admission admission = {.judged = false};
    struct _pthread_cleanup_buffer cleanup;
    int saved = errno;
    int descriptor = -1;
    _pthread_cleanup_push(&cleanup, admit_abandon, &admission);
    if (admit_ahead(call, &admission) == 0) {
        errno = saved;
        descriptor = call->invoke(call, call->flags & ~O_TRUNC);
        saved = errno;
        if (admit_behind(call, &admission, descriptor) == 0) {
            errno = saved;
        } else {
            sys_close(descriptor);
            descriptor = -1;
        }
    }
    _pthread_cleanup_pop(&cleanup, 0);
    return descriptor;
}

static int open_creating(const struct open_call *call)
{
    const struct settings *settings = policy_settings();
    char byte;
    /* Which case is it: a new name, a file, a symbolic link?  The kernel reads the path first, so that garbage gives
     * the program EFAULT and not us a fault. */
    ssize_t link = sys_readlinkat(call->directory, call->path, &byte, 1);
    bool exclusive = call->flags & O_EXCL;
    if (link == -EINVAL && !exclusive) {
        if (admit_by_name(settings) && !image_by_extension(call->path)) return open_plainly(call);
        return open_and_judge(call, call->flags & ~O_TRUNC, false);
    }
    if (link >= 0 && !exclusive) {
        int saved = errno;
        int descriptor = open_and_judge(call, call->flags & ~(O_CREAT | O_TRUNC), true);
        if (descriptor >= 0 || errno != ENOENT) return descriptor;
        errno = saved;
        return create_image(call); /* a dangling link; where it leads decides */
    }
    if (link == -ENOENT) {
        if (image_by_extension(call->path) || settings->images) return create_image(call);
        /* Not known to be new unless O_EXCL says so: it may have come into being this moment. */
        if (exclusive || admit_by_name(settings)) return open_plainly(call);
        return open_and_judge(call, call->flags & ~O_TRUNC, false);
    }
    return open_plainly(call); /* fails, and libc says how */
}

int admit_open(const struct open_call *call)
{
    /* No content can be reached through these: a path handle, a directory, a file that never has a name. */
    if (__builtin_expect((call->flags & (O_PATH | O_DIRECTORY)) != 0, 0)) return open_plainly(call);
    if (__builtin_expect((call->flags & O_CREAT) != 0, 0)) return open_creating(call);
    return open_and_judge(call, call->flags & ~O_TRUNC, false);
}

/* ---- in two steps --------------------------------------------------------------------------------------- */

void admit_abandon(void *argument)
{
    struct admission *admission = argument;
    track_drop(&admission->hold);
}

/* Will libc's open of this regular file or block device be allowed?  What it refuses needs no lock and no line.  Asked
 * without an open: closing a descriptor drops the program's own F_SETLK locks on the file. */
static bool may_open(const struct open_call *call, int handle)
{
    int access = call->flags & O_ACCMODE;
    int wanted = (access != O_WRONLY ? R_OK : 0) | (access != O_RDONLY ? W_OK : 0);
    long result = sys_call(SYS_faccessat2, handle, (long)"", wanted, AT_EMPTY_PATH | AT_EACCESS, 0, 0);
    return result != -EACCES && result != -EPERM && result != -EROFS;
}

/* O_EXCL follows no symbolic link, a dangling one neither. */
static bool is_link(const struct open_call *call)
{
    char byte;
    return sys_readlinkat(call->directory, call->path, &byte, 1) >= 0;
}

/* Judges what exists under the name, through a descriptor that has no effect on what it is opened on: opening a
 * FIFO for reading would let its writer go on. */
static int judge_ahead(const struct settings *settings, const struct open_call *call, int handle,
                       struct admission *admission)
{
    struct open_call look = *call;
    char path[PATH_MAX];
    bool degraded;
    look.flags |= O_PATH;
    int result = sys_fstat(handle, &admission->status);
    if (result < 0) return -result;
    admission->judged = true;
    if (!image_possible(&admission->status)) return 0;
    if (!is_image(settings, &look, handle, &admission->status, true)) return 0;
    if (!may_open(call, handle)) {
        admission->judged = false; /* should it be allowed after all, it is judged then */
        return 0;
    }
    if (settings->bad_variable) return setting_problem(settings, call->path, call->flags);
    int error = lock_open_image(settings, &look, handle, &admission->status, path, true, &admission->hold, &degraded);
    admission->degraded = degraded;
    return error;
}

int admit_ahead(const struct open_call *call, struct admission *admission)
{
    const struct settings *settings = policy_settings();
    memset(admission, 0, sizeof *admission);
    int error = 0;
    int handle = sys_openat(call->directory, call->path, O_PATH | O_CLOEXEC, 0);
    if (handle >= 0) {
        if (!(call->flags & O_EXCL)) error = judge_ahead(settings, call, handle, admission);
        sys_close(handle);
    } else if (handle == -ENOENT && !(call->flags & O_EXCL && is_link(call))) {
        char path[PATH_MAX];
        ssize_t length = realpath_of_name(call->directory, call->path, true, path);
        /* What stands in the way of the path stands in the way of the open: libc says so. */
        int named = length > 0 && settings->images ? policy_names_image(settings, path) : 0;
        if (length > 0 && (named > 0 || (named == 0 && (image_by_extension(call->path) || image_by_extension(path))))) {
            struct claim claim = {.settings = settings, .path = path, .flags = call->flags, .descriptor = -1};
            if (settings->bad_variable)
                error = setting_problem(settings, call->path, call->flags);
            else
                error = claim_image(&claim, &admission->hold);
        }
    }
    if (error) errno = error;
    return error ? -1 : 0;
}

int admit_behind(const struct open_call *call, struct admission *admission, int descriptor)
{
    struct stat status;
    if (descriptor < 0) {
        track_drop(&admission->hold);
        return 0;
    }
    track_opened(descriptor);
    int result = sys_fstat(descriptor, &status);
    bool same = result == 0 && (!admission->judged || (status.st_dev == admission->status.st_dev &&
                                                       status.st_ino == admission->status.st_ino));
    if (!admission->hold.mode && same && (admission->judged || status.st_size == 0)) return 0;
    if (same && admission->judged) {
        int error = truncate_opened(call, descriptor, &status);
        if (!error && admission->degraded) error = reopen_for_reading(call, descriptor);
        if (!error) error = attach(policy_settings(), call, &admission->hold, descriptor);
        if (!error) return 0;
        track_drop(&admission->hold);
        errno = error;
        return -1;
    }
    /* A new file, whose inode is known only now; or another file than the one that was judged.  The new hold comes
     * before the old one goes. */
    int error = judge(call, descriptor, true, true);
    track_drop(&admission->hold);
    if (error) errno = error;
    return error ? -1 : 0;
}
