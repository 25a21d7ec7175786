#include "track.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "asking.h"
#include "audit.h"
#include "blocker.h"
#include "count.h"
#include "descriptor.h"
#include "fork.h"
#include "holders.h"
#include "images.h"
#include "markers.h"
#include "marks.h"
#include "message.h"
#include "policy.h"
#include "section.h"
#include "sys.h"
#include "threads.h"
#include "watcher.h"

/* ---- entering ------------------------------------------------------------------------------------------- */

static void end_marks(void);

/* This process is a fork child: what it finds is its parent's. */
static void adopt(void)
{
    images_inherit_all();
    children_forget();
    process_forget_self();
    record_forget();
    end_marks();
    watcher_abandon();
}

/* Enters the section.  False: this is a vfork child, and the table is another process's. */
static bool enter_as(pid_t thread, sys_signals *before)
{
    enum section_entry entry = section_enter(thread, before);
    if (entry == SECTION_NEW_PROCESS) adopt();
    return entry != SECTION_FOREIGN;
}

static bool enter(sys_signals *before)
{
    return enter_as(sys_gettid(), before);
}

static void leave(const sys_signals *before)
{
    images_drop_displaced();
    section_leave(before);
}

/* A fork child that comes here for the first time. */
static void adopt_if_new(void)
{
    sys_signals before;
    if (section_process() != 0) return;
    enter(&before);
    leave(&before);
}

/* ---- children ------------------------------------------------------------------------------------------- */

static void before_fork(void)
{
    if (section_before_fork() == SECTION_NEW_PROCESS) adopt();
}

static void after_fork_in_parent(void)
{
    /* No section, no lock; and to write here is to copy a page after each fork of a shell. */
    if (section_exists()) children_note();
    section_after_fork_in_parent();
}

static void after_fork_in_child(void)
{
    sys_signals before;
    process_forget_self();
    record_forget();
    if (section_after_fork_in_child(&before)) {
        adopt();
        leave(&before);
    } else {
        children_forget();
    }
}

void track_start(void)
{
    section_start();
    fork_handlers(before_fork, after_fork_in_parent, after_fork_in_child);
}

void track_begin_child(enum track_child child)
{
    if (child != TRACK_PROGRAM) section_prepare();
    if (child == TRACK_SHARER) section_expect_sharers();
    /* What its parent was making is the parent's. */
    if (section_exists()) adopt_if_new();
    children_begin();
}

void track_end_child(void)
{
    children_end();
}

void track_note_child(void)
{
    if (section_exists()) children_note();
}

/* ---- the parked inotify instance ------------------------------------------------------------------------ */

int track_take_watcher(void)
{
    sys_signals before;
    int taken = enter(&before) ? watcher_take() : -1;
    leave(&before);
    return taken;
}

void track_park_watcher(int inotify, int watch)
{
    sys_signals before;
    if (inotify < 0) return;
    bool parked = false;
    if (enter(&before) && !watcher_is_there()) {
        inotify = descriptor_move_high(inotify, false);
        parked = images_set_private(inotify, 0);
        if (parked) watcher_park(inotify, watch);
    }
    leave(&before);
    if (!parked) sys_close(inotify);
}

/* ---- holds ---------------------------------------------------------------------------------------------- */

/* The locks that vfork children have taken last.  They are not in the table, which is their parent's; but the memory is
 * shared, and a child that opens an image a second time must not meet its own lock. */
enum { FOREIGN_LOCKS = 4 };
static struct foreign_lock {
    pid_t process;
    struct lock_name name;
    struct lock lock;
} foreign_locks[FOREIGN_LOCKS];
static unsigned foreign_count;

/* The one that this child has of an image, or NULL; number: the parent's image of that name, or 0.  One of an earlier
 * child with the same pid is told by its descriptor: that is closed here, or is the parent's. */
static struct lock *find_foreign(const struct lock_name *name, uint32_t number)
{
    const pid_t self = sys_getpid();
    const int parents = number ? images_at(number)->lock.descriptor : -1;
    for (int i = 0; i < FOREIGN_LOCKS; i++) {
        struct foreign_lock *one = &foreign_locks[i];
        if (one->process == self && memcmp(one->name.hex, name->hex, sizeof name->hex) == 0 &&
            one->lock.descriptor != parents && lock_is_open(&one->lock))
            return &one->lock;
    }
    return NULL;
}

static void note_foreign(const struct lock_name *name, const struct lock *lock)
{
    foreign_locks[foreign_count++ % FOREIGN_LOCKS] = (struct foreign_lock){sys_getpid(), *name, *lock};
}

/* In a vfork child: the table is the parent's and stays as it is.  Its locks are open here as well, under the same
 * numbers, so an image that the parent holds strongly enough needs nothing more; for another a lock of the child's
 * own is taken, which ends with the child or passes through its exec. */
static enum lock_result lock_foreign(const struct track_request *request, struct track_hold *hold, int *opened,
                                     struct lock_problem *problem, bool *first)
{
    *first = false;
    *hold = (struct track_hold){.foreign = true, .mode = request->lock.mode, .foreign_private = -1};
    uint32_t number = images_find(request->lock.name);
    if (number && images_at(number)->lock.mode >= request->lock.mode) {
        hold->foreign_private = images_at(number)->lock.descriptor;
        problem->blocked = blocker_find(hold->foreign_private, request->lock.operations);
        return problem->blocked ? LOCK_BUSY : LOCK_TAKEN;
    }
    struct lock *own = find_foreign(request->lock.name, number);
    enum lock_result result = LOCK_TAKEN;
    if (own) {
        if (own->mode < request->lock.mode) result = lock_convert(own, &request->lock, problem);
        hold->foreign_private = own->descriptor;
        return result;
    }
    struct relatives_known known = {.descriptor = number ? images_at(number)->lock.descriptor : -1};
    struct lock_request beside = request->lock;
    struct lock lock;
    beside.known = &known;
    result = lock_take(&beside, &lock, opened, problem);
    if (result == LOCK_TAKEN) {
        *first = !number && !lock_is_beside(&lock);
        note_foreign(request->lock.name, &lock);
        hold->foreign_private = lock.descriptor;
    }
    return result;
}

/* Asks who else has the image open, at the first open for reading and the first for writing.  Who comes later comes to
 * a process that has it: to refuse that a further descriptor, by whatever name, would keep nobody out.  replaced:
 * another file lies at the name than the one that somebody was asked about, if any was. */
static void count(const struct track_request *request, struct track_hold *hold, bool replaced)
{
    SECTION_ASSERT();
    if (request->lease == F_UNLCK || (!request->first && !replaced && hold->before >= hold->mode)) return;
    hold->crowded =
        count_ask_unsignalled(request->mark, request->lease, request->device, section_thread()) == COUNT_SOMEBODY;
}

/* The same, and the mark.  What the child has beside its parent is not told apart from what that has. */
static enum lock_result take_foreign(const struct track_request *request, struct track_hold *hold, int *opened,
                                     struct lock_problem *problem, struct bytes_found *found)
{
    bool first;
    const enum lock_result result = lock_foreign(request, hold, opened, problem, &first);
    if (result == LOCK_TAKEN) count(request, hold, false);
    if (result != LOCK_TAKEN || request->mark < 0 || hold->mode < LOCK_SHARED ||
        !mark_is_possible(request->mark, request->device))
        return result;
    bool excluded = request->set_marks && !marks_are_given_up(request->device, request->inode) &&
                    mark_set(request->mark, hold->mode, request->access) < 0;
    if (first) hold->disputed = mark_is_in_the_way(request->mark, hold->mode, request->access, found) || excluded;
    return result;
}

static void drop_entry(int descriptor, uint64_t entry);

/* A call of the program has just got this number: what the table says of it is out of date. */
static void forget_stale(int descriptor)
{
    SECTION_ASSERT();
    uint64_t entry = table_entry(descriptor);
    if (__builtin_expect(entry == 0, 1)) return;
    if (watcher_is(descriptor)) {
        table_set(descriptor, 0);
        watcher_move(-1);
    } else if (table_is_hold(entry)) {
        drop_entry(descriptor, entry);
    } else if (table_kind(entry) == TABLE_PRIVATE) {
        images_lost_private(descriptor);
    }
}

/* Writes the hold into the table, where the descriptor has it from now on.  False without memory. */
static bool bind(struct track_hold *hold, int descriptor, bool close_on_exec)
{
    SECTION_ASSERT();
    static uint64_t bound;
    /* Another thread may have bound the number since the caller looked. */
    forget_stale(descriptor);
    enum table_kind kind = hold->mode == LOCK_EXCLUSIVE ? TABLE_EXCLUSIVE : TABLE_SHARED;
    if (!table_set(descriptor, table_make(kind, close_on_exec, hold->image) | bound++ << TABLE_NUMBER_BIT))
        return false;
    struct tracked_image *image = images_at(hold->image);
    if (hold->inode) {
        image->device = hold->device;
        image->inode = hold->inode;
    }
    if (!close_on_exec) images_count_inheritable(hold->image, 1);
    hold->image = 0;
    return true;
}

/* The lock by inode that goes with the one by path, in the same mode.  *number: its image. */
static enum lock_result take_by_inode(const struct track_request *request, const struct lock_request *by_path_request,
                                      uint32_t by_path, uint32_t *number, struct lock_problem *problem)
{
    enum lock_mode had;
    struct lock_request by_inode = *by_path_request;
    int fresh = -1;
    by_inode.name = request->inode_name ? request->inode_name : &images_at(images_at(by_path)->companion)->name;
    enum lock_result result =
        images_take(&by_inode, false, number, request->inode_opened ? request->inode_opened : &fresh, &had, problem);
    if (fresh >= 0) sys_close(fresh);
    return result;
}

/* The image that a hold is of, which may be bound already; 0: none, as in a vfork child. */
static uint32_t image_of(const struct track_request *request, const struct track_hold *hold)
{
    const uint64_t entry = hold->attached ? table_entry(request->attach_to) : 0;
    return table_is_hold(entry) ? table_image(entry) : hold->image;
}

/* Marks what the lock has been taken for. */
static void mark(uint32_t image, const struct track_request *request, struct track_hold *hold,
                 struct bytes_found *found)
{
    const struct marks_request marks = {.descriptor = request->mark,
                                        .access = request->access,
                                        .device = request->device,
                                        .inode = request->inode,
                                        .set = request->set_marks,
                                        .inherited = request->inherited,
                                        .inside = hold->family};
    const enum marks_answer answer = marks_put(image, hold->mode, &marks, found);
    hold->disputed = answer != MARKS_FREE;
    hold->beside_own = answer == MARKS_TAKEN_BESIDE;
}

static enum lock_result take_once(const struct track_request *request, bool watch, struct track_hold *hold, int *opened,
                                  struct lock_problem *problem, struct bytes_found *found)
{
    sys_signals before;
    uint32_t by_path = 0;
    uint32_t by_inode = 0;
    *hold = (struct track_hold){0};
    if (!enter(&before)) {
        enum lock_result result = take_foreign(request, hold, opened, problem, found);
        leave(&before);
        return result;
    }
    enum lock_mode had;
    struct lock_request by_path_request = request->lock;
    by_path_request.section = section_process();
    by_path_request.through_exec = request->attach_to >= 0 && !request->close_on_exec;
    enum lock_result result = images_take(&by_path_request, watch, &by_path, opened, &had, problem);
    if (result == LOCK_TAKEN && (request->inode_name || images_at(by_path)->companion))
        result = take_by_inode(request, &by_path_request, by_path, &by_inode, problem);
    uint32_t held = by_path;
    if (result == LOCK_TAKEN && by_inode && !(held = images_join(by_path, by_inode, problem))) result = LOCK_FAILED;
    if (result == LOCK_TAKEN || (result == LOCK_BUSY && watch && by_path)) {
        struct tracked_image *image = images_at(by_path);
        images_count(held, request->lock.mode);
        hold->image = held;
        hold->mode = request->lock.mode;
        hold->before = had;
        hold->family = lock_is_beside(&image->lock);
        hold->device = request->device;
        hold->inode = request->inode;
        if (request->mark >= 0 && result == LOCK_TAKEN) {
            const bool replaced =
                had >= LOCK_SHARED && (image->inode != request->inode || image->device != request->device);
            mark(held, request, hold, found);
            count(request, hold, replaced);
        }
        hold->attached = request->attach_to >= 0 && bind(hold, request->attach_to, request->close_on_exec);
    } else {
        images_settle(by_path);
        images_settle(by_inode);
    }
    leave(&before);
    return result;
}

/* Is nobody in the way, as far as records tell, but children of this process?  They are no more than a hint: who forges
 * one makes us try again for a moment. */
static bool children_are_in_the_way(const struct track_request *request, int lock_descriptor)
{
    struct track_own own;
    struct holder holder;
    uint64_t start;
    pid_t parent;
    const pid_t self = sys_getpid();
    if (lock_descriptor < 0 && track_own_lock(request->lock.name, &own)) lock_descriptor = own.descriptor;
    struct holders_walk walk = holders_begin(lock_descriptor);
    bool any = false;
    while (holders_walk(&walk, &holder)) {
        if (!holder.recorded || holder.mode < LOCK_SHARED) continue;
        if (!process_is_of_here(&holder.process)) return false;
        if (holder.process.pid == self) continue;
        if (process_read_stat(holder.process.pid, &start, &parent, NULL) && parent != self) return false;
        any = true;
    }
    return any;
}

enum { CHILD_NS = 100 * 1000 * 1000 };

enum lock_result track_take(const struct track_request *request, struct track_hold *hold, int *opened,
                            struct lock_problem *problem, struct bytes_found *found)
{
    enum lock_result result = take_once(request, false, hold, opened, problem, found);
    /* A child that is being made has what this process has closed meanwhile, and is nowhere to be seen yet; another has
     * the image for a moment, before it runs its program or ends.  They are given that moment, outside the section:
     * bare libc would let both in. */
    for (int64_t deadline = 0; result == LOCK_BUSY && !problem->blocked && children_now() != 0;) {
        if (!problem->given && !children_are_in_the_way(request, *opened)) break;
        if (!deadline) deadline = sys_monotonic() + CHILD_NS;
        if (!sys_pause(deadline)) break;
        result = take_once(request, false, hold, opened, problem, found);
    }
    return result == LOCK_BUSY && request->watch ? take_once(request, true, hold, opened, problem, found) : result;
}

bool track_is_closing(const struct track_request *request)
{
    sys_signals before;
    const bool closing = enter(&before) && marks_are_closing(request->device, request->inode);
    leave(&before);
    return closing;
}

bool track_is_disputed(const struct track_request *request, struct track_hold *hold, struct bytes_found *found)
{
    sys_signals before;
    if (hold->foreign) return mark_is_in_the_way(request->mark, hold->mode, request->access, found);
    if (enter(&before)) mark(image_of(request, hold), request, hold, found);
    leave(&before);
    return hold->disputed;
}

void track_accept(const struct track_request *request, struct track_hold *hold)
{
    sys_signals before;
    hold->disputed = false;
    if (hold->foreign) return;
    if (enter(&before)) {
        marks_accept(image_of(request, hold), hold->mode);
        images_at(image_of(request, hold))->beside_marks = true;
    }
    leave(&before);
}

void track_move_marks(const struct track_request *request, int to, int access)
{
    if (request->set_marks && request->lock.mode >= LOCK_SHARED &&
        !marks_are_given_up(request->device, request->inode) && mark_is_possible(to, request->device))
        mark_move(request->mark, to, request->lock.mode, access);
}

void track_mark(int descriptor, const struct stat *status, enum lock_mode mode, int access)
{
    if (settings_get()->on_conflict == CONFLICT_WARN || marks_are_given_up(status->st_dev, status->st_ino) ||
        !mark_is_possible(descriptor, status->st_dev))
        return;
    mark_set(descriptor, mode, access);
}

void track_give_back(const struct track_request *request, struct track_hold *hold)
{
    struct track_closing closing = {0};
    hold->disputed = false;
    if (request->mark >= 0 && request->set_marks && !request->inherited) mark_clear(request->mark);
    if (hold->attached) track_begin_close(&closing, request->attach_to);
    track_end_close(&closing);
    track_drop(hold);
}

int track_attach(struct track_hold *hold, int descriptor, bool close_on_exec)
{
    sys_signals before;
    int result = 0;
    if (hold->foreign) {
        /* What the image's descriptor survives, the lock survives. */
        if (!close_on_exec && hold->foreign_private >= 0) sys_fcntl(hold->foreign_private, F_SETFD, 0);
        *hold = (struct track_hold){0};
        return 0;
    }
    if (!hold->image) return 0;
    track_opened(descriptor);
    if (enter(&before) && !bind(hold, descriptor, close_on_exec)) result = -ENOMEM;
    leave(&before);
    return result;
}

static bool is_open_on(int descriptor, const struct tracked_image *image)
{
    return images_is_open_on(descriptor, image->device, image->inode);
}

/* Reads a descriptor's hold out of the table.  One that is being closed has it until it is gone. */
static bool hold_of(int descriptor, struct track_hold *hold)
{
    SECTION_ASSERT();
    uint64_t entry = table_entry(descriptor);
    *hold = (struct track_hold){0};
    if (!table_is_hold(entry)) return false;
    if (entry & TABLE_CLOSING && !is_open_on(descriptor, images_at(table_image(entry)))) return false;
    hold->image = table_image(entry);
    hold->mode = table_mode(entry);
    return true;
}

bool track_copy(int descriptor, struct track_hold *hold)
{
    sys_signals before;
    bool ours = enter(&before);
    bool found = hold_of(descriptor, hold);
    if (found && ours) {
        images_count(hold->image, hold->mode);
    } else if (found) {
        hold->foreign = true;
        hold->foreign_private = images_at(hold->image)->lock.descriptor;
        hold->image = 0;
    }
    leave(&before);
    return found;
}

void track_copy_hold(const struct track_hold *hold, struct track_hold *copy)
{
    sys_signals before;
    *copy = *hold;
    if (enter(&before) && hold->image) images_count(hold->image, hold->mode);
    leave(&before);
}

void track_drop(struct track_hold *hold)
{
    sys_signals before;
    if (hold->image) {
        if (enter(&before)) {
            images_uncount(hold->image, hold->mode, false);
            marks_renew(hold->image);
        }
        hold->image = 0; /* inside: after it a handler may jump away to a cleanup that drops it again */
        leave(&before);
    }
    *hold = (struct track_hold){0};
}

bool track_still_open(const struct track_hold *hold, int descriptor)
{
    sys_signals before;
    enter(&before);
    bool same = is_open_on(descriptor, images_at(hold->image));
    leave(&before);
    return same;
}

/* ---- closing -------------------------------------------------------------------------------------------- */

/* The entry that the call began with, whether or not it is still marked, or 0. */
static uint64_t entry_of(const struct track_closing *closing)
{
    SECTION_ASSERT();
    const uint64_t flags = TABLE_CLOSING | TABLE_CLOSE_ON_EXEC;
    uint64_t entry = table_entry(closing->descriptor);
    return (entry | flags) == (closing->entry | flags) ? entry : 0;
}

/* Takes the entry out, and the hold with it. */
static void drop_entry(int descriptor, uint64_t entry)
{
    SECTION_ASSERT();
    table_set(descriptor, 0);
    images_uncount(table_image(entry), table_mode(entry), !(entry & TABLE_CLOSE_ON_EXEC));
    marks_renew(table_image(entry));
}

/* Takes the mark back.  What the call, or another, has made of FD_CLOEXEC meanwhile was not counted.
 */
static void keep_entry(int descriptor, uint64_t entry)
{
    SECTION_ASSERT();
    int flags = sys_fcntl(descriptor, F_GETFD, 0);
    bool close_on_exec = flags >= 0 && flags & FD_CLOEXEC;
    if (!(entry & TABLE_CLOSE_ON_EXEC) != !close_on_exec)
        images_count_inheritable(table_image(entry), close_on_exec ? -1 : 1);
    entry &= ~(TABLE_CLOSING | TABLE_CLOSE_ON_EXEC);
    table_set(descriptor, entry | (close_on_exec ? TABLE_CLOSE_ON_EXEC : 0));
    marks_renew(table_image(entry));
}

static void keep_or_drop(int descriptor, uint64_t entry)
{
    if (is_open_on(descriptor, images_at(table_image(entry))))
        keep_entry(descriptor, entry);
    else
        drop_entry(descriptor, entry);
}

/* In a fork child: the thread that was closing these is not here.  A handler's, which was copied in the midst of its
 * own close, goes on and knows its entry by the number. */
static void end_marks(void)
{
    for (int64_t at = -1; (at = table_next((unsigned)(at + 1), INT_MAX)) >= 0;) {
        uint64_t entry = table_entry((int)at);
        if (table_is_hold(entry) && entry & TABLE_CLOSING) keep_or_drop((int)at, entry);
    }
}

void track_begin_close(struct track_closing *closing, int descriptor)
{
    *closing = (struct track_closing){.descriptor = descriptor};
    if (!table_is_hold(table_entry(descriptor))) return;
    closing->thread = sys_gettid();
    adopt_if_new();
    /* In a vfork child the descriptor goes and the parent's entry stays. */
    if (!section_is_ours(closing->thread)) return;
    _Atomic uint64_t *slot = table_slot((unsigned)descriptor);
    uint64_t entry = atomic_load_explicit(slot, memory_order_relaxed);
    do {
        if (!table_is_hold(entry)) {
            closing->entry = 0;
            return;
        }
        /* Before it stands in the table, so that it is found whoever jumps away when.  Where another call is closing
         * the descriptor already, the first that comes back drops the hold: for both it is gone then. */
        closing->mode = table_mode(entry);
        closing->entry = entry | TABLE_CLOSING;
        atomic_signal_fence(memory_order_seq_cst);
    } while (!atomic_compare_exchange_weak(slot, &entry, closing->entry));
    asking_let_replace();
}

static inline void finish_close(struct track_closing *closing, void (*act)(int descriptor, uint64_t entry))
{
    sys_signals before;
    if (!closing->entry) return;
    if (enter_as(closing->thread, &before)) {
        uint64_t entry = entry_of(closing);
        if (entry) act(closing->descriptor, entry);
    }
    closing->entry = 0; /* inside, as in track_drop */
    leave(&before);
}

void track_end_close(struct track_closing *closing)
{
    finish_close(closing, drop_entry);
}

bool track_closed_nothing(const struct track_closing *closing)
{
    sys_signals before;
    if (!closing->entry) return false;
    bool open =
        enter(&before) && entry_of(closing) && is_open_on(closing->descriptor, images_at(table_image(closing->entry)));
    leave(&before);
    return open;
}

void track_cancel_close(struct track_closing *closing)
{
    finish_close(closing, keep_or_drop);
}

void track_undo_close(struct track_closing *closing)
{
    finish_close(closing, keep_entry);
}

/* ---- what a server may have lost ------------------------------------------------------------------------ */

/* Says who has it, and writes it down. */
static void tell_loss(const struct asking_loss *loss)
{
    const struct settings *settings = settings_get();
    struct lock_problem ignored;
    struct marker marker;
    /* By another description the process's own claims would be seen, had it any left. */
    const int opened = lock_open_existing(settings->directory, &loss->name, &ignored);
    const struct message_loss said = {.lock_descriptor = opened,
                                      .mode = loss->mode,
                                      .why = loss->cut_off ? "its server has ended it" : "its server has forgotten it",
                                      .marker = loss->marks ? &marker : NULL,
                                      .fails = settings->fail_on_lost};
    const struct audit_image about = {.name = &loss->name, .lock_descriptor = opened, .marker = said.marker};
    if (loss->marks) {
        const struct markers_question question = markers_question_of(loss->descriptor, loss->mode, loss->access);
        markers_look(&question, true, &marker);
    }
    message_lost(settings, &said);
    audit_lost(settings, &about, loss->mode, false);
    if (opened >= 0) sys_close(opened);
}

/* Whoever opens the image, to be refused, locks and marks it for a moment; so it takes one until those of somebody are
 * believed to be there. */
static void ask_again(int descriptor, const struct lock_name *name)
{
    enum { LOOKING_NS = 1000 * 1000 * 1000, PAUSE_NS = 20 * 1000 * 1000 };
    struct asking_loss loss = {.cut_off = false};
    int64_t end = 0;
    for (bool certain = false;; certain = sys_monotonic() >= end) {
        sys_signals before;
        enum asking_answer answer = ASKING_KEPT;
        if (enter(&before)) {
            const uint64_t entry = name ? 0 : table_entry(descriptor);
            const uint32_t number = name ? images_find(name) : table_is_hold(entry) ? table_image(entry) : 0;
            if (number) answer = asking_ask(number, !name, certain, &loss);
        }
        leave(&before);
        if (answer == ASKING_LOST) tell_loss(&loss);
        if (answer != ASKING_DOUBTFUL) return;
        if (!end) end = sys_monotonic() + LOOKING_NS;
        sys_sleep(PAUSE_NS);
    }
}

void track_ask_again(int descriptor)
{
    if (__builtin_expect(images_distant, 0)) ask_again(descriptor, NULL);
}

void track_ask_again_of(const struct lock_name *name)
{
    if (__builtin_expect(images_distant, 0)) ask_again(-1, name);
}

/* ---- events --------------------------------------------------------------------------------------------- */

void track_forget_stale(int descriptor)
{
    sys_signals before;
    if (enter(&before)) forget_stale(descriptor);
    leave(&before);
}

void track_locks_itself(int descriptor)
{
    sys_signals before;
    struct stat status;
    struct track_hold hold;
    const bool known = sys_fstat(descriptor, &status) == 0;
    if (known && marks_are_given_up(status.st_dev, status.st_ino)) return;
    enter(&before);
    if (known) {
        marks_give_up(status.st_dev, status.st_ino);
    } else if (hold_of(descriptor, &hold)) {
        const struct tracked_image *image = images_at(hold.image);
        marks_give_up(image->device, image->inode);
    }
    leave(&before);
}

void track_set_close_on_exec(int descriptor, bool close_on_exec)
{
    sys_signals before;
    bool ours = enter(&before);
    uint64_t entry = table_entry(descriptor);
    bool is_image = table_is_hold(entry) && !(entry & TABLE_CLOSING);
    if (is_image && ours && !(entry & TABLE_CLOSE_ON_EXEC) != !close_on_exec) {
        /* Another thread may begin to close it at this moment. */
        if (atomic_compare_exchange_strong(table_slot((unsigned)descriptor), &entry, entry ^ TABLE_CLOSE_ON_EXEC))
            images_count_inheritable(table_image(entry), close_on_exec ? -1 : 1);
    } else if (is_image && !ours && !close_on_exec) {
        sys_fcntl(images_at(table_image(entry))->lock.descriptor, F_SETFD, 0);
    }
    leave(&before);
}

bool track_was_private(int descriptor)
{
    return section_exists() && descriptor >= descriptor_lowest() && sys_fcntl(descriptor, F_GETFD, 0) == -EBADF;
}

/* A copy above the soft limit, which is raised for a moment. */
static int copy_past_limit(int descriptor)
{
    struct rlimit limit;
    if (sys_nofile_limit(&limit) < 0 || limit.rlim_cur >= limit.rlim_max) return -EMFILE;
    const struct rlimit raised = {limit.rlim_max, limit.rlim_max};
    sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&raised, 0, 0, 0);
    int copy = descriptor_copy_above(descriptor, (int)limit.rlim_cur);
    sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&limit, 0, 0, 0);
    return copy;
}

/* A number for a private descriptor that has to move: above, else further down, else, for a program that has used up
 * all that it may have, above its limit. */
static int copy_elsewhere(int descriptor)
{
    int moved = descriptor_copy_above(descriptor, descriptor + 1);
    if (moved < 0) moved = descriptor_copy_above(descriptor, descriptor / 2);
    if (moved < 0) moved = descriptor_copy_above(descriptor, 3);
    if (moved < 0) moved = copy_past_limit(descriptor);
    return moved;
}

bool track_freeze(int descriptor, sys_signals *before)
{
    if (threads_none() || descriptor < descriptor_lowest()) return false;
    enter(before);
    /* Nobody else can get a number that is in use; and to close what has it may take long. */
    if (sys_fcntl(descriptor, F_GETFD, 0) < 0 || table_is_private(descriptor)) return true;
    leave(before);
    return false;
}

void track_thaw(const sys_signals *before)
{
    leave(before);
}

bool track_move_private(int descriptor)
{
    sys_signals before;
    bool ours = enter(&before);
    uint64_t entry = table_entry(descriptor);
    bool moved = true;
    if (table_kind(entry) == TABLE_PRIVATE) {
        int flags = sys_fcntl(descriptor, F_GETFD, 0);
        int copy = copy_elsewhere(descriptor);
        moved = copy >= 0 && table_slot((unsigned)copy);
        if (copy >= 0 && !moved) sys_close(copy);
        if (moved && flags >= 0 && !(flags & FD_CLOEXEC)) sys_fcntl(copy, F_SETFD, 0);
        /* In a vfork child the table is the parent's, where nothing moved. */
        if (moved && ours) {
            if (table_image(entry)) {
                images_move_private(table_image(entry), descriptor, copy);
            } else {
                images_set_private(copy, 0);
                table_set(descriptor, 0);
                watcher_move(copy);
            }
            sys_close(descriptor);
        }
    }
    leave(&before);
    return moved;
}

int track_privates(int descriptor, int privates[TRACK_PRIVATES])
{
    sys_signals before;
    int count = 0;
    enter(&before);
    uint64_t entry = table_entry(descriptor);
    bool is_image = table_is_hold(entry) && !(entry & TABLE_CLOSING);
    for (uint32_t number = is_image ? table_image(entry) : 0; number && count < TRACK_PRIVATES;
         number = images_at(number)->companion)
        if (images_at(number)->lock.descriptor >= 0) privates[count++] = images_at(number)->lock.descriptor;
    leave(&before);
    return count;
}

static bool tell_own(uint32_t number, struct track_own *own)
{
    if (!number || images_at(number)->lock.descriptor < 0) return false;
    const struct tracked_image *image = images_at(number);
    *own =
        (struct track_own){image->name, image->lock.descriptor, image->lock.mode, image->lock.start, image->lock.block};
    return true;
}

bool track_own_lock(const struct lock_name *name, struct track_own *own)
{
    /* Most processes that rename and delete have no image at all.  Another thread that takes the lock at this moment
     * may as well take it a moment later. */
    if (images_certainly_without(name)) return false;
    sys_signals before;
    enter(&before);
    bool found = tell_own(images_find(name), own);
    leave(&before);
    return found;
}

bool track_lock_of(int descriptor, struct track_own *own)
{
    sys_signals before;
    struct track_hold hold;
    enter(&before);
    bool found = hold_of(descriptor, &hold) && tell_own(hold.image, own);
    leave(&before);
    return found;
}

void track_adopt_lock(const struct lock_name *name, int descriptor)
{
    sys_signals before;
    if (enter(&before)) images_adopt(name, descriptor);
    leave(&before);
}

void track_release_unused(void)
{
    sys_signals before;
    if (!section_exists()) return;
    if (enter(&before)) images_release_unused();
    leave(&before);
}
