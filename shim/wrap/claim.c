#include "claim.h"

#include <errno.h>
#include <fcntl.h>

#include "../arguments.h"
#include "../audit.h"
#include "../children.h"
#include "../device.h"
#include "../fdinfo.h"
#include "../memo.h"
#include "../message.h"
#include "../pause.h"
#include "../proc.h"
#include "../stranger.h"
#include "../sys.h"
#include "../text.h"
#include "../track_close.h"
#include "../track_lost.h"
#include "../track_private.h"
#include "cleanup.h"
#include "outside.h"
#include "record_locks.h"

/* ---- taking a lock for a path --------------------------------------------------------------------------- */

void claim_start(struct claim_time *time, const struct settings *settings)
{
    if (time->deadline) return;
    /* Without a system call, unlike sys_monotonic: every open of an image comes by. */
    struct timespec clock = {0};
    clock_gettime(CLOCK_MONOTONIC, &clock);
    const int64_t now = (int64_t)clock.tv_sec * 1000000000 + clock.tv_nsec, wait_ns = settings->wait_ns;
    time->wait = wait_ns < WAIT_FOREVER - now ? now + wait_ns : WAIT_FOREVER;
    time->deadline = wait_ns < LOCK_GRACE_NS ? now + LOCK_GRACE_NS : time->wait;
}

/* A program that has waited in vain tries again at once: qemu-img opens an image twice before it gives up.  It does not
 * wait twice as long as it was told.  Another thread, or a child, is another who was told to wait. */
static _Atomic uint64_t waited_for;
static _Atomic int64_t waited_until;

static uint64_t this_wait(const struct claim *claim)
{
    return memo_text(memo_number(MEMO_START, (uint64_t)sys_gettid()), claim->path);
}

static void stop_waiting_again(const struct claim *claim)
{
    enum { AT_ONCE_NS = 1000 * 1000 * 1000 };
    if (!claim->settings->wait_ns || !waited_for || !memo_is(&waited_for, this_wait(claim))) return;
    if (sys_monotonic() - waited_until < AT_ONCE_NS) claim->time->wait = 0;
}

static void note_vain_wait(const struct claim *claim)
{
    const int64_t now = claim->settings->wait_ns ? sys_monotonic() : 0;
    if (!claim->time->wait || now < claim->time->wait) return;
    waited_until = now;
    memo_note(&waited_for, this_wait(claim));
}

/* One claim under way; what has to be undone when the program's thread is cancelled or jumps out while we wait. */
struct attempt {
    struct policy_decision decision;
    struct lock_name name, inode_name;
    struct track_request request;
    struct audit_image about;
    struct lock_problem problem;
    struct lock_waiter waiter;
    bool waiting;
    int opened;       /* the lock file */
    int inode_opened; /* the second one, with IMGLOCK_KEY=inode */
    int descriptor;   /* the program's, opened but not yet returned; -1: none */
    int64_t waited;   /* nanoseconds; 0: nobody was in the way */
    bool marked;      /* the last try: the lock was to be had, but not beside what somebody has announced on the image
                         itself.  What that try had is given back, its own mark, too; this is for waiting and telling */
    struct stranger stranger; /* who has announced that */
    bool beside_own;          /* as in struct track_hold */
    struct bytes_found found;
    struct outside_place place;
    struct outsider counted_outsider; /* whom the kernel's count has found, beside a lock that is had */
    int outside_error;                /* the program's descriptor could not be opened anew */
    bool given;                       /* the program's parent has the very description that came with it */
    bool taken; /* the lock was to be had, but not beside who has the same block device by another */
    struct device_taken device;
};

/* An open lock file to ask about holders: one that does not show this process's own lock, if it has one. */
static int descriptor_to_ask(const struct attempt *attempt)
{
    struct track_own own;
    if (attempt->taken && attempt->device.lock_descriptor >= 0) return attempt->device.lock_descriptor;
    if (attempt->opened >= 0) return track_own_lock(&attempt->name, &own) ? own.descriptor : attempt->opened;
    if (attempt->inode_opened >= 0) return attempt->inode_opened;
    return track_own_lock(&attempt->name, &own) ? own.descriptor : -1;
}

/* The one that the lock is to be taken on, for the gate: it is nobody else's, and becomes the private one. */
static int descriptor_to_wait_on(const struct attempt *attempt)
{
    struct track_own own;
    if (attempt->opened >= 0) return attempt->opened;
    if (attempt->inode_opened >= 0) return attempt->inode_opened;
    return track_own_lock(&attempt->name, &own) ? own.descriptor : -1;
}

/* Gives the gate back, which may have moved, with the lock that it stands beside, to the private descriptor. */
static void end_waiting(struct attempt *attempt)
{
    attempt->waiting = false;
    lock_wait_end(&attempt->waiter, descriptor_to_wait_on(attempt));
    track_park_watcher(attempt->waiter.inotify, attempt->waiter.watch);
}

static void close_now(int *descriptor)
{
    const int open = *descriptor;
    *descriptor = -1;
    if (open >= 0) sys_close(open);
}

static void abandon_attempt(void *argument)
{
    struct attempt *attempt = argument;
    if (attempt->waiting) end_waiting(attempt);
    close_now(&attempt->opened);
    close_now(&attempt->inode_opened);
    close_now(&attempt->device.lock_descriptor);
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

static const char *locked_as(enum lock_mode mode)
{
    return mode == LOCK_EXCLUSIVE  ? "locked exclusively"
           : mode == LOCK_SHARED   ? "locked shared"
           : mode == LOCK_INACTIVE ? "open as inactive, without a lock"
                                   : "open by force-share, without a lock";
}

/* ---- acquire --------------------------------------------------------------------------------------------- */

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

static const char opened_all_the_same[] = "opened all the same";

/* Somebody outside imglock has the image, and that is only told of. */
static void audit_let_through(const struct claim *claim, const struct attempt *attempt, const struct marker *marker,
                              const struct outsider *outsider)
{
    struct audit_image about = attempt->about;
    about.marker = marker;
    about.outsider = outsider;
    audit_conflict(claim->settings, &about, claim->flags, attempt->decision.mode, 0);
}

/* ---- marks ----------------------------------------------------------------------------------------------- */

static struct stranger_question question_of(const struct claim *claim, const struct attempt *attempt,
                                            enum lock_mode mode, int lock_descriptor)
{
    const struct track_request *request = &attempt->request;
    return (struct stranger_question){.settings = claim->settings,
                                      .path = claim->path,
                                      .device = request->device,
                                      .inode = request->inode,
                                      .descriptor = request->mark,
                                      .mode = mode,
                                      .access = request->access,
                                      .lock_descriptor = lock_descriptor};
}

/* An instant is longer where children may have what other threads have closed lately, and as long as a busy machine may
 * take where a thread is just closing it. */
#define CHILDREN_NS (INT64_C(150) * 1000 * 1000)
#define CLOSING_NS (INT64_C(5) * 1000 * 1000 * 1000)

/* Is it a stranger who is in the way?  Track has looked for those who are none.  The lock is held meanwhile, so that
 * nobody comes in between. */
static bool is_marked_by_stranger(const struct claim *claim, struct attempt *attempt, struct track_hold *hold)
{
    const struct track_request *request = &attempt->request;
    struct track_own own;
    /* Without /proc nobody can be told from whom it came from, who has its marks as well; the lock is there. */
    if (claim->inherited && !proc_self()) return false;
    const int lock_descriptor = track_own_lock(&attempt->name, &own) ? own.descriptor : -1;
    const struct stranger_question question = question_of(claim, attempt, request->lock.mode, lock_descriptor);
    const struct markers_question markers = stranger_markers(&question);
    const int64_t end = sys_monotonic() + (children_now() ? CHILDREN_NS : PAUSE_INSTANT_NS);
    while (sys_pause(end))
        if (!track_is_disputed(request, hold, &attempt->found)) return false;
    const int64_t closed = sys_monotonic() + CLOSING_NS;
    while (markers_look(&markers, true, &attempt->stranger.marker) == MARKERS_STRANGERS)
        if (attempt->stranger.marker.pid || !track_is_closing(request) || !sys_pause(closed)) return true;
    return false;
}

/* By what is he known?  Asked of what the open itself wanted, though a shared lock may be tried by now. */
static void see_stranger(const struct claim *claim, struct attempt *attempt)
{
    const struct stranger_question question =
        question_of(claim, attempt, attempt->decision.mode, attempt->about.lock_descriptor);
    stranger_see(&question, &attempt->stranger);
}

/* Is the stranger one outside imglock who is to be in nobody's way?  Then that is told. */
static bool is_let_past(const struct claim *claim, struct attempt *attempt)
{
    const struct settings *settings = claim->settings;
    const struct stranger *stranger = &attempt->stranger;
    if (settings->outsiders == OUTSIDERS_DENY) return false;
    attempt->about.lock_descriptor = descriptor_to_ask(attempt);
    see_stranger(claim, attempt);
    const enum stranger_verdict verdict = stranger_judge(settings, stranger);
    if (verdict == STRANGER_LET_PAST) {
        stranger_tell(settings, claim->path, opened_all_the_same, attempt->about.lock_descriptor, stranger, NULL);
        audit_let_through(claim, attempt, stranger->counted ? NULL : &stranger->marker,
                          stranger->counted ? &stranger->outsider : NULL);
    }
    return verdict != STRANGER_IN_THE_WAY;
}

/* ---- block devices --------------------------------------------------------------------------------------- */

static bool is_own_lock(const struct lock_name *name)
{
    struct track_own own;
    return track_own_lock(name, &own);
}

/* To ask would drop the record locks of a program that has any. */
static bool minds_use(const struct claim *claim, const struct attempt *attempt)
{
    return attempt->request.access != O_RDONLY && !(claim->flags & O_EXCL) &&
           claim->settings->outsiders != OUTSIDERS_IGNORE && !record_locks_on(claim->status);
}

/* Has somebody the storage of a block device by another one, or by a mount?  Not asked again by who has it already. */
static enum lock_result look_at_device(const struct claim *claim, struct attempt *attempt,
                                       const struct track_hold *hold)
{
    const enum lock_mode mode = attempt->request.lock.mode;
    if (!claim->status || !S_ISBLK(claim->status->st_mode) || claim->inherited) return LOCK_TAKEN;
    if (mode < LOCK_SHARED || hold->before >= mode) return LOCK_TAKEN;
    const struct device_question question = {.settings = claim->settings,
                                             .device = claim->status->st_rdev,
                                             .descriptor = claim->descriptor,
                                             .mode = mode,
                                             .writes = minds_use(claim, attempt),
                                             .family = hold->family,
                                             .is_own = is_own_lock};
    close_now(&attempt->device.lock_descriptor);
    const enum device_answer answer = device_ask(&question, &attempt->device);
    if (answer == DEVICE_FREE) return LOCK_TAKEN;
    if (answer == DEVICE_UNKNOWN) {
        attempt->problem = attempt->device.problem;
        return LOCK_FAILED;
    }
    attempt->stranger.marker = (struct marker){.use = attempt->device.use, .outside = true};
    const bool used = attempt->device.lock_descriptor < 0;
    if (used && is_let_past(claim, attempt)) return LOCK_TAKEN;
    attempt->marked = used;
    attempt->taken = true;
    return LOCK_BUSY;
}

static enum lock_result try_to_take(const struct claim *claim, struct attempt *attempt, struct track_hold *hold)
{
    enum lock_result result = track_take(&attempt->request, hold, &attempt->opened, &attempt->problem, &attempt->found);
    attempt->marked = attempt->taken = false;
    if (result != LOCK_TAKEN) return result;
    attempt->beside_own = hold->beside_own;
    if (hold->disputed && is_marked_by_stranger(claim, attempt, hold) && !is_let_past(claim, attempt)) {
        attempt->marked = true;
        result = LOCK_BUSY;
    } else {
        if (hold->disputed) track_accept(&attempt->request, hold);
        result = look_at_device(claim, attempt, hold);
        if (result == LOCK_TAKEN) return result;
    }
    /* Where conflicts are only told of, the hold stays. */
    if (!attempt->request.watch || result == LOCK_FAILED) track_give_back(&attempt->request, hold);
    return result;
}

/* Is a further try worth while, after an event or a pause?  The event of a close comes before the marks are gone. */
static bool is_worth_a_try(const struct attempt *attempt)
{
    enum { LOOK_NS = 2 * 1000 * 1000 };
    const struct track_request *request = &attempt->request;
    if (attempt->waiter.still) return false;
    if (!attempt->marked || attempt->beside_own) return true;
    /* Each further question goes to the server. */
    if (attempt->waiter.distant) return !mark_is_in_the_way(request->mark, request->lock.mode, request->access, NULL);
    const int64_t end = sys_monotonic() + LOOK_NS;
    while (mark_is_in_the_way(request->mark, request->lock.mode, request->access, NULL)) {
        if (sys_monotonic() >= end) return false;
        sys_yield();
    }
    return true;
}

/* ---- waiting --------------------------------------------------------------------------------------------- */

/* Waits as long as IMGLOCK_WAIT says. */
static enum lock_result wait_for_lock(const struct claim *claim, struct attempt *attempt, struct track_hold *hold,
                                      bool *interrupted)
{
    const struct settings *settings = claim->settings;
    enum lock_result result = LOCK_BUSY;
    const int64_t start = sys_monotonic();
    int said = 0;
    attempt->about.marker = attempt->marked ? &attempt->stranger.marker : NULL;
    audit_wait(settings, &attempt->about, attempt->request.lock.mode);
    /* The file that is in the way is watched, and no other: each try opens and closes the other one. */
    bool by_inode = attempt->opened < 0 && attempt->inode_opened >= 0;
    lock_wait_start(&attempt->waiter, settings->directory, by_inode ? &attempt->inode_name : &attempt->name,
                    claim->time->wait, track_take_watcher());
    attempt->waiting = true;
    if (claim->also) track_drop(claim->also);
    do {
        lock_wait_for_image(&attempt->waiter, attempt->marked || attempt->taken ? attempt->request.mark : -1);
        if (sys_monotonic() - start > message_waits_until(settings, said)) {
            message_waiting(settings, claim->path, descriptor_to_ask(attempt), attempt->request.lock.mode,
                            attempt->marked ? &attempt->stranger.marker : NULL);
            said++;
        }
        if (!lock_wait(&attempt->waiter, descriptor_to_wait_on(attempt), attempt->request.lock.mode, interrupted))
            break;
        if (!is_worth_a_try(attempt)) continue;
        result = try_to_take(claim, attempt, hold);
    } while (result == LOCK_BUSY);
    end_waiting(attempt);
    return result;
}

enum outcome {
    OUTCOME_HELD,
    OUTCOME_DEGRADED, /* a shared lock instead */
    OUTCOME_BESIDE,   /* no lock: whoever has it has this very description of the image */
    OUTCOME_UNLOCKED, /* no lock, and no refusal: the image came with the program, whose parent has it open as well */
    OUTCOME_CONFLICT,
    OUTCOME_OUTSIDER,    /* the lock was to be had, but somebody outside imglock has the image open for writing */
    OUTCOME_GONE,        /* the file may not be opened any more */
    OUTCOME_INTERRUPTED, /* by a signal handler, while it waited */
    OUTCOME_PROBLEM,     /* the lock could not be evaluated */
};

/* An image that was handed down, with its marks: has whoever holds the lock got it from the same hand?  Then the
 * description is marked, and no other is.  All commands of a pipeline have what their shell has open; one that has just
 * taken the lock gets a moment in which to mark it. */
static bool is_of_siblings(const struct claim *claim, const struct attempt *attempt)
{
    if (!claim->inherited || attempt->opened < 0) return false;
    const int64_t end = sys_monotonic() + LOCK_GRACE_NS;
    do {
        if (mark_is_there(attempt->request.mark) &&
            !mark_is_in_the_way(attempt->request.mark, LOCK_EXCLUSIVE, O_RDWR, NULL))
            return true;
    } while (attempt->given && sys_pause(end));
    return false;
}

/* The only lock that is to be had is a shared one, and the open would do as one for reading. */
static bool degrade(const struct claim *claim, struct attempt *attempt, struct track_hold *hold)
{
    const struct lock_problem problem = attempt->problem;
    const struct stranger stranger = attempt->stranger;
    const bool marked = attempt->marked;
    if (!claim->degradable || attempt->decision.insists) return false;
    attempt->request.lock.mode = LOCK_SHARED;
    attempt->request.lock.operations = 0;
    attempt->request.access = O_RDONLY;
    const bool taken = try_to_take(claim, attempt, hold) == LOCK_TAKEN;
    /* What is told of is what was in the way of writing. */
    attempt->problem = problem;
    attempt->stranger = stranger;
    attempt->marked = marked;
    return taken;
}

/* An image that the program's parent has open, by the same description, is no open of this program's: a shell that has
 * an image gives it to whatever it runs.  So nothing is refused, and nothing waits; the image is marked all the same.
 */
static enum outcome go_on_without(const struct claim *claim, struct attempt *attempt, struct track_hold *hold)
{
    track_give_back(&attempt->request, hold); /* what the first try has, with IMGLOCK_ON_CONFLICT=warn */
    attempt->request.watch = true;
    const enum lock_result result = try_to_take(claim, attempt, hold);
    if (result == LOCK_TAKEN) return OUTCOME_HELD;
    if (result == LOCK_BUSY && !attempt->marked && !mark_is_locked_otherwise(claim->mark))
        track_mark(claim->mark, claim->status, attempt->decision.mode, attempt->request.access);
    return result == LOCK_BUSY ? OUTCOME_UNLOCKED : OUTCOME_PROBLEM;
}

static enum outcome acquire(const struct claim *claim, struct attempt *attempt, struct track_hold *hold)
{
    const struct settings *settings = claim->settings;
    bool interrupted = false;
    enum lock_result result = try_to_take(claim, attempt, hold);
    if (result == LOCK_TAKEN) return OUTCOME_HELD;
    attempt->given = claim->inherited && fdinfo_parent_has(claim->descriptor);
    if (result == LOCK_BUSY && is_of_siblings(claim, attempt)) return OUTCOME_BESIDE;
    if (attempt->given) return go_on_without(claim, attempt, hold);
    if (result == LOCK_BUSY && settings->wait_ns && claim->time->wait) {
        if (attempt->request.lease != F_UNLCK) outside_step_back(&attempt->place, false);
        attempt->about.lock_descriptor = descriptor_to_ask(attempt);
        const int64_t start = audit_now();
        result = wait_for_lock(claim, attempt, hold, &interrupted);
        attempt->waited = audit_now() - start;
    }
    if (result == LOCK_BUSY && !interrupted && settings->on_conflict == CONFLICT_WARN && !attempt->request.watch) {
        attempt->request.watch = true;
        result = try_to_take(claim, attempt, hold);
    }
    if (result == LOCK_TAKEN) return OUTCOME_HELD;
    if (result == LOCK_FAILED) return OUTCOME_PROBLEM;
    if (interrupted) return OUTCOME_INTERRUPTED;
    return degrade(claim, attempt, hold) ? OUTCOME_DEGRADED : OUTCOME_CONFLICT;
}

/* ---- who takes no notice of the lock --------------------------------------------------------------------- */

static enum outcome ask_outside(const struct claim *claim, struct attempt *attempt, struct track_hold *hold,
                                enum outcome outcome)
{
    const struct settings *settings = claim->settings;
    const struct outside_request request = {.settings = settings,
                                            .path = claim->path,
                                            .status = claim->status,
                                            .name = &attempt->name,
                                            .family = hold->family,
                                            .deadline = claim->time->wait,
                                            .place = &attempt->place};
    const int result = outside_ask(&request, &attempt->counted_outsider);
    if (result == 0) return outcome;
    if (result == 1 && policy_warns_of_outsiders(settings)) {
        message_outsider(settings, claim->path, opened_all_the_same, &attempt->counted_outsider);
        audit_let_through(claim, attempt, NULL, &attempt->counted_outsider);
        return outcome;
    }
    track_give_back(&attempt->request, hold);
    attempt->outside_error = -result;
    return result == 1 ? OUTCOME_OUTSIDER : result == -EINTR ? OUTCOME_INTERRUPTED : OUTCOME_GONE;
}

/* ---- the outcome as an errno ----------------------------------------------------------------------------- */

static int outcome_errno(const struct claim *claim, const struct attempt *attempt, enum outcome outcome)
{
    const struct settings *settings = claim->settings;
    switch (outcome) {
    case OUTCOME_INTERRUPTED:
        return EINTR;
    case OUTCOME_CONFLICT:
        if (settings->on_conflict == CONFLICT_WARN) return 0;
        return attempt->problem.blocked == 1 + OPERATION_TRUNCATE ? EBUSY : settings->refusal_errno;
    case OUTCOME_OUTSIDER:
        return settings->refusal_errno;
    case OUTCOME_GONE:
        return attempt->outside_error;
    case OUTCOME_PROBLEM:
        /* Below shared it would have locked nothing, and a record is a service. */
        if (settings->allow_on_error || attempt->given || attempt->decision.mode < LOCK_SHARED) return 0;
        return claim_problem_errno(&attempt->problem);
    default:
        return 0;
    }
}

/* It waited, and the program may get its descriptor all the same, as it was. */
static enum outcome step_forth(const struct claim *claim, struct attempt *attempt, struct track_hold *hold,
                               enum outcome outcome)
{
    const int result = outside_step_forth(&attempt->place, outcome <= OUTCOME_DEGRADED);
    if (result == 0 || outcome_errno(claim, attempt, outcome)) return outcome;
    track_give_back(&attempt->request, hold);
    attempt->outside_error = -result;
    return OUTCOME_GONE;
}

/* ---- telling --------------------------------------------------------------------------------------------- */

static void tell_held(const struct claim *claim, const struct attempt *attempt, const struct track_hold *hold)
{
    const enum lock_mode mode = attempt->decision.mode;
    if (hold->before == LOCK_NONE) {
        /* Asked here: mostly nobody wants to know, and every open of an image comes by. */
        if (claim->settings->log_level == LOG_DEBUG) message_debug(claim->settings, claim->path, locked_as(mode));
        if (claim->settings->audit)
            audit_acquire(claim->settings, &attempt->about, mode, attempt->waited, hold->family);
    } else if (hold->before < mode) {
        audit_convert(claim->settings, &attempt->about, hold->before, mode);
    }
}

static void tell_conflict(const struct claim *claim, struct attempt *attempt, int error)
{
    char words[96];
    struct text action = text_in(words, sizeof words);
    const enum lock_mode wanted = attempt->decision.mode;
    const int lock_descriptor = attempt->about.lock_descriptor;
    const bool reads = (claim->flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY;
    const char *doing =
        attempt->given ? "goes on without a lock, as its parent has it open, too" : claim_action(claim->flags);
    /* QEMU's first open is for reading, whatever it is going to do. */
    const char *purpose = reads && !attempt->given ? arguments_purpose(claim->path) : NULL;
    const struct message_advice advice = {
        .waited_ns = attempt->waited, .may_wait = true, .may_read = reads && !purpose && wanted == LOCK_SHARED};
    text_append(&action, doing);
    if (purpose) {
        text_append(&action, ", ");
        text_append(&action, purpose);
    }
    const bool marked = attempt->marked && !attempt->problem.blocked;
    if (marked) see_stranger(claim, attempt);
    if (attempt->problem.blocked)
        message_blocked(claim->settings, claim->path, words, lock_descriptor,
                        (enum operation)(attempt->problem.blocked - 1));
    else if (marked)
        stranger_tell(claim->settings, claim->path, words, lock_descriptor, &attempt->stranger, error ? &advice : NULL);
    else
        message_conflict(claim->settings, claim->path, words, lock_descriptor, wanted, operations_of(claim), NULL,
                         error ? &advice : NULL);
    if (marked && attempt->stranger.counted) {
        attempt->about.marker = NULL;
        attempt->about.outsider = &attempt->stranger.outsider;
    }
    audit_conflict(claim->settings, &attempt->about, claim->flags, wanted, error);
}

/* Of a mark that nobody can be shown to have, the lock that was had beside it may tell. */
static void open_to_tell(const struct claim *claim, struct attempt *attempt)
{
    struct lock_problem ignored;
    if (attempt->marked && !attempt->stranger.marker.pid && !attempt->stranger.marker.use && attempt->opened < 0)
        attempt->opened = lock_open_existing(claim->settings->directory, &attempt->name, &ignored);
}

static void tell(const struct claim *claim, struct attempt *attempt, enum outcome outcome, int error,
                 const struct track_hold *hold)
{
    const struct settings *settings = claim->settings;
    struct audit_image *about = &attempt->about;
    if (outcome == OUTCOME_CONFLICT) open_to_tell(claim, attempt);
    if (outcome != OUTCOME_HELD || settings->audit) {
        about->lock_descriptor = descriptor_to_ask(attempt);
        about->marker = attempt->marked ? &attempt->stranger.marker : NULL;
    }
    switch (outcome) {
    case OUTCOME_HELD:
        tell_held(claim, attempt, hold);
        return;
    case OUTCOME_DEGRADED:
        message_degraded(settings, claim->path, about->lock_descriptor, 0,
                         attempt->marked ? &attempt->stranger.marker : NULL);
        audit_conflict(settings, about, claim->flags, attempt->decision.mode, 0);
        audit_acquire(settings, about, LOCK_SHARED, 0, hold->family);
        return;
    case OUTCOME_CONFLICT:
    case OUTCOME_UNLOCKED:
        tell_conflict(claim, attempt, error);
        return;
    case OUTCOME_OUTSIDER:
        message_outsider(settings, claim->path, claim_action(claim->flags), &attempt->counted_outsider);
        about->outsider = &attempt->counted_outsider;
        audit_conflict(settings, about, claim->flags, attempt->decision.mode, error);
        return;
    case OUTCOME_PROBLEM:
        if (attempt->decision.mode < LOCK_SHARED) return;
        message_problem(settings, claim->path, claim_action(claim->flags), &attempt->name, &attempt->problem);
        audit_problem(settings, about, attempt->problem.what, attempt->problem.error, error);
        return;
    case OUTCOME_BESIDE:
    case OUTCOME_GONE:
    case OUTCOME_INTERRUPTED:
        return;
    }
}

/* ---- all of it ------------------------------------------------------------------------------------------- */

/* An open that excludes nobody, or that several who write are meant to share, is in nobody's way; and an image that is
 * open already came through exec.  Not where the program has record locks on it, which any close would drop, nor with
 * O_ASYNC, which the end of the lease takes off. */
static bool minds_outsiders(const struct claim *claim, const struct attempt *attempt)
{
    return claim->settings->outsiders != OUTSIDERS_IGNORE && claim->status && !claim->inherited &&
           attempt->decision.mode >= LOCK_SHARED && !attempt->decision.shares && S_ISREG(claim->status->st_mode) &&
           !(claim->flags & O_ASYNC) && !record_locks_on(claim->status);
}

static void prepare(const struct claim *claim, struct attempt *attempt)
{
    const struct settings *settings = claim->settings;
    const bool warn = settings->on_conflict == CONFLICT_WARN;
    const enum lock_mode mode = attempt->decision.mode;
    lock_name_of_image(claim->path, claim->status, &attempt->name);
    attempt->request = (struct track_request){.lock = {.name = &attempt->name,
                                                       .directory = settings->directory,
                                                       .image_path = claim->path,
                                                       .mode = mode,
                                                       .relatives = settings->family,
                                                       .patient = settings->wait_ns != 0,
                                                       .repeats = settings->wait_ns >= LOCK_GRACE_NS,
                                                       .operations = operations_of(claim),
                                                       .block = mode < LOCK_SHARED ? 0 : settings->block,
                                                       .reason = settings->reason,
                                                       .deadline = claim->time->deadline},
                                              .watch = warn && settings->wait_ns == 0,
                                              .attach_to = claim->attach && !warn ? claim->descriptor : -1,
                                              .close_on_exec = claim->flags & O_CLOEXEC,
                                              .mark = claim->status ? claim->mark : -1,
                                              .access = claim->flags & O_ACCMODE,
                                              .lease = F_UNLCK,
                                              .set_marks = !warn,
                                              .inherited = claim->inherited};
    attempt->about = (struct audit_image){.path = claim->path, .name = &attempt->name, .lock_descriptor = -1};
    /* What is marked and is not the program's own is never for exec. */
    attempt->place =
        (struct outside_place){.request = &attempt->request,
                               .close_on_exec = claim->mark == claim->descriptor ? claim->flags & O_CLOEXEC : O_CLOEXEC,
                               .replaced = -1};
    if (!claim->status) return;
    attempt->request.first = claim->also && claim->also->before < LOCK_SHARED;
    if (claim->mark >= 0 && (!claim->also || attempt->request.first) && minds_outsiders(claim, attempt))
        attempt->request.lease = attempt->request.access == O_RDONLY ? F_RDLCK : F_WRLCK;
    attempt->about.device = attempt->request.device = claim->status->st_dev;
    attempt->about.inode = attempt->request.inode = claim->status->st_ino;
    if (!settings->key_inode || S_ISBLK(claim->status->st_mode)) return;
    lock_name_of_inode(claim->status, &attempt->inode_name);
    attempt->request.inode_name = &attempt->inode_name;
    attempt->request.inode_opened = &attempt->inode_opened;
}

int claim_image(struct claim *claim, struct track_hold *hold)
{
    struct attempt attempt = {
        .opened = -1, .inode_opened = -1, .descriptor = claim->descriptor, .device.lock_descriptor = -1};
    struct _pthread_cleanup_buffer cleanup;
    attempt.problem.owner = (uid_t)-1;
    attempt.decision = policy_decide(claim->settings, claim->path, claim->flags, claim->status);
    claim->degraded = false;
    if (!attempt.decision.locked) return 0;
    if (attempt.decision.refusal) return refuse_by_mode(claim, attempt.decision.refusal);
    claim_start(claim->time, claim->settings);
    stop_waiting_again(claim);
    prepare(claim, &attempt);
    track_ask_again_of(&attempt.name);
    /* From the first try on: signals are blocked meanwhile, and come when it is over. */
    _pthread_cleanup_push(&cleanup, abandon_attempt, &attempt);
    enum outcome outcome = acquire(claim, &attempt, hold);
    if (outcome <= OUTCOME_DEGRADED && hold->crowded) outcome = ask_outside(claim, &attempt, hold, outcome);
    if (attempt.place.replaced >= 0) outcome = step_forth(claim, &attempt, hold, outcome);
    const int error = outcome_errno(claim, &attempt, outcome);
    if (outcome == OUTCOME_DEGRADED || outcome == OUTCOME_CONFLICT || outcome == OUTCOME_OUTSIDER)
        note_vain_wait(claim);
    tell(claim, &attempt, outcome, error, hold);
    close_now(&attempt.opened);
    close_now(&attempt.inode_opened);
    close_now(&attempt.device.lock_descriptor);
    _pthread_cleanup_pop(&cleanup, 0);
    claim->degraded = outcome == OUTCOME_DEGRADED;
    if (outcome == OUTCOME_PROBLEM && attempt.decision.mode < LOCK_SHARED) *hold = (struct track_hold){0};
    if (error) track_drop(hold);
    if (claim->status) {
        hold->device = claim->status->st_dev;
        hold->inode = claim->status->st_ino;
    }
    return error;
}
