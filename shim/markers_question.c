#include "markers_question.h"

#include <fcntl.h>

static bool overlaps(const struct fdinfo_lock *lock, const struct mark_range *range)
{
    return (!range->length || lock->start < range->start + range->length) && lock->end >= range->start;
}

bool markers_question_excludes(const struct markers_question *question, const struct fdinfo_lock *lock)
{
    if (lock->waits || lock->owner == FDINFO_OTHER) return false;
    if (question->reads && mark_is_plain_reader(lock->exclusive, lock->start, lock->end == INT64_MAX)) return false;
    if (!question->by_marks_alone && mark_only_reads(lock->exclusive, lock->start, lock->end - lock->start + 1))
        return false;
    for (int i = 0; i < question->count; i++)
        if ((lock->exclusive || question->ranges[i].type == F_WRLCK) && overlaps(lock, &question->ranges[i]))
            return true;
    return false;
}

struct markers_question markers_question_of(int descriptor, enum lock_mode mode, int access)
{
    struct markers_question question = {
        .descriptor = descriptor, .lock_descriptor = -1, .reads = mode != LOCK_EXCLUSIVE && access == O_RDONLY};
    question.count = mark_ranges(mode, access, question.ranges);
    return question;
}
