#include "held_image.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "count.h"
#include "mark.h"
#include "occupied.h"
#include "policy.h"
#include "sys.h"

/* The image, past the wrappers, should the library be loaded here.  0: it is open, or nobody can be asked; or -errno.
 */
static int open_image(struct held_image *image)
{
    struct stat named;
    if (image->descriptor >= 0 && sys_fstatat(AT_FDCWD, image->path, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        named.st_dev == image->status.st_dev && named.st_ino == image->status.st_ino)
        return 0;
    if (image->descriptor >= 0) sys_close(image->descriptor);
    const int error = image->descriptor = count_open(image->path, O_RDONLY);
    if (error == -ENOENT || error == -ELOOP || error == -EACCES || error == -EPERM) image->descriptor = -1;
    if (image->descriptor == -1) return 0;
    const int result = error < 0 ? error : sys_fstat(image->descriptor, &image->status);
    if (result < 0 && error >= 0) sys_close(image->descriptor);
    if (result < 0) image->descriptor = -1;
    return result;
}

/* ---- who has it -------------------------------------------------------------------------------------------- */

static bool is_marked_by_stranger(const struct held_image *image, const struct lock *lock, struct stranger *stranger)
{
    const struct stranger_question question = {.settings = image->settings,
                                               .path = image->path,
                                               .device = image->status.st_dev,
                                               .inode = image->status.st_ino,
                                               .descriptor = image->descriptor,
                                               .mode = image->mode,
                                               .access = O_RDONLY,
                                               .lock_descriptor = lock->descriptor,
                                               .recorded = image->recorded};
    return stranger_is_there(&question, stranger);
}

static bool is_counted(const struct held_image *image)
{
    return count_ask(image->descriptor, F_RDLCK, image->status.st_dev) == COUNT_SOMEBODY;
}

static bool is_occupied(const struct held_image *image, const struct lock *lock, struct outsider *outsider)
{
    const struct occupied_question question = {.who = {.device = image->status.st_dev,
                                                       .inode = image->status.st_ino,
                                                       .path = image->path,
                                                       .lock_descriptor = lock->descriptor,
                                                       .skipped = image->descriptor,
                                                       .ancestors = image->settings->family},
                                               .through = image->descriptor,
                                               .exact = true};
    return image->settings->outsiders != OUTSIDERS_IGNORE && is_counted(image) && occupied_ask(&question, outsider);
}

/* ---- all of it --------------------------------------------------------------------------------------------- */

/* Is somebody in the way, by marks or by the kernel's count?  One who is not, but for a line, is told of. */
static bool is_taken(struct held_image *image, const struct lock *lock, bool marks)
{
    const struct settings *settings = image->settings;
    struct stranger stranger = {.marker.pid = 0};
    enum stranger_verdict verdict = STRANGER_IGNORED;
    if (marks && is_marked_by_stranger(image, lock, &stranger)) {
        verdict = stranger_judge(settings, &stranger);
    } else if (is_occupied(image, lock, &stranger.outsider)) {
        stranger.counted = true;
        verdict = policy_warns_of_outsiders(settings) ? STRANGER_LET_PAST : STRANGER_IN_THE_WAY;
    }
    if (verdict == STRANGER_LET_PAST) stranger_tell(settings, image->path, "held all the same", -1, &stranger, NULL);
    image->stranger = stranger;
    return verdict == STRANGER_IN_THE_WAY;
}

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
    if (lock_is_beside(lock) || !is_taken(image, lock, marks)) return LOCK_TAKEN;
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
           (image->stranger.counted && is_counted(image));
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
