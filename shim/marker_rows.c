#include "marker_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "bytes.h"
#include "lock_list.h"
#include "mark.h"
#include "sys.h"

/* Do two rows that look the same belong to one description?  Processes share descriptions.  Where the kernel does not
 * compare them, those with the same number are taken for one: mostly they came by fork. */
static bool is_same_description(const struct marker_rows *rows, const struct marker_row *one,
                                const struct marker_row *other)
{
    enum { COMPARE_FILES = 0 }; /* KCMP_FILE, <linux/kcmp.h> */
    if (one->pid == other->pid && one->number == other->number) return true;
    const long result = rows->self != sys_getpid()
                            ? -ESRCH
                            : sys_call(SYS_kcmp, one->pid, other->pid, COMPARE_FILES, one->number, other->number, 0);
    return result < 0 ? one->number == other->number : result == 0;
}

void marker_rows_add(struct marker_rows *rows, const struct marker_row *row)
{
    if (rows->count < MARKER_ROWS) rows->list[rows->count++] = *row;
}

void marker_rows_keep(struct marker_rows *rows, int from)
{
    int kept = from;
    for (int i = from; i < rows->count; i++) {
        const struct marker_row row = rows->list[i];
        bool known = false;
        for (int j = 0; j < kept && !known; j++)
            known = marker_row_is(&rows->list[j], &row) && is_same_description(rows, &rows->list[j], &row);
        if (!known) rows->list[kept++] = row;
    }
    rows->count = kept;
}

void marker_rows_remember(struct marker_rows *rows)
{
    memcpy(rows->remembered, rows->list, (size_t)rows->count * sizeof *rows->list);
    rows->remembered_count = rows->count;
}

bool marker_rows_are_as_remembered(const struct marker_rows *rows)
{
    if (rows->count != rows->remembered_count) return false;
    for (int i = 0; i < rows->count; i++) {
        const struct marker_row *now = &rows->list[i], *then = &rows->remembered[i];
        if (!marker_row_is(now, then) || now->pid != then->pid || now->number != then->number) return false;
    }
    return true;
}

static void count_row(const struct fdinfo_lock *lock, void *argument, struct lock_counts *counts)
{
    const struct marker_rows *rows = argument;
    if (!marker_rows_is_of_image(rows, lock) || !markers_question_excludes(rows->question, lock)) return;
    counts->of[0]++;
    if (mark_is_row(lock)) counts->of[lock->start == UNSHARED_BYTE ? 2 : 1]++;
}

struct marker_counts marker_rows_count(struct marker_rows *rows)
{
    struct lock_counts counts = {0};
    const enum lock_list_answer answer = lock_list_read(count_row, rows, &counts);
    return (struct marker_counts){.all = answer == LOCK_LIST_UNREAD ? -1 : counts.of[0],
                                  .marks = {counts.of[1], counts.of[2]},
                                  .whole = answer == LOCK_LIST_TOLD};
}

static struct fdinfo_lock lock_of(const struct marker_row *row)
{
    return (struct fdinfo_lock){
        .owner = FDINFO_DESCRIPTION, .exclusive = row->exclusive, .start = row->start, .end = row->end};
}

int marker_rows_unseen(const struct marker_rows *rows, const struct marker_counts *counted, int *others)
{
    int marks[MARKER_KINDS] = {counted->marks[0], counted->marks[1]};
    *others = counted->all - rows->count - marks[0] - marks[1];
    for (int i = 0; i < rows->count; i++) {
        const struct fdinfo_lock lock = lock_of(&rows->list[i]);
        if (!mark_is_row(&lock)) continue;
        marks[lock.start == UNSHARED_BYTE]--;
        ++*others;
    }
    return marks[0] > marks[1] ? marks[0] : marks[1];
}

/* Is the lock that the kernel names in this range in nobody's way, or seen with somebody who is no stranger?
 * found->start is -1 where it names none. */
static bool is_known(const struct marker_rows *rows, bool mapped, const struct mark_range *range,
                     struct bytes_found *found)
{
    const struct markers_question *question = rows->question;
    *found = (struct bytes_found){.start = -1};
    if (bytes_held(question->descriptor, range->type, range->start, range->length, found) <= 0) return true;
    const struct fdinfo_lock lock = {.owner = FDINFO_DESCRIPTION,
                                     .exclusive = found->type == F_WRLCK,
                                     .start = found->start,
                                     .end = found->length ? found->start + found->length - 1 : INT64_MAX};
    const struct marker_row row = marker_row_of(&lock, 0, 0);
    /* By F_SETLK of this very process it is ours. */
    bool known = !markers_question_excludes(question, &lock) || (found->pid > 0 && found->pid == sys_getpid()) ||
                 (mapped && found->pid < 0 && mark_is_row(&lock));
    for (int i = 0; i < rows->count && !known; i++)
        known = marker_row_is(&rows->list[i], &row) &&
                (rows->list[i].pid != rows->self || rows->list[i].number != question->descriptor);
    return known;
}

bool marker_rows_explain(const struct marker_rows *rows, bool mapped)
{
    const struct markers_question *question = rows->question;
    for (int i = 0; i < question->count; i++) {
        struct mark_range beside[2];
        struct bytes_found found;
        if (!is_known(rows, mapped, &question->ranges[i], &found)) return false;
        if (found.start < 0 || !mark_only_reads(found.type == F_WRLCK, found.start, found.length)) continue;
        mark_ranges_beside(&question->ranges[i], beside);
        if (!is_known(rows, mapped, &beside[0], &found) || !is_known(rows, mapped, &beside[1], &found)) return false;
    }
    return true;
}
