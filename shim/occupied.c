#include "occupied.h"

#include <fcntl.h>

#include "bytes.h"
#include "count.h"
#include "holders.h"
#include "sys.h"

enum {
    /* A program without the library may be one that has not mapped it yet. */
    SETTLING_NS = 10 * 1000 * 1000,
    /* Whom /proc does not show is none of many who were just about to close the file only if there is somebody each
     * time that it is asked, so often between two looks, and so many looks. */
    PASSING_ASKED = 5,
    UNSEEN_ASKED = 50,
    UNSEEN_LOOKS = 4,
    /* Where there is another one at each look, there is always one. */
    TURNS_NS = 1000 * 1000 * 1000
};

bool occupied_now(const struct occupied_question *question)
{
    return count_ask(question->through, question->exact ? F_RDLCK : F_WRLCK, question->who.device) == COUNT_SOMEBODY;
}

/* May it be somebody under imglock whom /proc does not show: another user, who has a slot of the lock file, or waits
 * for the lock with the image open? */
static bool may_be_inside(const struct occupied_question *question)
{
    struct holder holder;
    const int lock_descriptor = question->who.lock_descriptor;
    return !question->exact || question->family ||
           (lock_descriptor >= 0 && (holders_next(lock_descriptor, 0, &holder) ||
                                     bytes_held(lock_descriptor, F_RDLCK, GATE_BYTE, 1, NULL) > 0));
}

/* Is there somebody each time that it is asked? */
static bool stays(const struct occupied_question *question, int times)
{
    while (times-- > 0) {
        sys_pause(INT64_MAX);
        if (!occupied_now(question)) return false;
    }
    return true;
}

bool occupied_by(const struct occupied_question *question, struct outsider *outsider)
{
    struct outsider before = {.kind = OUTSIDER_UNSEEN};
    const int64_t start = sys_monotonic();
    int64_t since = start;
    for (int unseen = 0;;) {
        *outsider = (struct outsider){.kind = OUTSIDER_UNSEEN};
        const enum outsiders_found answer = outsiders_find(&question->who, outsider);
        const bool seen = answer == OUTSIDERS_FOUND;
        if (answer == OUTSIDERS_INSIDE || (!seen && may_be_inside(question))) return false;
        const int64_t now = sys_monotonic();
        if (!outsiders_same(&before, outsider)) since = now;
        before = *outsider;
        unseen = seen ? 0 : unseen + 1;
        if (seen ? now - since >= SETTLING_NS || now - start >= TURNS_NS : unseen == UNSEEN_LOOKS) return true;
        if (!stays(question, seen ? 1 : UNSEEN_ASKED)) return false;
    }
}

bool occupied_ask(const struct occupied_question *question, struct outsider *outsider)
{
    return !outsiders_is_own(&question->who) && stays(question, PASSING_ASKED) && occupied_by(question, outsider);
}
