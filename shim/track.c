#include "track.h"

#include <errno.h>

#include "children.h"
#include "count.h"
#include "entries.h"
#include "holders.h"
#include "images.h"
#include "marks.h"
#include "section.h"
#include "settings.h"
#include "sys.h"
#include "track_close.h"
#include "track_process.h"
#include "vfork_lock.h"

/* ---- taking a hold -------------------------------------------------------------------------------------- */

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

/* In a vfork child: the lock, the question and the mark.  What the child has beside its parent is not told apart from
 * what that has. */
static enum lock_result take_foreign(const struct track_request *request, struct track_hold *hold, int *opened,
                                     struct lock_problem *problem, struct bytes_found *found)
{
    bool first;
    *hold = (struct track_hold){.foreign = true, .mode = request->lock.mode};
    const enum lock_result result = vfork_lock_take(&request->lock, &hold->foreign_private, opened, problem, &first);
    if (result == LOCK_TAKEN) count(request, hold, false);
    if (result != LOCK_TAKEN || request->mark < 0 || hold->mode < LOCK_SHARED ||
        !mark_is_possible(request->mark, request->device))
        return result;
    bool excluded = request->set_marks && !marks_are_given_up(request->device, request->inode) &&
                    mark_set(request->mark, hold->mode, request->access) < 0;
    if (first) hold->disputed = mark_is_in_the_way(request->mark, hold->mode, request->access, found) || excluded;
    return result;
}

/* Writes the hold into the table, where the descriptor has it from now on.  False without memory. */
static bool bind(struct track_hold *hold, int descriptor, bool close_on_exec)
{
    SECTION_ASSERT();
    static uint64_t bound;
    /* Another thread may have bound the number since the caller looked. */
    entries_forget_stale(descriptor);
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
    if (!track_enter(&before)) {
        enum lock_result result = take_foreign(request, hold, opened, problem, found);
        track_leave(&before);
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
    track_leave(&before);
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
    const bool closing = track_enter(&before) && marks_are_closing(request->device, request->inode);
    track_leave(&before);
    return closing;
}

bool track_is_disputed(const struct track_request *request, struct track_hold *hold, struct bytes_found *found)
{
    sys_signals before;
    if (hold->foreign) return mark_is_in_the_way(request->mark, hold->mode, request->access, found);
    if (track_enter(&before)) mark(image_of(request, hold), request, hold, found);
    track_leave(&before);
    return hold->disputed;
}

void track_accept(const struct track_request *request, struct track_hold *hold)
{
    sys_signals before;
    hold->disputed = false;
    if (hold->foreign) return;
    if (track_enter(&before)) {
        marks_accept(image_of(request, hold), hold->mode);
        images_at(image_of(request, hold))->beside_marks = true;
    }
    track_leave(&before);
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

/* ---- a hold that is had --------------------------------------------------------------------------------- */

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
    if (track_enter(&before) && !bind(hold, descriptor, close_on_exec)) result = -ENOMEM;
    track_leave(&before);
    return result;
}

/* Reads a descriptor's hold out of the table.  One that is being closed has it until it is gone. */
static bool hold_of(int descriptor, struct track_hold *hold)
{
    SECTION_ASSERT();
    uint64_t entry = table_entry(descriptor);
    *hold = (struct track_hold){0};
    if (!table_is_hold(entry)) return false;
    if (entry & TABLE_CLOSING && !entries_is_open(descriptor, table_image(entry))) return false;
    hold->image = table_image(entry);
    hold->mode = table_mode(entry);
    return true;
}

bool track_copy(int descriptor, struct track_hold *hold)
{
    sys_signals before;
    bool ours = track_enter(&before);
    bool found = hold_of(descriptor, hold);
    if (found && ours) {
        images_count(hold->image, hold->mode);
    } else if (found) {
        hold->foreign = true;
        hold->foreign_private = images_at(hold->image)->lock.descriptor;
        hold->image = 0;
    }
    track_leave(&before);
    return found;
}

void track_copy_hold(const struct track_hold *hold, struct track_hold *copy)
{
    sys_signals before;
    *copy = *hold;
    if (track_enter(&before) && hold->image) images_count(hold->image, hold->mode);
    track_leave(&before);
}

void track_drop(struct track_hold *hold)
{
    sys_signals before;
    if (hold->image) {
        if (track_enter(&before)) {
            images_uncount(hold->image, hold->mode, false);
            marks_renew(hold->image);
        }
        hold->image = 0; /* inside: after it a handler may jump away to a cleanup that drops it again */
        track_leave(&before);
    }
    *hold = (struct track_hold){0};
}

bool track_still_open(const struct track_hold *hold, int descriptor)
{
    sys_signals before;
    track_enter(&before);
    bool same = entries_is_open(descriptor, hold->image);
    track_leave(&before);
    return same;
}

/* ---- events --------------------------------------------------------------------------------------------- */

void track_forget_stale(int descriptor)
{
    sys_signals before;
    if (track_enter(&before)) entries_forget_stale(descriptor);
    track_leave(&before);
}

void track_locks_itself(int descriptor)
{
    sys_signals before;
    struct stat status;
    struct track_hold hold;
    const bool known = sys_fstat(descriptor, &status) == 0;
    if (known && marks_are_given_up(status.st_dev, status.st_ino)) return;
    track_enter(&before);
    if (known) {
        marks_give_up(status.st_dev, status.st_ino);
    } else if (hold_of(descriptor, &hold)) {
        const struct tracked_image *image = images_at(hold.image);
        marks_give_up(image->device, image->inode);
    }
    track_leave(&before);
}

void track_set_close_on_exec(int descriptor, bool close_on_exec)
{
    sys_signals before;
    bool ours = track_enter(&before);
    uint64_t entry = table_entry(descriptor);
    bool is_image = table_is_hold(entry) && !(entry & TABLE_CLOSING);
    if (is_image && ours && !(entry & TABLE_CLOSE_ON_EXEC) != !close_on_exec) {
        /* Another thread may begin to close it at this moment. */
        if (atomic_compare_exchange_strong(table_slot((unsigned)descriptor), &entry, entry ^ TABLE_CLOSE_ON_EXEC))
            images_count_inheritable(table_image(entry), close_on_exec ? -1 : 1);
    } else if (is_image && !ours && !close_on_exec) {
        sys_fcntl(images_at(table_image(entry))->lock.descriptor, F_SETFD, 0);
    }
    track_leave(&before);
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
    track_enter(&before);
    bool found = tell_own(images_find(name), own);
    track_leave(&before);
    return found;
}

bool track_lock_of(int descriptor, struct track_own *own)
{
    sys_signals before;
    struct track_hold hold;
    track_enter(&before);
    bool found = hold_of(descriptor, &hold) && tell_own(hold.image, own);
    track_leave(&before);
    return found;
}

void track_adopt_lock(const struct lock_name *name, int descriptor)
{
    sys_signals before;
    if (track_enter(&before)) images_adopt(name, descriptor);
    track_leave(&before);
}

void track_release_unused(void)
{
    sys_signals before;
    if (!section_exists()) return;
    if (track_enter(&before)) images_release_unused();
    track_leave(&before);
}
