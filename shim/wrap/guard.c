#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "../audit.h"
#include "../blocker.h"
#include "../count.h"
#include "../message.h"
#include "../realpath.h"
#include "../stranger.h"
#include "../sys.h"
#include "../track.h"
#include "claim.h"
#include "recognise.h"
#include "record_locks.h"

/* ---- what is held ---------------------------------------------------------------------------------------- */

/* Beside descriptors.  UNLOCKED: nobody ever locked the name, and what lies there may be held under another. */
enum { GO_ON = -1, REFUSED = -2, IN_DOUBT = -3, UNLOCKED = -4 };

/* One operation that is guarded. */
struct guarded {
    struct guard *guard;
    const struct settings *settings;
    enum operation operation;
    unsigned operations; /* that may be blocked */
};

static const sys_signals all_signals = SYS_ALL_SIGNALS;

/* What has to be given back.  Signals are blocked. */
static void give_back(struct guard *guard)
{
    for (int i = 0; i < 2; i++)
        if (guard->descriptors[i] >= 0) lock_end_guard(guard->descriptors[i]);
    if (guard->opened >= 0) lock_end_guard(guard->opened);
    guard->descriptors[0] = guard->descriptors[1] = guard->opened = GO_ON;
}

/* The program has jumped away, and libc has the handler off its list. */
static void guard_abandon(void *argument)
{
    struct guard *guard = argument;
    sys_signals before;
    sys_sigmask(SIG_BLOCK, &all_signals, &before);
    give_back(guard);
    sys_sigmask(SIG_SETMASK, &before, NULL);
}

static void start(struct guard *guard)
{
    guard->descriptors[0] = guard->descriptors[1] = guard->opened = GO_ON;
    guard->entered = guard->begun = false;
}

/* From the first descriptor on no handler runs: one that jumps away would leave the image locked.  One runs where
 * something is said, which may take any time, and while the program's own call is made; who jumps then is cleaned up
 * after. */
static void enter(struct guard *guard)
{
    if (guard->entered) return;
    sys_sigmask(SIG_BLOCK, &all_signals, &guard->signals);
    guard->entered = true;
    if (guard->begun) return;
    _pthread_cleanup_push(&guard->cleanup, guard_abandon, guard);
    guard->begun = true;
}

static void leave(struct guard *guard)
{
    if (!guard->entered) return;
    guard->entered = false;
    sys_sigmask(SIG_SETMASK, &guard->signals, NULL);
}

/* ---- refusing ------------------------------------------------------------------------------------------- */

static const char *action_of(enum operation operation)
{
    static const char *const actions[] = {[OPERATION_WRITE] = "cannot open for writing",
                                          [OPERATION_TRUNCATE] = "cannot truncate",
                                          [OPERATION_RESIZE] = "cannot resize",
                                          [OPERATION_RENAME] = "cannot rename",
                                          [OPERATION_UNLINK] = "cannot delete"};
    return actions[operation];
}

/* Tells of a conflict. */
static void tell(const struct guarded *call, const struct audit_image *about, int blocked,
                 const struct stranger *stranger, const struct message_advice *advice)
{
    const struct settings *settings = call->settings;
    const char *action = action_of(call->operation);
    if (blocked)
        message_blocked(settings, about->path, action, about->lock_descriptor, (enum operation)(blocked - 1));
    else if (stranger)
        stranger_tell(settings, about->path, action, about->lock_descriptor, stranger, advice);
    else
        message_conflict(settings, about->path, action, about->lock_descriptor, LOCK_EXCLUSIVE, call->operations, NULL,
                         advice);
}

/* Tells of a conflict, and writes it down.  GO_ON or REFUSED. */
static int refuse(const struct guarded *call, struct audit_image *about, int blocked, const struct stranger *stranger)
{
    const struct settings *settings = call->settings;
    const bool allowed =
        settings->on_conflict == CONFLICT_WARN || (stranger && stranger_judge(settings, stranger) == STRANGER_LET_PAST);
    const struct message_advice none = {0}, *advice = allowed ? NULL : &none;
    about->marker = stranger && !stranger->counted ? &stranger->marker : NULL;
    about->outsider = stranger && stranger->counted ? &stranger->outsider : NULL;
    leave(call->guard);
    tell(call, about, blocked, stranger, advice);
    audit_guard(settings, about, settings_operation_name(call->operation), allowed ? 0 : EBUSY);
    enter(call->guard);
    return allowed ? GO_ON : REFUSED;
}

/* Tells that the lock cannot be evaluated, as an open would.  name: of the lock file that is to be told of, or NULL.
 * GO_ON or IN_DOUBT. */
static int doubt(const struct guarded *call, const struct audit_image *about, const struct lock_name *name,
                 const struct lock_problem *problem)
{
    const bool allowed = call->settings->allow_on_error;
    leave(call->guard);
    message_problem(call->settings, about->path, action_of(call->operation), name, problem);
    audit_problem(call->settings, about, problem->what, problem->error, allowed ? 0 : ENOLCK);
    enter(call->guard);
    return allowed ? GO_ON : IN_DOUBT;
}

/* ---- one image ------------------------------------------------------------------------------------------ */

/* Holds the operations' bytes.  Through the lock file opened for this call, or, for a process that blocks one of them
 * itself, through a look by its own lock, which does not see its own blockers.  The descriptor to keep, GO_ON or
 * REFUSED. */
static int begin_operations(const struct guarded *call, const struct track_own *own, struct audit_image *about)
{
    const int opened = call->guard->opened;
    bool blocks_itself = own && own->block & call->operations;
    int blocked = blocks_itself ? blocker_find(own->descriptor, call->operations)
                                : blocker_begin_operation(opened, call->operations, sys_monotonic() + LOCK_GRACE_NS);
    if (!blocked) return opened;
    about->lock_descriptor = blocks_itself ? own->descriptor : opened;
    return refuse(call, about, blocked, NULL);
}

/* Locks the image exclusively for a moment.  LOCK_TAKEN, and *opened is the lock's descriptor by now; or as
 * lock_take. */
static enum lock_result lock_for_a_moment(const struct settings *settings, const struct lock_name *name,
                                          const char *path, int *opened, struct lock_problem *problem)
{
    struct lock lock;
    struct claim_time time = {0};
    claim_start(&time, settings);
    const struct lock_request request = {.name = name,
                                         .directory = settings->directory,
                                         .image_path = path,
                                         .mode = LOCK_EXCLUSIVE,
                                         .relatives = settings->family,
                                         .deadline = time.deadline};
    enum lock_result result = lock_take(&request, &lock, opened, problem);
    if (result == LOCK_TAKEN) *opened = lock.descriptor;
    return result;
}

static bool is_same_file(int a, int b)
{
    struct stat one, two;
    return sys_fstat(a, &one) == 0 && sys_fstat(b, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

/* Who else has an image that this process has?  One that it has exclusively, only those whom the lock was passed on to:
 * its helpers are beside it. */
static bool is_in_the_way(const struct track_own *own)
{
    const struct lock lock = {.descriptor = own->descriptor, .mode = own->mode, .start = own->start};
    if (own->mode == LOCK_EXCLUSIVE) return !lock_is_held(&lock);
    const struct relatives_question question = {.lock_descriptor = own->descriptor,
                                                .mode = LOCK_EXCLUSIVE,
                                                .ancestors = settings_get()->family,
                                                .reads = !lock_is_beside(&lock)};
    return relatives_in_the_way(&question) == RELATIVES_STRANGERS;
}

/* Would an open take what lies there for an image?  The look takes more than 2 KiB of stack: no place for a path stands
 * above it. */
static __attribute__((noinline)) bool is_image(const struct settings *settings, int directory, const char *path,
                                               bool follow)
{
    struct stat status;
    int error;
    const int handle = sys_openat(directory, path, O_PATH | (follow ? 0 : O_NOFOLLOW) | O_CLOEXEC, 0);
    const struct sight sight = {directory, path, O_RDWR, handle, false, &status};
    const bool image =
        handle >= 0 && sys_fstat(handle, &status) == 0 && recognise(settings, &sight, &error) != RECOGNISED_NO_IMAGE;
    if (handle >= 0) sys_close(handle);
    return image;
}

/* The lock file of an image cannot be opened.  Whether anybody ever locked the file cannot even be told where the
 * directory may not be searched: then that counts which an open would go by, or nothing could be deleted any more. */
static int doubt_existing(const struct guarded *call, const struct audit_image *about,
                          const struct lock_problem *problem)
{
    struct stat status;
    const struct settings *settings = call->settings;
    char path[LOCK_PATH_SIZE(settings->directory)];
    lock_path(settings->directory, about->name, path);
    const bool image = sys_fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0 ||
                       is_image(settings, AT_FDCWD, about->path, false);
    return image ? doubt(call, about, about->name, problem) : GO_ON;
}

/* The name of the lock of what has this real path.  A device has that of its number.  Only those nodes are looked for
 * that lie where devices do: to ask of each other name would cost a call, and to take a node away changes no device. */
static void name_lock(const char *path, struct lock_name *name)
{
    static const char devices[] = "/dev/", files[] = "/dev/shm/";
    struct stat status;
    const bool node = strncmp(path, devices, sizeof devices - 1) == 0 && strncmp(path, files, sizeof files - 1) != 0 &&
                      sys_fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
    lock_name_of_image(path, node ? &status : NULL, name);
}

/* Has a stranger announced on the image itself that he has it?  1, 0, or -errno: that cannot be told.  Nobody else is
 * asked where the program has record locks on it, which the descriptor's close would drop. */
static int is_marked(const struct settings *settings, const char *path, int lock_descriptor, struct stranger *stranger)
{
    struct stat status;
    const int result = sys_fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW);
    if (result < 0) return result == -ENOENT ? 0 : result;
    if (!S_ISREG(status.st_mode) || record_locks_on(&status)) return 0;
    int image = count_open(path, O_RDONLY);
    if (image == -EACCES) image = count_open(path, O_WRONLY);
    /* Another call was quicker; to take a link away takes no image away. */
    if (image < 0) return image == -ENOENT || image == -ELOOP ? 0 : image;
    const struct stranger_question question = {.settings = settings,
                                               .path = path,
                                               .device = status.st_dev,
                                               .inode = status.st_ino,
                                               .descriptor = image,
                                               .mode = LOCK_EXCLUSIVE,
                                               .access = O_RDWR,
                                               .lock_descriptor = lock_descriptor};
    const bool marked = stranger_is_there(&question, stranger);
    sys_close(image);
    return marked && stranger_judge(settings, stranger) != STRANGER_IGNORED;
}

/* The look at the marks of an image whose lock is had, or that has none.  GO_ON, REFUSED or IN_DOUBT. */
static int look_at_marks(const struct guarded *call, struct audit_image *about, int lock_descriptor)
{
    struct stranger stranger;
    const int marked = is_marked(call->settings, about->path, lock_descriptor, &stranger);
    if (marked == 0) return GO_ON;
    if (marked > 0) return refuse(call, about, 0, &stranger);
    const struct lock_problem problem = {
        .error = -marked, .what = "cannot look at who else has it", .owner = (uid_t)-1};
    return doubt(call, about, NULL, &problem);
}

/* The guard on one image by its real path, if anybody ever locked it.  guarded: it counts as writing, too.  other: what
 * is kept for the call's other name, or -1.  The descriptor to keep, which is guard->opened, GO_ON, REFUSED or
 * IN_DOUBT.
 */
static PATH_FRAME int guard_real_path(const struct guarded *call, bool guarded, int other, const char *path)
{
    const struct settings *settings = call->settings;
    int *opened = &call->guard->opened;
    struct lock_name name;
    struct lock_problem problem;
    struct track_own own;
    if (policy_ignores(settings, path)) return GO_ON;
    name_lock(path, &name);
    enter(call->guard);
    bool is_own = track_own_lock(&name, &own);
    *opened = lock_open_existing(settings->directory, &name, &problem);
    struct audit_image about = {.path = path, .name = &name, .lock_descriptor = is_own ? own.descriptor : *opened};
    if (*opened == -ENOENT) return guarded ? look_at_marks(call, &about, -1) : GO_ON;
    if (*opened < 0) return doubt_existing(call, &about, &problem);
    if (other >= 0 && is_same_file(other, *opened)) {
        /* rename("disk.img", "./disk.img"): the lock is ours since the first name. */
        about.lock_descriptor = other;
        int blocked = blocker_begin_operation(other, call->operations, sys_monotonic() + LOCK_GRACE_NS);
        return blocked ? refuse(call, &about, blocked, NULL) : GO_ON;
    }
    enum lock_result result = LOCK_TAKEN;
    if (guarded && is_own)
        result = is_in_the_way(&own) ? LOCK_BUSY : LOCK_TAKEN;
    else if (guarded)
        result = lock_for_a_moment(settings, &name, path, opened, &problem);
    if (!is_own) about.lock_descriptor = *opened;
    int refused = GO_ON;
    if (result == LOCK_TAKEN && guarded && !is_own) refused = look_at_marks(call, &about, *opened);
    if (result == LOCK_TAKEN && refused == GO_ON) return begin_operations(call, is_own ? &own : NULL, &about);
    if (result == LOCK_BUSY) return refuse(call, &about, 0, NULL);
    if (result == LOCK_FAILED) return doubt(call, &about, &name, &problem);
    return refused;
}

/* ---- names and descriptors ------------------------------------------------------------------------------ */

/* Is there anything under this name that an operation could take away? */
static bool is_there(int directory, const char *path, bool may_be_new)
{
    char byte;
    ssize_t link = sys_readlinkat(directory, path, &byte, 1);
    return link >= 0 || link == -EINVAL || (may_be_new && link == -ENOENT);
}

/* Is there a lock file of that name, or can it not be told? */
static bool may_be_locked(const char *directory, const struct lock_name *name)
{
    char path[LOCK_PATH_SIZE(directory)];
    lock_path(directory, name, path);
    return sys_call(SYS_faccessat2, AT_FDCWD, (long)path, F_OK, AT_SYMLINK_NOFOLLOW, 0, 0) != -ENOENT;
}

/* May what has this real path be an image that is held under another name?  By the name alone, but for what is about to
 * be truncated: to look at each file that is deleted would cost too much. */
static bool may_be_marked(const struct settings *settings, enum operation operation, const char *path)
{
    const int named = settings->images ? policy_names_image(settings, path) : 0;
    return named > 0 || (named == 0 && (operation == OPERATION_TRUNCATE || image_by_extension(path)));
}

/* One name of a call. */
struct name {
    struct guarded call;
    bool guarded; /* it counts as writing */
    int other;    /* what is kept for the call's other name, or GO_ON */
    int directory;
    const char *path;
    bool follow;
    bool looked; /* there is something under it */
    bool image;  /* and that is an image */
};

/* real[size] is room for the real path.  -ENAMETOOLONG: it is not enough. */
static int guard_name_in(const struct name *name, char *real, size_t size)
{
    const struct settings *settings = name->call.settings;
    struct lock_name lock_name;
    ssize_t length = realpath_of_name_in(name->directory, name->path, name->follow, real, size);
    if (length < 0) return length == -ENAMETOOLONG ? -ENAMETOOLONG : GO_ON;
    /* What nobody ever locked, nearly everything, takes no look at the file itself. */
    name_lock(real, &lock_name);
    if (!name->image && !may_be_locked(settings->directory, &lock_name))
        return name->guarded && may_be_marked(settings, name->call.operation, real) ? UNLOCKED : GO_ON;
    if (!name->looked && !is_there(name->directory, name->path, false)) return GO_ON;
    return guard_real_path(&name->call, name->guarded, name->other, real);
}

static int guard_name(const struct name *name)
{
    enum { NEAR_PATH = 1024 };
    char near[NEAR_PATH];
    int kept = guard_name_in(name, near, sizeof near);
    if (kept != -ENAMETOOLONG) return kept;
    char *far = sys_mmap(PATH_MAX);
    if (!far) return GO_ON;
    kept = guard_name_in(name, far, PATH_MAX);
    sys_munmap(far, PATH_MAX);
    return kept == -ENAMETOOLONG ? GO_ON : kept;
}

/* The descriptor is guard->opened, or what came instead of it.  0, or -1 and errno. */
static int keep(struct guard *guard, int slot, int descriptor)
{
    if (descriptor >= 0) {
        guard->descriptors[slot] = descriptor;
        guard->opened = GO_ON;
    } else if (guard->opened >= 0) {
        lock_end_guard(guard->opened);
        guard->opened = GO_ON;
    }
    if (descriptor < GO_ON || (guard->descriptors[0] < 0 && guard->descriptors[1] < 0)) guard_end(guard);
    leave(guard);
    if (descriptor >= GO_ON) return 0;
    errno = descriptor == REFUSED ? EBUSY : ENOLCK;
    return -1;
}

static int guard_slot(struct guard *guard, int slot, enum operation operation, unsigned operations, int directory,
                      const char *path, bool follow)
{
    const struct settings *settings = settings_get();
    /* truncate(2) counts as truncating, and holders block it as a change of size. */
    enum operation counted = operation == OPERATION_RESIZE ? OPERATION_TRUNCATE : operation;
    bool guarded = settings->guard & 1u << counted;
    if (settings->off) return 0;
    /* A name that is not there yet may be locked already, by whoever is about to create it. */
    bool new_target = slot == 1;
    /* The kernel has to read the path first: EFAULT is the program's. */
    bool looked = new_target || !sys_reads_string(path);
    if (looked && !is_there(directory, path, new_target)) return 0;
    int other = slot ? guard->descriptors[0] : GO_ON;
    const struct guarded call = {guard, settings, counted, operations};
    struct name name = {call, guarded, other, directory, path, follow, looked, false};
    int kept = guard_name(&name);
    if (kept == UNLOCKED) {
        enter(guard);
        name.image = is_image(settings, directory, path, follow);
        kept = name.image ? guard_name(&name) : GO_ON;
    }
    return keep(guard, slot, kept);
}

int guard_begin(struct guard *guard, enum operation operation, int directory, const char *path, bool follow)
{
    start(guard);
    return guard_slot(guard, 0, operation, 1u << operation, directory, path, follow);
}

int guard_also(struct guard *guard, enum operation operation, int directory, const char *path)
{
    /* What lies at rename's other end is deleted by it. */
    return guard_slot(guard, 1, operation, 1u << operation | 1u << OPERATION_UNLINK, directory, path, false);
}

int guard_image(struct guard *guard, const struct settings *settings, enum operation operation, const char *path)
{
    start(guard);
    int saved = errno;
    const struct guarded call = {guard, settings, operation, 1u << operation};
    int kept = keep(guard, 0, guard_real_path(&call, false, GO_ON, path));
    int error = kept < 0 ? errno : 0;
    errno = saved;
    return error;
}

static PATH_FRAME int guard_tracked(const struct guarded *call, int descriptor)
{
    char path[PATH_MAX];
    bool deleted;
    int *opened = &call->guard->opened;
    struct track_own own;
    struct lock_problem problem;
    if (!track_lock_of(descriptor, &own)) return GO_ON;
    enter(call->guard);
    *opened = lock_open_existing(call->settings->directory, &own.name, &problem);
    if (*opened == -ENOENT) return GO_ON;
    if (realpath_of_descriptor(descriptor, path, &deleted) < 0) path[0] = '\0';
    struct audit_image about = {.path = path, .name = &own.name, .lock_descriptor = *opened};
    if (*opened < 0) return doubt(call, &about, about.name, &problem);
    return begin_operations(call, &own, &about);
}

int guard_descriptor(struct guard *guard, enum operation operation, int descriptor)
{
    start(guard);
    if (__builtin_expect(track_entry(descriptor) == 0, 1) || track_is_private(descriptor)) return 0;
    const struct guarded call = {guard, settings_get(), operation, 1u << operation};
    return keep(guard, 0, guard_tracked(&call, descriptor));
}

void guard_end(struct guard *guard)
{
    if (!guard->begun) return;
    const bool entered = guard->entered;
    enter(guard);
    give_back(guard);
    _pthread_cleanup_pop(&guard->cleanup, 0);
    guard->begun = false;
    if (!entered) leave(guard);
}
