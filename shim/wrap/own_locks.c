#include "own_locks.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "../markers.h"
#include "../realpath.h"
#include "../sys.h"

static bool is_asking(int command)
{
    return command == F_GETLK || command == F_OFD_GETLK;
}

static bool is_waiting(int command)
{
    return command == F_SETLKW || command == F_OFD_SETLKW;
}

static int without_waiting(int command)
{
    return command == F_SETLKW ? F_SETLK : command == F_OFD_SETLKW ? F_OFD_SETLK : command;
}

/* Reads what the program points to, where there is something: else the kernel says EFAULT. */
static bool read_range(const void *argument, struct flock *range)
{
    const char *last = (const char *)argument + sizeof *range - 1;
    if (!sys_reads_byte(argument) || !sys_reads_byte(last)) return false;
    memcpy(range, argument, sizeof *range);
    return true;
}

/* Does it reach the bytes of the marks?  Ranges that are told from elsewhere than the start are left as they are. */
static bool reaches_marks(const struct flock *range)
{
    if (range->l_whence != SEEK_SET || range->l_start < 0 || range->l_len < 0) return false;
    if (range->l_type != F_RDLCK && range->l_type != F_WRLCK) return false;
    return range->l_start < MARKS_END && (!range->l_len || range->l_start + range->l_len > USED_BYTE);
}

/* A part of the range: before the marks' bytes, or behind them.  False: there is none. */
static bool part_of(const struct flock *range, bool behind, struct flock *part)
{
    *part = *range;
    if (!behind) {
        part->l_len = USED_BYTE - range->l_start;
        return range->l_start < USED_BYTE;
    }
    if (range->l_len && range->l_start + range->l_len <= MARKS_END) return false;
    part->l_start = MARKS_END;
    part->l_len = range->l_len ? range->l_start + range->l_len - MARKS_END : 0;
    return true;
}

static PATH_FRAME bool is_ignored(int descriptor)
{
    char path[PATH_MAX];
    bool deleted;
    return realpath_of_descriptor(descriptor, path, &deleted) > 0 && policy_ignores(settings_get(), path);
}

/* Is all that is in the way there marks that are to be looked past?  Else *stranger is somebody. */
static bool is_free_but_for_marks(int descriptor, bool by_process, const struct flock *range, struct marker *stranger)
{
    struct track_own own;
    *stranger = (struct marker){.pid = 0};
    const off_t start = range->l_start > USED_BYTE ? range->l_start : USED_BYTE;
    const off_t end =
        range->l_len && range->l_start + range->l_len < MARKS_END ? range->l_start + range->l_len : MARKS_END;
    struct markers_question question = {.descriptor = descriptor,
                                        .ranges = {{range->l_type, start, end - start}},
                                        .count = 1,
                                        .lock_descriptor = -1,
                                        .ancestors = settings_get()->family,
                                        .by_process = by_process,
                                        .by_marks_alone = true};
    /* What has the pid of another process is by F_SETLK and no mark: most conflicts in files that are no images. */
    struct bytes_found found;
    if (bytes_held(descriptor, range->l_type, start, end - start, &found) > 0 && found.pid > 0 &&
        found.pid != sys_getpid())
        return false;
    if (track_lock_of(descriptor, &own)) {
        question.lock_descriptor = own.descriptor;
        question.all_marks = own.mode < LOCK_SHARED;
    } else {
        question.all_marks = is_ignored(descriptor);
        if (!question.all_marks && !track_entry(descriptor)) return false;
    }
    return markers_look(&question, false, stranger) == MARKERS_NO_STRANGERS ||
           markers_look(&question, true, stranger) == MARKERS_NO_STRANGERS;
}

/* F_GETLK or F_OFD_GETLK, which has found somebody. */
static int ask_past_marks(fcntl_function *real, int descriptor, int command, const struct flock *asked,
                          struct flock *found)
{
    /* A lock by F_SETLK has a pid. */
    if (found->l_pid > 0) return 0;
    for (int behind = 0; behind < 2; behind++) {
        struct flock part;
        if (!part_of(asked, behind, &part) || real(descriptor, command, &part) < 0 || part.l_type == F_UNLCK) continue;
        *found = part;
        return 0;
    }
    struct marker stranger;
    if (is_free_but_for_marks(descriptor, command == F_GETLK, asked, &stranger)) {
        *found = *asked;
        found->l_type = F_UNLCK;
    } else if (stranger.pid && !stranger.imglock) {
        found->l_type = stranger.excludes ? F_WRLCK : F_RDLCK;
        found->l_start = stranger.start;
        found->l_len = stranger.end == INT64_MAX ? 0 : stranger.end - stranger.start + 1;
        found->l_pid = stranger.posix ? stranger.pid : -1;
    }
    return 0;
}

/* Locks what lies beside the marks' bytes. */
static int lock_beside_marks(fcntl_function *real, int descriptor, int command, const struct flock *wanted)
{
    struct flock before, behind;
    const bool any_before = part_of(wanted, false, &before), any_behind = part_of(wanted, true, &behind);
    if (any_before && real(descriptor, command, &before) < 0) return -1;
    if (!any_behind || real(descriptor, command, &behind) == 0) return 0;
    const int error = errno;
    before.l_type = F_UNLCK;
    if (any_before) real(descriptor, without_waiting(command), &before);
    errno = error;
    return -1;
}

/* Is nobody in the way before the marks' bytes and behind them? */
static bool is_free_beside(int descriptor, int command, const struct flock *wanted)
{
    const int asking = without_waiting(command) == F_SETLK ? F_GETLK : F_OFD_GETLK;
    for (int behind = 0; behind < 2; behind++) {
        struct flock part;
        if (!part_of(wanted, behind, &part)) continue;
        if (sys_fcntl(descriptor, asking, (long)&part) < 0 || part.l_type != F_UNLCK) return false;
    }
    return true;
}

int own_locks_call(fcntl_function *real, int descriptor, int command, void *argument)
{
    struct flock range;
    if (track_entry(descriptor)) track_locks_itself(descriptor);
    /* Where long has 32 bits there are two structures, and marks are not looked past. */
    if (sizeof(long) < sizeof(off64_t)) return real(descriptor, command, argument);
    if (!read_range(argument, &range) || !reaches_marks(&range)) return real(descriptor, command, argument);
    const int saved = errno;
    const int result = real(descriptor, without_waiting(command), argument);
    if (is_asking(command)) {
        struct flock *found = argument;
        return result < 0 || found->l_type == F_UNLCK ? result
                                                      : ask_past_marks(real, descriptor, command, &range, found);
    }
    if (result == 0 || (errno != EAGAIN && errno != EACCES)) return result;
    const int error = errno;
    struct marker ignored;
    errno = saved;
    if (is_free_but_for_marks(descriptor, without_waiting(command) == F_SETLK, &range, &ignored) &&
        (is_waiting(command) || is_free_beside(descriptor, command, &range)))
        return lock_beside_marks(real, descriptor, command, &range);
    if (is_waiting(command)) return real(descriptor, command, argument);
    errno = error;
    return -1;
}
