#include "claim.h"

#include <errno.h>
#include <fcntl.h>

#include "../audit.h"
#include "../message.h"
#include "../sys.h"
#include "cleanup.h"

/* ---- taking a lock for a path --------------------------------------------------------------------------- */

/* Everything that has to be undone when the program's thread is cancelled or jumps out while we wait. */
struct attempt {
    struct lock_waiter waiter;
    bool waiting;
    const struct lock_name *name;
    int opened;       /* the lock file */
    int inode_opened; /* the second one, with IMGLOCK_KEY=inode */
    int descriptor;   /* the program's, opened but not yet returned; -1: none */
};

/* An open lock file to ask about holders: one that does not show this process's own lock, if it has one. */
static int descriptor_to_ask(const struct attempt *attempt)
{
    struct track_own own;
    if (attempt->opened >= 0) return track_own_lock(attempt->name, &own) ? own.descriptor : attempt->opened;
    if (attempt->inode_opened >= 0) return attempt->inode_opened;
    return track_own_lock(attempt->name, &own) ? own.descriptor : -1;
}

/* The one that the lock is to be taken on, for the gate: it is nobody else's, and becomes the private one. */
static int descriptor_to_wait_on(const struct attempt *attempt)
{
    struct track_own own;
    if (attempt->opened >= 0) return attempt->opened;
    if (attempt->inode_opened >= 0) return attempt->inode_opened;
    return track_own_lock(attempt->name, &own) ? own.descriptor : -1;
}

/* Gives the gate back, which may have moved, with the lock that it stands beside, to the private descriptor. */
static void end_waiting(struct attempt *attempt)
{
    attempt->waiting = false;
    lock_wait_end(&attempt->waiter, descriptor_to_wait_on(attempt));
    track_park_watcher(attempt->waiter.inotify, attempt->waiter.watch);
}

static void abandon_attempt(void *argument)
{
    struct attempt *attempt = argument;
    if (attempt->waiting) end_waiting(attempt);
    if (attempt->opened >= 0) sys_close(attempt->opened);
    if (attempt->inode_opened >= 0) sys_close(attempt->inode_opened);
    if (attempt->descriptor < 0) return;
    struct track_closing closing;
    track_begin_close(&closing, attempt->descriptor); /* the last try may have bound it */
    sys_close(attempt->descriptor);
    track_end_close(&closing);
}

const char *claim_action(int flags)
{
    if (flags & O_TRUNC) return "cannot truncate";
    return (flags & O_ACCMODE) == O_RDONLY ? "cannot open for reading" : "cannot open for writing";
}

int claim_problem_errno(const struct lock_problem *problem)
{
    return problem->error == EMFILE || problem->error == ENFILE || problem->error == ENOMEM ? problem->error : ENOLCK;
}

#define NOTE_AFTER_NS (1000 * 1000 * 1000)

/* Waits as long as IMGLOCK_WAIT says. */
static enum lock_result wait_for_lock(const struct claim *claim, const struct track_request *request,
                                      const struct audit_image *about, struct track_hold *hold, struct attempt *attempt,
                                      struct lock_problem *problem, bool *interrupted)
{
    const struct settings *settings = claim->settings;
    const struct lock_name *name = request->lock.name;
    struct _pthread_cleanup_buffer cleanup;
    enum lock_result result = LOCK_BUSY;
    int64_t start = audit_now();
    bool noted = false;
    audit_wait(settings, about, request->lock.mode);
    /* The file that is in the way is watched, and no other: each try opens and closes the other one. */
    bool by_inode = attempt->opened < 0 && attempt->inode_opened >= 0;
    lock_wait_start(&attempt->waiter, settings->directory, by_inode ? request->inode_name : name,
                    request->lock.deadline, track_take_watcher());
    attempt->waiting = true;
    _pthread_cleanup_push(&cleanup, abandon_attempt, attempt);
    do {
        if (!noted && audit_now() - start > NOTE_AFTER_NS) {
            message_waiting(settings, claim->path, descriptor_to_ask(attempt), request->lock.mode);
            noted = true;
        }
        if (!lock_wait(&attempt->waiter, descriptor_to_wait_on(attempt), request->lock.mode, interrupted)) break;
        result = track_take(request, hold, &attempt->opened, problem);
    } while (result == LOCK_BUSY);
    _pthread_cleanup_pop(&cleanup, 0);
    end_waiting(attempt);
    return result;
}

static const char *locked_as(enum lock_mode mode)
{
    return mode == LOCK_EXCLUSIVE  ? "locked exclusively"
           : mode == LOCK_SHARED   ? "locked shared"
           : mode == LOCK_INACTIVE ? "open as inactive, without a lock"
                                   : "open by force-share, without a lock";
}

/* What the open does to the image, which a holder may block. */
static unsigned operations_of(const struct claim *claim)
{
    unsigned operations = 0;
    if ((claim->flags & O_ACCMODE) != O_RDONLY) operations |= 1u << OPERATION_WRITE;
    if (claim->flags & O_TRUNC && claim->status) operations |= 1u << OPERATION_TRUNCATE;
    return operations;
}

/* The mode of the image does not allow this open at all. */
static int refuse_by_mode(const struct claim *claim, const char *why)
{
    message_mode(claim->settings, claim->path, claim_action(claim->flags), why);
    return claim->settings->on_conflict == CONFLICT_WARN ? 0 : claim->settings->refusal_errno;
}

static void tell_conflict(const struct claim *claim, const struct audit_image *about, enum lock_mode wanted,
                          const struct lock_problem *problem, int error)
{
    const char *action = claim_action(claim->flags);
    if (problem->blocked)
        message_blocked(claim->settings, claim->path, action, about->lock_descriptor,
                        (enum operation)(problem->blocked - 1));
    else
        message_conflict(claim->settings, claim->path, action, about->lock_descriptor, wanted, operations_of(claim));
    audit_conflict(claim->settings, about, claim->flags, wanted, error);
}

/* The errno of an open that met a holder or a blocker. */
static int conflict_errno(const struct settings *settings, const struct lock_problem *problem)
{
    if (settings->on_conflict == CONFLICT_WARN) return 0;
    return problem->blocked == 1 + OPERATION_TRUNCATE ? EBUSY : settings->refusal_errno;
}

/* What passes by itself is waited for where nothing else is. */
static int64_t deadline_of(const struct settings *settings)
{
    if (settings->wait_ns == WAIT_FOREVER) return WAIT_FOREVER;
    return sys_monotonic() + (settings->wait_ns > LOCK_GRACE_NS ? settings->wait_ns : LOCK_GRACE_NS);
}

int claim_image(struct claim *claim, struct track_hold *hold)
{
    const struct settings *settings = claim->settings;
    const struct policy_decision decision = policy_decide(settings, claim->path, claim->flags, claim->status);
    bool warn = settings->on_conflict == CONFLICT_WARN;
    struct lock_name name, inode_name;
    claim->degraded = false;
    if (!decision.locked) return 0;
    if (decision.refusal) return refuse_by_mode(claim, decision.refusal);
    lock_name_of_path(claim->path, &name);
    struct track_request request = {.lock = {.name = &name,
                                             .directory = settings->directory,
                                             .image_path = claim->path,
                                             .mode = decision.mode,
                                             .relatives = settings->family,
                                             .deadline = deadline_of(settings),
                                             .patient = settings->wait_ns != 0,
                                             .operations = operations_of(claim),
                                             .block = decision.mode < LOCK_SHARED ? 0 : settings->block,
                                             .reason = settings->reason},
                                    .watch = warn && settings->wait_ns == 0,
                                    .attach_to = claim->attach && !warn ? claim->descriptor : -1,
                                    .close_on_exec = claim->flags & O_CLOEXEC};
    struct audit_image about = {.path = claim->path, .name = &name, .lock_descriptor = -1};
    if (claim->status) {
        about.device = request.device = claim->status->st_dev;
        about.inode = request.inode = claim->status->st_ino;
    }
    struct attempt attempt = {.name = &name, .opened = -1, .inode_opened = -1, .descriptor = claim->descriptor};
    if (settings->key_inode && claim->status) {
        lock_name_of_inode(claim->status, &inode_name);
        request.inode_name = &inode_name;
        request.inode_opened = &attempt.inode_opened;
    }
    struct lock_problem problem = {.owner = (uid_t)-1};
    int64_t waited = 0; /* nobody was in the way */
    bool interrupted = false;
    enum lock_result result = track_take(&request, hold, &attempt.opened, &problem);
    if (result == LOCK_BUSY && settings->wait_ns) {
        about.lock_descriptor = descriptor_to_ask(&attempt);
        int64_t start = audit_now();
        result = wait_for_lock(claim, &request, &about, hold, &attempt, &problem, &interrupted);
        waited = audit_now() - start;
        if (result == LOCK_BUSY && !interrupted && warn) {
            request.watch = true;
            result = track_take(&request, hold, &attempt.opened, &problem);
        }
    }
    if (result == LOCK_BUSY && !interrupted && claim->degradable && !decision.insists) {
        struct lock_problem ignored = problem;
        request.lock.mode = LOCK_SHARED;
        request.lock.operations = 0;
        claim->degraded = track_take(&request, hold, &attempt.opened, &ignored) == LOCK_TAKEN;
    }
    int error = 0;
    if (result != LOCK_TAKEN || settings->audit) about.lock_descriptor = descriptor_to_ask(&attempt);
    if (result == LOCK_BUSY && interrupted) {
        error = EINTR;
    } else if (claim->degraded) {
        message_degraded(settings, claim->path, about.lock_descriptor, 0);
        audit_conflict(settings, &about, claim->flags, decision.mode, 0);
        audit_acquire(settings, &about, LOCK_SHARED, 0, hold->family);
    } else if (result == LOCK_BUSY) {
        error = conflict_errno(settings, &problem);
        tell_conflict(claim, &about, decision.mode, &problem, error);
    } else if (result == LOCK_FAILED && decision.mode >= LOCK_SHARED) {
        error = settings->allow_on_error ? 0 : claim_problem_errno(&problem);
        message_problem(settings, claim->path, claim_action(claim->flags), &name, &problem);
        audit_problem(settings, &about, problem.what, problem.error, error);
    } else if (result == LOCK_FAILED) {
        /* It would have locked nothing, and a record is a service. */
        *hold = (struct track_hold){0};
    } else if (hold->before == LOCK_NONE) {
        /* Asked here: mostly nobody wants to know, and every open of an image comes by. */
        if (settings->log_level == LOG_DEBUG) message_debug(settings, claim->path, locked_as(decision.mode));
        if (settings->audit) audit_acquire(settings, &about, decision.mode, waited, hold->family);
    } else if (hold->before < decision.mode) {
        audit_convert(settings, &about, hold->before, decision.mode);
    }
    if (attempt.opened >= 0) sys_close(attempt.opened);
    if (attempt.inode_opened >= 0) sys_close(attempt.inode_opened);
    if (error) track_drop(hold);
    if (claim->status) {
        hold->device = claim->status->st_dev;
        hold->inode = claim->status->st_ino;
    }
    return error;
}
