#include "asking.h"

#include <errno.h>
#include <fcntl.h>

#include "audit.h"
#include "bytes.h"
#include "count.h"
#include "images.h"
#include "marks.h"
#include "policy.h"
#include "section.h"
#include "sys.h"
#include "table.h"

/* ---- writing ends --------------------------------------------------------------------------------------- */

/* A thread closes a descriptor only when its entry says so and this does not, so that the number is the image's until
 * it is replaced. */
static _Atomic bool replacing;

void asking_let_replace(void)
{
    enum { LONGEST_NS = 1000 * 1000 * 1000 };
    if (__builtin_expect(!replacing, 1)) return;
    /* A copy of this process that was made meanwhile has it set for ever. */
    const int64_t end = sys_monotonic() + LONGEST_NS;
    while (replacing && sys_pause(end)) continue;
}

/* Puts a description under a number that is still the image's.  A server may take long to give one, so that is had
 * before. */
static void put_in_place(int descriptor, int reading, int close_on_exec)
{
    /* Either this sees that the number is about to be closed, or who closes it sees that: both in one order. */
    atomic_store(&replacing, true);
    if (!(atomic_load(table_slot((unsigned)descriptor)) & TABLE_CLOSING))
        sys_call(SYS_dup3, reading, descriptor, close_on_exec ? O_CLOEXEC : 0, 0, 0, 0);
    atomic_store(&replacing, false);
}

/* Puts another description of the image under the number, for reading, at the same place; where there is none to be
 * had, /dev/null.  The kernel then refuses whatever way of writing there is. */
static void end_writing_by(int descriptor)
{
    const int flags = sys_fcntl(descriptor, F_GETFL, 0), inherited = sys_fcntl(descriptor, F_GETFD, 0);
    if (flags < 0 || inherited < 0 || flags & O_PATH || (flags & O_ACCMODE) == O_RDONLY) return;
    const long position = sys_call(SYS_lseek, descriptor, 0, SEEK_CUR, 0, 0, 0);
    int reading = count_reopen(descriptor, O_RDONLY | O_NOCTTY | (flags & (O_NONBLOCK | O_APPEND | O_DIRECT)));
    if (reading < 0) reading = sys_openat(AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
    if (reading < 0) return;
    if (position > 0) sys_call(SYS_lseek, reading, position, SEEK_SET, 0, 0, 0);
    put_in_place(descriptor, reading, inherited & FD_CLOEXEC);
    sys_close(reading);
}

static void end_writing(const struct tracked_image *image)
{
    uint64_t entry;
    if (!image->inode) return;
    for (int at = -1; (at = images_next_of_file(at + 1, image->device, image->inode, &entry)) >= 0;) end_writing_by(at);
}

/* A program that opens and closes one image again and again is told what it was told a second ago. */
#define RECENTLY_NS (INT64_C(1) * 1000 * 1000 * 1000)

/* ---- asking --------------------------------------------------------------------------------------------- */

static void audit_regained(const struct tracked_image *image)
{
    const struct audit_image about = {.name = &image->name,
                                      .lock_descriptor = image->lock.descriptor,
                                      .device = image->device,
                                      .inode = image->inode};
    audit_lost(settings_get(), &about, image->lock.mode, true);
}

/* False: others have the lock. */
static bool has_lock(uint32_t number, bool closing, bool *cut_off)
{
    struct tracked_image *image = images_at(number);
    struct lock *lock = &image->lock;
    /* A client remembers for a second what it has read, so a record is not read where nobody needs it. */
    const enum lock_again what = closing && image->readers + image->writers == 1 ? LOCK_AGAIN_ALONE
                                 : images_is_shared(number)                      ? LOCK_AGAIN_SLOT
                                                                                 : LOCK_AGAIN_RECORD;
    if (!image->lost && (lock->place == LOCK_HERE || lock->mode < LOCK_SHARED || !lock_is_open(lock))) return true;
    int result = lock->descriptor < 0 ? -EBADFD : lock_ask_again(lock, what);
    *cut_off = result == -EBADFD;
    if (*cut_off) result = images_renew(number);
    /* Of one that is lost, no answer says nothing else. */
    image->lost = result == -EAGAIN || lock->descriptor < 0 || (image->lost && result < 0);
    if (result < 0) return result != -EAGAIN;
    if (result > 0 || (image->told && !image->lost_marks)) audit_regained(image);
    return true;
}

/* False: marks of somebody who is no relative are in the way of ours. */
static bool has_marks(uint32_t number, struct asking_loss *loss)
{
    struct tracked_image *image = images_at(number);
    if (!image->distant || settings_get()->on_conflict == CONFLICT_WARN ||
        marks_are_given_up(image->device, image->inode))
        return true;
    const bool free = marks_ask_again(number, &loss->descriptor, &loss->access, &loss->mode);
    /* Who was let past marks the image as well, and on such a file system nobody tells whose marks are whose. */
    return free || image->beside_marks || lock_is_beside(&image->lock) || images_is_shared(number) ||
           bytes_held(image->lock.descriptor, F_WRLCK, RELATIVES_BYTE, RELATIVES, NULL) > 0;
}

/* The image, or one that goes with it, whose lock others have; 0: none. */
static uint32_t find_lost(uint32_t number, bool closing, struct asking_loss *loss)
{
    uint32_t lost = 0;
    for (bool cut_off = false; number; number = images_at(number)->companion)
        if (!has_lock(number, closing, &cut_off) && !lost) {
            loss->cut_off = cut_off;
            lost = number;
        }
    return lost;
}

static bool is_passed_on(const struct tracked_image *image)
{
    return image->lock.descriptor >= 0 && !lock_is_held(&image->lock);
}

enum asking_answer asking_ask(uint32_t number, bool closing, bool certain, struct asking_loss *loss)
{
    SECTION_ASSERT();
    struct tracked_image *image = images_at(number);
    const int64_t now = image->answered ? sys_monotonic() : 0;
    if (!now || (now - image->answered < RECENTLY_NS && !certain && !image->doubtful) || is_passed_on(image))
        return ASKING_KEPT;
    const uint32_t lost = find_lost(number, closing, loss);
    const bool marked = !lost && !has_marks(number, loss);
    /* Whoever is about to be refused has both for a moment. */
    image->doubtful = (lost || marked) && !certain && !image->told;
    if (image->doubtful) return ASKING_DOUBTFUL;
    image->answered = now;
    image->lost_marks = marked;
    if (!lost && !marked) {
        image->told = false;
        return ASKING_KEPT;
    }
    /* The next open asks others, too. */
    image->asked = LOCK_NONE;
    if (settings_get()->fail_on_lost) end_writing(image);
    if (image->told) return ASKING_KEPT;
    image->told = true;
    loss->marks = marked;
    loss->cut_off &= !marked;
    loss->name = images_at(lost ? lost : number)->name;
    if (lost) loss->mode = images_at(lost)->writers ? LOCK_EXCLUSIVE : LOCK_SHARED;
    return ASKING_LOST;
}
