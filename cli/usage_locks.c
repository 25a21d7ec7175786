/* usage_locks.c: who uses a lock: its lock file's records and what processes hold put together. */
#include "usage_locks.h"

#include <string.h>

#include "holders.h"
#include "joining.h"
#include "lock.h"
#include "lock_cache.h"
#include "looked_locks.h"

/* ---- what is told of one ------------------------------------------------------------------------------------ */

static struct usage *add_usage(struct joining *joining, const struct looked_lock *lock, enum usage_kind kind,
                               enum lock_mode mode)
{
    const struct usage usage = {.image = lock->image ? joining->list->images[lock->image - 1].path : NULL,
                                .name = &lock->name,
                                .mode = mode,
                                .kind = kind,
                                .descriptor = -1,
                                .loop = -1};
    return joining_add(joining->list, &usage);
}

/* What its record says beside what is known of the process.  It blocks what the kernel says is blocked. */
static void tell_note(struct usage *usage, const struct looked_lock *lock, const struct holder *holder)
{
    usage->since_ms = holder->since_ms;
    usage->block = holder->block & lock->blocked;
    memcpy(usage->reason, holder->reason, sizeof usage->reason);
}

static void tell_record(struct usage *usage, const struct holder *holder)
{
    usage->pid = holder->process.pid;
    usage->uid = holder->uid;
    usage->uid_known = true;
    usage->start = holder->process.start;
    usage->boot = holder->process.boot;
    usage->pid_space = holder->process.pid_space;
    usage->descriptor = holder->descriptor;
    memcpy(usage->command, holder->process.command, sizeof usage->command);
    memcpy(usage->host, holder->process.host, sizeof usage->host);
}

/* Is the process told already as a user of this lock, by the same descriptor? */
static bool is_in_list(const struct joining *joining, const struct finding *finding)
{
    for (size_t i = joining->first; i < joining->list->count; i++) {
        const struct usage *usage = &joining->list->usages[i];
        if (usage->pid == finding->pid && usage->descriptor == finding->descriptor) return true;
    }
    return false;
}

/* It has the image open without its lock, by IMGLOCK_ON_CONFLICT=warn or as a mode allows, or only blocks operations,
 * and it says so itself. */
static bool says_unlocked(const struct holder *holder)
{
    return holder->recorded && holder->mode < LOCK_SHARED;
}

/* Of one that holds no lock. */
static enum usage_kind kind_without_lock(const struct looked_lock *lock, const struct holder *holder, bool recorded)
{
    if (!(holder->block & lock->blocked)) return KIND_OPEN;
    return recorded ? KIND_BLOCKER : KIND_INHERITED;
}

static bool is_user(const struct joining *joining, pid_t pid)
{
    for (size_t i = joining->first; i < joining->list->count; i++)
        if (joining->list->usages[i].pid == pid && joining->list->usages[i].mode >= LOCK_SHARED) return true;
    return false;
}

static enum lock_mode mode_of(const struct finding *finding)
{
    return finding->own > finding->beside ? finding->own : finding->beside;
}

/* ---- those of a slot ---------------------------------------------------------------------------------------- */

/* The process that a finding is of holds the slot. */
static void join_finding(struct joining *joining, const struct looked_lock *lock, const struct looked_slot *slot,
                         const struct finding *finding)
{
    const struct holder *holder = &slot->holder;
    struct process_facts process;
    if (is_in_list(joining, finding) || !joining_look_up(joining, finding->pid, &process)) return;
    bool this_boot = holder->recorded && holder->process.boot == joining->self->boot;
    bool recorded = this_boot && holder->process.start == process.start && holder->process.pid == process.inner_pid &&
                    (holder->process.pid_space == process.pid_space || !process.pid_space);
    enum lock_mode mode = mode_of(finding);
    bool noted = mode == LOCK_NONE && says_unlocked(holder);
    if (noted) mode = holder->mode;
    enum usage_kind kind = mode < LOCK_SHARED ? kind_without_lock(lock, holder, recorded)
                           : recorded         ? holder->beside ? KIND_HELPER : KIND_HOLDER
                           : this_boot        ? KIND_INHERITED
                                              : KIND_UNRECORDED;
    struct usage *usage = add_usage(joining, lock, kind, mode);
    joining_tell_process(joining, usage, &process);
    usage->descriptor = finding->descriptor;
    usage->noted = noted;
    usage->recorded = recorded;
    if (this_boot) tell_note(usage, lock, holder);
}

enum claim { CLAIM_GONE, CLAIM_SAME, CLAIM_CHANGED };

/* Is the lock still held, and the slot still claimed as it was seen?  Holders come and go between the look at the lock
 * file and that at the processes. */
static enum claim look_again(const struct joining *joining, const struct looked_lock *lock,
                             const struct looked_slot *slot)
{
    struct lock_problem problem;
    struct holder now;
    int descriptor = lock_cache_open(joining->question, &lock->name, &problem);
    if (descriptor < 0) return CLAIM_GONE;
    bool held = (slot && says_unlocked(&slot->holder)) || lock_in_the_way(descriptor, LOCK_EXCLUSIVE) > 0;
    enum claim claim = held ? CLAIM_SAME : CLAIM_GONE;
    if (slot && claim == CLAIM_SAME) {
        const struct holder *before = &slot->holder;
        if (!holders_next(descriptor, before->slot, &now) || now.slot != before->slot)
            claim = CLAIM_GONE;
        else if (now.recorded != before->recorded || now.process.pid != before->process.pid ||
                 now.process.start != before->process.start)
            claim = CLAIM_CHANGED;
    }
    lock_cache_close(joining->question, descriptor);
    return claim;
}

/* No process that can be looked into holds the slot. */
static void join_record(struct joining *joining, const struct looked_lock *lock, const struct looked_slot *slot)
{
    const struct holder *holder = &slot->holder;
    const struct process_identity *self = joining->self;
    bool noted = says_unlocked(holder);
    enum lock_mode mode = noted || (holder->recorded && holder->mode < lock->mode) ? holder->mode : lock->mode;
    enum usage_kind kind = noted ? kind_without_lock(lock, holder, true) : holder->beside ? KIND_HELPER : KIND_HOLDER;
    bool local = holder->recorded && holder->process.boot == self->boot &&
                 holder->process.pid_space == self->pid_space && strcmp(holder->process.host, self->host) == 0;
    struct process_facts process;
    struct usage *usage;
    if (local && process_look_up(holder->process.pid, &process) && process.start == holder->process.start &&
        !scan_has_seen(joining->scan, holder->process.pid)) {
        usage = add_usage(joining, lock, kind, mode);
        joining_tell_process(joining, usage, &process);
        usage->descriptor = holder->descriptor;
    } else {
        if (slot->doubtful) return;
        enum claim claim = look_again(joining, lock, slot);
        if (claim == CLAIM_GONE) return;
        joining->changed |= claim == CLAIM_CHANGED;
        if (holder->recorded && (!local || joining->scan->error)) {
            usage = add_usage(joining, lock, local ? kind : KIND_FOREIGN, mode);
            tell_record(usage, holder);
        } else {
            usage = add_usage(joining, lock, holder->recorded ? KIND_INHERITED : KIND_UNRECORDED, mode);
        }
    }
    usage->noted = noted;
    if (holder->recorded) tell_note(usage, lock, holder);
}

/* Is the slot, by its record, another's than the process's that the finding is of? */
static bool is_slot_of_another(const struct joining *joining, const struct looked_slot *slot,
                               const struct finding *finding)
{
    const struct holder *holder = &slot->holder;
    struct process_facts process;
    return holder->recorded &&
           (holder->process.boot != joining->self->boot || !process_look_up(finding->pid, &process) ||
            process.start != holder->process.start || process.inner_pid != holder->process.pid);
}

/* One slot is one open file description: the process that took the lock, and those that have it from there by
 * inheritance, are one row.  before: where the slot's usages start. */
static void note_sharers(struct usage_list *list, size_t before)
{
    if (list->count <= before + 1) return;
    size_t first = before;
    for (size_t i = before; i < list->count; i++)
        if (list->usages[i].recorded && !list->usages[first].recorded) first = i;
    for (size_t i = before; i < list->count; i++) list->usages[i].same = i != first;
    list->usages[first].sharers = (unsigned)(list->count - before - 1);
}

static void join_slot(struct joining *joining, const struct looked_lock *lock, const struct looked_slot *slot)
{
    size_t count;
    const struct finding *findings = scan_findings(joining->scan, lock->file, &count);
    size_t before = joining->list->count;
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        if (findings[i].slot != slot->holder.slot) continue;
        bool stale = mode_of(&findings[i]) == LOCK_NONE && !says_unlocked(&slot->holder);
        if (stale && is_slot_of_another(joining, slot, &findings[i])) continue;
        found = true;
        /* It has given the lock away, in a hand-over that was killed before it wrote so: one that has the image open,
         * unless it blocks operations still. */
        if (stale && !(slot->holder.recorded && slot->holder.block & lock->blocked)) continue;
        /* A process may have several descriptors of one lock. */
        if (i > 0 && findings[i - 1].pid == findings[i].pid && findings[i - 1].slot == findings[i].slot) continue;
        join_finding(joining, lock, slot, &findings[i]);
    }
    if (!found) join_record(joining, lock, slot);
    note_sharers(joining->list, before);
}

/* ---- those whom no record tells ----------------------------------------------------------------------------- */

static bool knows_slot(const struct looked_lock *lock, int slot)
{
    for (size_t i = 0; slot >= 0 && i < lock->slot_count; i++)
        if (lock->slots[i].holder.slot == slot) return true;
    return false;
}

static void join_unrecorded(struct joining *joining, const struct looked_lock *lock)
{
    size_t count;
    const struct finding *findings = scan_findings(joining->scan, lock->file, &count);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        struct process_facts process;
        if (knows_slot(lock, findings[i].slot) || mode_of(&findings[i]) == LOCK_NONE) continue;
        found = true;
        if (is_user(joining, findings[i].pid) || !joining_look_up(joining, findings[i].pid, &process)) continue;
        struct usage *usage = add_usage(joining, lock, KIND_UNRECORDED, mode_of(&findings[i]));
        joining_tell_process(joining, usage, &process);
        usage->descriptor = findings[i].descriptor;
    }
    bool explained = false;
    for (size_t i = joining->first; i < joining->list->count; i++)
        explained |= joining->list->usages[i].mode >= LOCK_SHARED;
    if (explained && (found || !lock->whole)) return;
    if (look_again(joining, lock, NULL) == CLAIM_GONE) return;
    if (found && !joining->last_attempt) {
        joining->changed = true;
        return;
    }
    struct usage *usage = add_usage(joining, lock, KIND_UNRECORDED, lock->mode);
    struct process_facts process;
    if (lock->process_lock_pid && process_look_up(lock->process_lock_pid, &process))
        joining_tell_process(joining, usage, &process);
}

/* Operations that are blocked, and no record says by whom. */
static void join_blockers(struct joining *joining, const struct looked_lock *lock)
{
    struct lock_problem problem;
    struct usage *silent = NULL;
    unsigned left = lock->blocked;
    for (size_t i = joining->first; i < joining->list->count; i++) {
        struct usage *usage = &joining->list->usages[i];
        left &= ~usage->block;
        if (usage->kind == KIND_UNRECORDED) silent = usage;
    }
    if (!left) return;
    if (!silent) {
        /* A blocker that came or went between the look at its byte and that at its slot? */
        int descriptor = lock_cache_open(joining->question, &lock->name, &problem);
        if (descriptor < 0) return;
        left &= lock_find_blocked(descriptor);
        lock_cache_close(joining->question, descriptor);
        if (!left) return;
        if (!joining->last_attempt) {
            joining->changed = true;
            return;
        }
        silent = add_usage(joining, lock, KIND_UNRECORDED, LOCK_NONE);
        silent->noted = true;
    }
    silent->block = left;
}

/* Those who wait for the lock. */
static void join_waiting(struct joining *joining, const struct looked_lock *lock)
{
    size_t count;
    const struct finding *findings = scan_findings(joining->scan, lock->file, &count);
    for (size_t i = 0; i < count; i++) {
        struct process_facts process;
        if (!findings[i].waits || is_user(joining, findings[i].pid)) continue;
        if (i > 0 && findings[i - 1].waits && findings[i - 1].pid == findings[i].pid) continue;
        if (!joining_look_up(joining, findings[i].pid, &process)) continue;
        struct usage *usage = add_usage(joining, lock, KIND_WAITING, LOCK_NONE);
        joining_tell_process(joining, usage, &process);
        usage->descriptor = findings[i].descriptor;
        usage->first = findings[i].gate;
        usage->noted = true;
    }
}

/* ---- where the kernel shows no locks ------------------------------------------------------------------------ */

/* Is it the very process of the record, with the lock file open by the descriptor that the record names? */
static bool is_on_record(const struct joining *joining, const struct holder *holder, const struct finding *finding)
{
    const struct process_identity *self = joining->self, *recorded = &holder->process;
    struct process_facts process;
    return holder->recorded && finding->descriptor == holder->descriptor && recorded->boot == self->boot &&
           process_look_up(finding->pid, &process) && process.start == recorded->start &&
           process.inner_pid == recorded->pid && process.pid_space == recorded->pid_space &&
           /* The clone of a machine has its numbers, too. */
           (process.pid_space != self->pid_space || !process_is_of_another_host(recorded));
}

/* Where the kernel shows no locks (FUSE), those who are still there by their records have what these say: that a lock
 * is held, and each slot claimed, the server has said. */
static void explain_by_records(const struct joining *joining, const struct looked_lock *lock)
{
    struct process_scan *scan = joining->scan;
    size_t count;
    const struct finding *first = scan_findings(scan, lock->file, &count);
    for (size_t i = 0; i < count; i++) {
        struct finding *finding = &scan->findings[first - scan->findings + i];
        for (size_t j = 0; j < lock->slot_count && finding->slot < 0; j++) {
            const struct holder *holder = &lock->slots[j].holder;
            if (!is_on_record(joining, holder, finding)) continue;
            finding->slot = holder->slot;
            finding->waits = false;
            enum lock_mode *mode = holder->beside ? &finding->beside : &finding->own;
            if (lock->held && holder->mode >= LOCK_SHARED)
                *mode = holder->mode < lock->mode ? holder->mode : lock->mode;
        }
    }
}

/* ---- all of them -------------------------------------------------------------------------------------------- */

static void join_lock(struct joining *joining, const struct looked_lock *lock)
{
    joining->first = joining->list->count;
    for (size_t i = 0; i < lock->slot_count; i++)
        if (lock->held || says_unlocked(&lock->slots[i].holder)) join_slot(joining, lock, &lock->slots[i]);
    if (lock->held) join_unrecorded(joining, lock);
    if (lock->blocked) join_blockers(joining, lock);
    join_waiting(joining, lock);
}

void join_locks(struct joining *joining)
{
    const struct usage_list *list = joining->list;
    for (size_t i = 0; i < list->lock_count; i++) {
        if (!list->locks[i].rows) explain_by_records(joining, &list->locks[i]);
        join_lock(joining, &list->locks[i]);
    }
}
