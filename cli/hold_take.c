#include "hold_take.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "device.h"
#include "message.h"
#include "name.h"
#include "pause.h"
#include "stranger.h"
#include "sys.h"

/* ---- which locks -------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct wanted *)a)->name.hex, ((const struct wanted *)b)->name.hex);
}

bool hold_take_want(struct hold *hold, const char *image)
{
    char path[PATH_MAX];
    bool exists;
    struct stat status;
    int error = name_real_path(image, path, &exists, &status);
    if (!error && exists && !S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        complain("%s: cannot hold: it is neither a regular file nor a block device", image);
        return false;
    }
    char *kept = error ? NULL : strdup(path);
    if (!kept) {
        complain("%s: cannot tell its lock's path: %s", word_shown(image), strerror(error ? error : ENOMEM));
        return false;
    }
    struct wanted *wanted = &hold->wanted[hold->count++];
    *wanted = (struct wanted){.image = kept, .lock.descriptor = -1};
    lock_name_of_image(kept, exists ? &status : NULL, &wanted->name);
    if (exists && S_ISBLK(status.st_mode)) wanted->device = status.st_rdev;
    if (!wanted->device && hold->mode != LOCK_NONE)
        wanted->own = (struct held_image){.settings = &hold->settings,
                                          .path = kept,
                                          .mode = hold->mode,
                                          .announces = hold->settings.on_conflict != CONFLICT_WARN,
                                          .descriptor = -1};
    if (hold->settings.key_inode && exists && !S_ISBLK(status.st_mode)) {
        wanted = &hold->wanted[hold->count++];
        *wanted = (struct wanted){.image = kept, .lock.descriptor = -1};
        lock_name_of_inode(&status, &wanted->name);
    }
    return true;
}

void hold_take_sort(struct hold *hold)
{
    size_t kept = 0;
    qsort(hold->wanted, hold->count, sizeof *hold->wanted, by_name);
    for (size_t i = 0; i < hold->count; i++)
        if (kept == 0 || by_name(&hold->wanted[kept - 1], &hold->wanted[i]) != 0)
            hold->wanted[kept++] = hold->wanted[i];
    hold->count = kept;
}

/* ---- taking them -------------------------------------------------------------------------------------------- */

/* The lock that is waited for: none of the others is held meanwhile, so that two who each wait for what the other has
 * cannot come about. */
struct awaited {
    struct lock_waiter waiter;
    struct wanted *lock;      /* NULL: none */
    int opened;               /* its lock file */
    int inotify;              /* for the next wait; close-on-exec */
    struct pause pause;       /* the next one where no lock is waited for, */
    struct wanted *elsewhere; /* but for who has the storage of this one; NULL: for nobody */
};

enum { FIRST_PAUSE_NS = 5 * 1000 * 1000 }; /* as long as an open's, which waits for the same */

static void stop_waiting(struct awaited *awaited)
{
    if (!awaited->lock) return;
    /* The gate belongs to the open lock file, which by now may be the lock's own descriptor. */
    lock_wait_end(&awaited->waiter, awaited->opened >= 0 ? awaited->opened : awaited->lock->lock.descriptor);
    lock_wait_unwatch(awaited->waiter.inotify, awaited->waiter.watch);
    awaited->inotify = awaited->waiter.inotify;
    if (awaited->opened >= 0) close(awaited->opened);
    awaited->lock = NULL;
    awaited->opened = -1;
}

static void give_back(struct hold *hold)
{
    for (size_t i = 0; i < hold->count; i++) {
        struct wanted *wanted = &hold->wanted[i];
        if (wanted->own.path) held_image_give_back(&wanted->own);
        lock_release(&wanted->lock);
    }
}

static const struct hold *asking;

static bool is_own_lock(const struct lock_name *name)
{
    for (size_t i = 0; i < asking->count; i++)
        if (asking->wanted[i].lock.descriptor >= 0 && strcmp(asking->wanted[i].name.hex, name->hex) == 0) return true;
    return false;
}

/* A block device whose lock has been taken: has nobody its storage by another one, or by a mount?  As try_all. */
static enum lock_result look_at_device(const struct hold *hold, const struct wanted *wanted, struct device_taken *taken)
{
    const int descriptor = open(wanted->image, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    const bool minds_use = hold->mode == LOCK_EXCLUSIVE && hold->settings.outsiders != OUTSIDERS_IGNORE;
    const struct device_question question = {.settings = &hold->settings,
                                             .device = wanted->device,
                                             .descriptor = descriptor,
                                             .mode = hold->mode,
                                             .writes = minds_use,
                                             .is_own = is_own_lock};
    asking = hold;
    const enum device_answer answer = device_ask(&question, taken);
    if (descriptor >= 0) close(descriptor);
    if (answer == DEVICE_UNKNOWN) return LOCK_FAILED;
    if (answer == DEVICE_FREE) return LOCK_TAKEN;
    if (taken->lock_descriptor >= 0 || hold->settings.outsiders != OUTSIDERS_WARN) return LOCK_BUSY;
    message_conflict(&hold->settings, wanted->image, "held all the same", -1, hold->mode, 0,
                     &(struct marker){.use = taken->use}, NULL);
    return LOCK_TAKEN;
}

/* What keeps us from holding all. */
struct obstacle {
    struct wanted *blocked;
    int opened;                /* its lock file */
    bool elsewhere;            /* the lock was to be had, but not beside who has the same storage: */
    struct device_taken taken; /* by the lock of another device, or as use says */
    bool on_image;             /* nor beside who has the image itself, as blocked->own says */
    struct lock_problem problem;
};

struct lock_request hold_take_request(const struct hold *hold, const struct wanted *wanted, int64_t deadline)
{
    return (struct lock_request){.name = &wanted->name,
                                 .directory = hold->settings.directory,
                                 .image_path = wanted->image,
                                 .mode = hold->mode,
                                 .relatives = hold->settings.family,
                                 .patient = hold->deadline != 0,
                                 .block = hold->block,
                                 .reason = hold->reason,
                                 .deadline = deadline};
}

/* Tries all once.  LOCK_TAKEN: all are held.  Else none is, and *obstacle tells why. */
static enum lock_result try_all(struct hold *hold, struct awaited *awaited, struct obstacle *obstacle)
{
    for (size_t i = 0; i < hold->count; i++) {
        struct wanted *wanted = &hold->wanted[i];
        const struct lock_request request =
            hold_take_request(hold, wanted, hold->deadline ? hold->deadline : sys_monotonic() + LOCK_GRACE_NS);
        if (wanted->left_out) continue;
        int fresh = -1;
        bool first = wanted == awaited->lock;
        int *at = first ? &awaited->opened : &fresh;
        enum lock_result result = lock_take(&request, &wanted->lock, at, &obstacle->problem);
        if (first && result != LOCK_BUSY) stop_waiting(awaited);
        if (result == LOCK_TAKEN && wanted->device && hold->mode != LOCK_NONE) {
            result = look_at_device(hold, wanted, &obstacle->taken);
            obstacle->elsewhere = result == LOCK_BUSY;
            if (result == LOCK_FAILED) obstacle->problem = obstacle->taken.problem;
        }
        if (result == LOCK_TAKEN && wanted->own.path) {
            result = held_image_take(&wanted->own, &wanted->lock, &obstacle->problem);
            obstacle->on_image = result == LOCK_BUSY;
        }
        if (result == LOCK_TAKEN) continue;
        give_back(hold);
        obstacle->blocked = wanted;
        obstacle->opened = *at;
        return result;
    }
    return LOCK_TAKEN;
}

static const char *action_of(enum lock_mode mode)
{
    return mode == LOCK_EXCLUSIVE ? "cannot hold exclusively"
           : mode == LOCK_SHARED  ? "cannot hold shared"
                                  : "cannot block operations";
}

/* Who is told of: the open lock file whose records name them, or what they use the storage for. */
static int descriptor_to_ask(const struct awaited *awaited, const struct obstacle *obstacle)
{
    return obstacle->elsewhere ? obstacle->taken.lock_descriptor : awaited->opened;
}

static const struct marker *use_of(const struct obstacle *obstacle, struct marker *use)
{
    if (obstacle->on_image) return &obstacle->blocked->own.stranger.marker;
    *use = (struct marker){.use = obstacle->taken.use};
    return obstacle->elsewhere && obstacle->taken.lock_descriptor < 0 ? use : NULL;
}

static bool is_outsider(const struct obstacle *obstacle)
{
    return obstacle->on_image && obstacle->blocked->own.stranger.counted;
}

static void tell_conflict(const struct hold *hold, const struct awaited *awaited, const struct obstacle *obstacle,
                          int64_t waited_ns)
{
    const bool refused = hold->settings.on_conflict == CONFLICT_DENY;
    const struct message_advice advice = {.waited_ns = hold->deadline ? waited_ns : 0, .may_wait = !hold->deadline};
    const char *image = obstacle->blocked->image;
    struct marker use;
    char action[48];
    if (obstacle->on_image) {
        stranger_tell(&hold->settings, image, action_of(hold->mode), awaited->opened, &obstacle->blocked->own.stranger,
                      refused ? &advice : NULL);
        return;
    }
    if (!obstacle->problem.blocked) {
        message_conflict(&hold->settings, image, action_of(hold->mode), descriptor_to_ask(awaited, obstacle),
                         hold->mode, 0, use_of(obstacle, &use), refused ? &advice : NULL);
        return;
    }
    enum operation operation = (enum operation)(obstacle->problem.blocked - 1);
    snprintf(action, sizeof action, "cannot block %s", settings_operation_name(operation));
    message_blocked(&hold->settings, image, action, awaited->opened, operation);
}

/* Until it is worth while to try again.  False: the time is over. */
static bool wait_for(const struct hold *hold, struct awaited *awaited, const struct obstacle *obstacle)
{
    bool interrupted;
    if (obstacle->on_image) return lock_wait(&awaited->waiter, -1, hold->mode, &interrupted);
    if (!obstacle->elsewhere) return lock_wait(&awaited->waiter, awaited->opened, hold->mode, &interrupted);
    /* Nothing tells of the end of a mount; and the lock that is waited for is free. */
    return pause_sleep(&awaited->pause);
}

static void start_waiting(const struct hold *hold, struct awaited *awaited, const struct obstacle *obstacle)
{
    if (obstacle->elsewhere || obstacle->blocked != awaited->lock) stop_waiting(awaited);
    struct wanted *elsewhere = obstacle->elsewhere ? obstacle->blocked : NULL;
    if (elsewhere && elsewhere != awaited->elsewhere) awaited->pause = pause_begin(FIRST_PAUSE_NS, hold->deadline);
    awaited->elsewhere = elsewhere;
    if (obstacle->elsewhere || obstacle->blocked == awaited->lock) return;
    awaited->lock = obstacle->blocked;
    awaited->opened = obstacle->on_image ? -1 : obstacle->opened;
    lock_wait_start(&awaited->waiter, hold->settings.directory, &obstacle->blocked->name, hold->deadline,
                    awaited->inotify);
    if (obstacle->on_image) lock_wait_for_image(&awaited->waiter, obstacle->blocked->own.descriptor);
}

/* The lock cannot be evaluated.  Goes on without it, or not. */
static bool goes_on(struct hold *hold, struct awaited *awaited, const struct obstacle *obstacle)
{
    message_problem(&hold->settings, obstacle->blocked->image, action_of(hold->mode), &obstacle->blocked->name,
                    &obstacle->problem);
    stop_waiting(awaited);
    obstacle->blocked->left_out = hold->settings.allow_on_error;
    return hold->settings.allow_on_error;
}

/* After a wait that was worth one look. */
static bool is_there_still(const struct awaited *awaited, const struct obstacle *obstacle)
{
    if (obstacle->on_image) return held_image_is_busy(&obstacle->blocked->own);
    return !obstacle->elsewhere && awaited->waiter.still;
}

/* Waits until another try is worth while, and says that it waits when it is time to.  False: it is not to wait any
 * longer. */
static bool wait_longer(const struct hold *hold, struct awaited *awaited, const struct obstacle *obstacle,
                        int64_t start, int *said)
{
    struct marker use;
    if (hold->deadline == 0) return false;
    do {
        /* An operation that cannot be blocked yet is one of a moment, and nobody's lock. */
        if (!obstacle->problem.blocked && sys_monotonic() - start > message_waits_until(&hold->settings, *said)) {
            if (is_outsider(obstacle))
                message_waiting_outsider(&hold->settings, obstacle->blocked->image,
                                         &obstacle->blocked->own.stranger.outsider);
            else
                message_waiting(&hold->settings, obstacle->blocked->image, descriptor_to_ask(awaited, obstacle),
                                hold->mode, use_of(obstacle, &use));
            ++*said;
        }
        if (!wait_for(hold, awaited, obstacle)) return false;
    } while (is_there_still(awaited, obstacle));
    return true;
}

int hold_take_all(struct hold *hold, int conflict_status)
{
    struct awaited awaited = {.opened = -1, .inotify = -1};
    const int64_t start = sys_monotonic();
    int said = 0;
    for (;;) {
        struct obstacle obstacle = {.opened = -1, .taken.lock_descriptor = -1, .problem.owner = (uid_t)-1};
        enum lock_result result = try_all(hold, &awaited, &obstacle);
        if (result == LOCK_TAKEN) return HOLD_TAKEN;
        if (result == LOCK_FAILED) {
            if (!goes_on(hold, &awaited, &obstacle)) return STATUS_FAILED;
            continue;
        }
        start_waiting(hold, &awaited, &obstacle);
        const bool again = wait_longer(hold, &awaited, &obstacle, start, &said);
        if (!again) tell_conflict(hold, &awaited, &obstacle, sys_monotonic() - start);
        if (obstacle.taken.lock_descriptor >= 0) close(obstacle.taken.lock_descriptor);
        if (again) continue;
        stop_waiting(&awaited);
        if (hold->settings.on_conflict == CONFLICT_DENY) return conflict_status;
        if (obstacle.on_image)
            obstacle.blocked->own.path = NULL; /* the lock itself is to be had */
        else
            obstacle.blocked->left_out = true;
    }
}
