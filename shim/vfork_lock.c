#include "vfork_lock.h"

#include <string.h>

#include "blocker.h"
#include "images.h"
#include "relatives.h"
#include "sys.h"

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

enum lock_result vfork_lock_take(const struct lock_request *request, int *descriptor, int *opened,
                                 struct lock_problem *problem, bool *first)
{
    *first = false;
    *descriptor = -1;
    uint32_t number = images_find(request->name);
    if (number && images_at(number)->lock.mode >= request->mode) {
        *descriptor = images_at(number)->lock.descriptor;
        problem->blocked = blocker_find(*descriptor, request->operations);
        return problem->blocked ? LOCK_BUSY : LOCK_TAKEN;
    }
    struct lock *own = find_foreign(request->name, number);
    enum lock_result result = LOCK_TAKEN;
    if (own) {
        if (own->mode < request->mode) result = lock_convert(own, request, problem);
        *descriptor = own->descriptor;
        return result;
    }
    struct relatives_known known = {.descriptor = number ? images_at(number)->lock.descriptor : -1};
    struct lock_request beside = *request;
    struct lock lock;
    beside.known = &known;
    result = lock_take(&beside, &lock, opened, problem);
    if (result == LOCK_TAKEN) {
        *first = !number && !lock_is_beside(&lock);
        note_foreign(request->name, &lock);
        *descriptor = lock.descriptor;
    }
    return result;
}
