#include "track_private.h"

#include <errno.h>
#include <fcntl.h>

#include "descriptor.h"
#include "images.h"
#include "section.h"
#include "sys.h"
#include "table.h"
#include "threads.h"
#include "track_process.h"
#include "watcher.h"

/* ---- whose they are ------------------------------------------------------------------------------------- */

int track_privates(int descriptor, int privates[TRACK_PRIVATES])
{
    sys_signals before;
    int count = 0;
    track_enter(&before);
    uint64_t entry = table_entry(descriptor);
    bool is_image = table_is_hold(entry) && !(entry & TABLE_CLOSING);
    for (uint32_t number = is_image ? table_image(entry) : 0; number && count < TRACK_PRIVATES;
         number = images_at(number)->companion)
        if (images_at(number)->lock.descriptor >= 0) privates[count++] = images_at(number)->lock.descriptor;
    track_leave(&before);
    return count;
}

bool track_was_private(int descriptor)
{
    return section_exists() && descriptor >= descriptor_lowest() && sys_fcntl(descriptor, F_GETFD, 0) == -EBADF;
}

/* ---- out of the way of the program ---------------------------------------------------------------------- */

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
    track_enter(before);
    /* Nobody else can get a number that is in use; and to close what has it may take long. */
    if (sys_fcntl(descriptor, F_GETFD, 0) < 0 || table_is_private(descriptor)) return true;
    track_leave(before);
    return false;
}

void track_thaw(const sys_signals *before)
{
    track_leave(before);
}

bool track_move_private(int descriptor)
{
    sys_signals before;
    bool ours = track_enter(&before);
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
    track_leave(&before);
    return moved;
}

/* ---- the parked inotify instance ------------------------------------------------------------------------ */

int track_take_watcher(void)
{
    sys_signals before;
    int taken = track_enter(&before) ? watcher_take() : -1;
    track_leave(&before);
    return taken;
}

void track_park_watcher(int inotify, int watch)
{
    sys_signals before;
    if (inotify < 0) return;
    bool parked = false;
    if (track_enter(&before) && !watcher_is_there()) {
        inotify = descriptor_move_high(inotify, false);
        parked = images_set_private(inotify, 0);
        if (parked) watcher_park(inotify, watch);
    }
    track_leave(&before);
    if (!parked) sys_close(inotify);
}
