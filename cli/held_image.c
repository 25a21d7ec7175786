#include "held_image.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "count.h"
#include "mark.h"
#include "message.h"
#include "occupied.h"
#include "policy.h"
#include "sys.h"

/* The image, past the wrappers, should the library be loaded here.  Whoever asks for a lease just now keeps it closed
 * for a moment.  0: it is open, or nobody can be asked; or -errno. */
static int open_image(struct held_image *image)
{
    struct stat named;
    if (image->descriptor >= 0 && sys_fstatat(AT_FDCWD, image->path, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        named.st_dev == image->status.st_dev && named.st_ino == image->status.st_ino)
        return 0;
    if (image->descriptor >= 0) sys_close(image->descriptor);
    const int64_t deadline = sys_monotonic() + LOCK_GRACE_NS;
    do {
        image->descriptor =
            sys_openat(AT_FDCWD, image->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    } while (image->descriptor == -EINTR || (image->descriptor == -EAGAIN && sys_pause(deadline)));
    const int error = image->descriptor;
    if (error == -ENOENT || error == -ELOOP || error == -EACCES || error == -EPERM) image->descriptor = -1;
    if (image->descriptor == -1) return 0;
    const int result = error < 0 ? error : sys_fstat(image->descriptor, &image->status);
    if (result < 0 && error >= 0) sys_close(image->descriptor);
    if (result < 0) image->descriptor = -1;
    return result;
}

/* ---- marks ----------------------------------------------------------------------------------------------- */

/* Whoever locks for an instant, to look or because it is refused itself, is waited for. */
static bool is_marked_by_stranger(struct held_image *image, const struct lock *lock)
{
    enum { INSTANT_NS = 25 * 1000 * 1000 };
    const int64_t end = sys_monotonic() + INSTANT_NS;
    do {
        if (!mark_is_in_the_way(image->descriptor, image->mode, O_RDONLY, NULL)) return false;
    } while (sys_pause(end));
    struct markers_question question = markers_question_of(image->descriptor, image->mode, O_RDONLY);
    question.ancestors = image->settings->family;
    question.lock_descriptor = lock->descriptor;
    question.recorded = image->recorded;
    return markers_look(&question, true, &image->marker) == MARKERS_STRANGERS;
}

static struct outsiders_question outsiders_question_of(const struct held_image *image, const struct lock *lock)
{
    return (struct outsiders_question){.device = image->status.st_dev,
                                       .inode = image->status.st_ino,
                                       .path = image->path,
                                       .lock_descriptor = lock->descriptor,
                                       .skipped = image->descriptor,
                                       .ancestors = image->settings->family};
}

/* Whose marks /proc does not show, a loop device's above all, is seen by what it has open. */
static bool finds_outsider(struct held_image *image, const struct lock *lock)
{
    struct outsiders_question question = outsiders_question_of(image, lock);
    question.marked = true;
    question.readers = image->mode == LOCK_EXCLUSIVE;
    if (image->marker.pid || outsiders_find(&question, &image->outsider) != OUTSIDERS_FOUND) return false;
    image->marked = false;
    return true;
}

/* ---- what outsiders do ------------------------------------------------------------------------------------- */

static const char held_all_the_same[] = "held all the same";

/* Is who is in the way one outside imglock who is to be in nobody's way?  Then that is told. */
static bool is_let_past(struct held_image *image, const struct lock *lock)
{
    const struct settings *settings = image->settings;
    const bool counted = finds_outsider(image, lock);
    const bool outside = counted ? !image->outsider.library : image->marker.outside;
    if (settings->outsiders == OUTSIDERS_DENY || !outside) return false;
    if (settings->outsiders == OUTSIDERS_IGNORE) return true;
    if (counted)
        message_outsider(settings, image->path, held_all_the_same, &image->outsider);
    else
        message_conflict(settings, image->path, held_all_the_same, -1, image->mode, 0, &image->marker, NULL);
    return true;
}

static bool is_counted(const struct held_image *image)
{
    return count_ask(image->descriptor, F_RDLCK, image->status.st_dev) == COUNT_SOMEBODY;
}

static bool is_occupied(struct held_image *image, const struct lock *lock)
{
    const struct settings *settings = image->settings;
    if (settings->outsiders == OUTSIDERS_IGNORE || !is_counted(image)) return false;
    const struct occupied_question question = {
        .who = outsiders_question_of(image, lock), .through = image->descriptor, .exact = true};
    if (!occupied_ask(&question, &image->outsider)) return false;
    image->marked = false;
    if (!policy_warns_of_outsiders(settings)) return true;
    message_outsider(settings, image->path, held_all_the_same, &image->outsider);
    return false;
}

/* ---- all of it --------------------------------------------------------------------------------------------- */

enum lock_result held_image_take(struct held_image *image, const struct lock *lock, struct lock_problem *problem)
{
    const int error = open_image(image);
    if (error < 0) {
        *problem = (struct lock_problem){.error = -error, .what = "cannot look at who else has it", .owner = (uid_t)-1};
        return LOCK_FAILED;
    }
    if (image->descriptor < 0 || !S_ISREG(image->status.st_mode)) return LOCK_TAKEN;
    const bool marks = mark_is_possible(image->descriptor, image->status.st_dev);
    if (marks && image->announces) mark_hold(image->descriptor, image->mode);
    /* Let past a relative's lock: who else is there was decided with the lock. */
    if (lock_is_beside(lock)) return LOCK_TAKEN;
    image->marker = (struct marker){.pid = 0};
    image->outsider = (struct outsider){.kind = OUTSIDER_UNSEEN};
    image->marked = marks && is_marked_by_stranger(image, lock);
    if (image->marked ? is_let_past(image, lock) : !is_occupied(image, lock)) return LOCK_TAKEN;
    held_image_give_back(image);
    return LOCK_BUSY;
}

void held_image_mark_again(const struct held_image *image)
{
    if (image->announces && image->descriptor >= 0 && S_ISREG(image->status.st_mode))
        mark_hold(image->descriptor, image->mode);
}

void held_image_give_back(struct held_image *image)
{
    if (image->descriptor >= 0) mark_unhold(image->descriptor);
}

static bool is_busy(const struct held_image *image)
{
    return mark_is_in_the_way(image->descriptor, image->mode, O_RDONLY, NULL) ||
           (!image->marked && !image->marker.pid && is_counted(image));
}

bool held_image_is_busy(const struct held_image *image)
{
    enum { LOOK_NS = 2 * 1000 * 1000 };
    const int64_t end = sys_monotonic() + LOOK_NS;
    while (is_busy(image)) {
        if (sys_monotonic() >= end) return true;
        sys_yield();
    }
    return false;
}
