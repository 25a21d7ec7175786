/* report_grants.c: who is whose family, and which spans had ended by the time that somebody else got the lock. */
#include <stdlib.h>

#include "report_index.h"
#include "report_overlap.h"

/* Lines of the command that watches for exits come after the exit, and the lock was free in between. */
#define EXIT_SEEN_LATE INT64_C(2000000000)

enum { GENERATIONS = 100 };

/* ---- family ------------------------------------------------------------------------------------------------- */

static bool is_ancestor(const struct report_process *ancestor, const struct report_process *process)
{
    for (int i = 0; i < GENERATIONS && (process = process->parent); i++)
        if (process == ancestor) return true;
    return false;
}

struct report_process *root_of(const struct span *span)
{
    struct report_process *root = span->process, *process = span->process;
    for (int i = 0; i < GENERATIONS && (process = process->parent); i++)
        if (had_image(process, span->image)) root = process;
    return root;
}

bool are_family(const struct span *a, const struct span *b, bool same_root)
{
    if (a->process == b->process) return true;
    if ((a->family && !b->let_through) || (b->family && !a->let_through)) return true;
    if (!same_root) return false;
    return a->inherited || b->inherited || is_ancestor(a->process, b->process) || is_ancestor(b->process, a->process);
}

/* ---- ends that are not in the log --------------------------------------------------------------------------- */

/* The kernel gave a lock: who has one that excludes it was gone by then. */
struct grant {
    int64_t at;
    const struct span *span;
};

struct grants {
    struct grant *grants;
    size_t count, room;
};

static int compare_grants(const void *left, const void *right)
{
    const struct grant *a = left, *b = right;
    unsigned one = a->span->process->boot, other = b->span->process->boot;
    if (one != other) return one < other ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* Of any mode, and exclusive ones alone. */
static void gather_grants(const struct report_image *image, struct grants *any, struct grants *exclusive)
{
    for (size_t i = 0; i < image->span_count; i++)
        for (size_t j = 0; j < image->spans[i]->count; j++) {
            const struct segment segment = span_segment(image->spans[i], j);
            struct grants *const both[] = {any, segment.mode == LOCK_EXCLUSIVE ? exclusive : NULL};
            for (int k = 0; k < 2 && segment.granted && segment.mode != LOCK_NONE; k++) {
                if (!both[k]) continue;
                both[k]->grants = grown(both[k]->grants, both[k]->count, &both[k]->room, sizeof *both[k]->grants);
                both[k]->grants[both[k]->count++] = (struct grant){segment.from, image->spans[i]};
            }
        }
    if (any->count) qsort(any->grants, any->count, sizeof *any->grants, compare_grants);
    if (exclusive->count) qsort(exclusive->grants, exclusive->count, sizeof *exclusive->grants, compare_grants);
}

static size_t first_grant_from(const struct grants *grants, const struct grant *sought)
{
    size_t low = 0, high = grants->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_grants(&grants->grants[middle], sought) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Ends a span whose end is not known, or was seen late, where another process got a lock that excludes it. */
static void end_by_grants(struct span *span, const struct grants *grants)
{
    const struct segment last = span_segment(span, span->count - 1);
    if (!last.locked || last.mode == LOCK_NONE) return;
    struct grant earliest = {.at = span->last_seen > last.from ? span->last_seen : last.from, .span = span};
    if (span->end == END_EXITED && earliest.at < span->to - EXIT_SEEN_LATE + 1)
        earliest.at = span->to - EXIT_SEEN_LATE + 1;
    for (size_t i = first_grant_from(grants, &earliest); i < grants->count; i++) {
        const struct grant *grant = &grants->grants[i];
        if (grant->at >= span->to || grant->span->process->boot != span->process->boot) return;
        if (are_family(span, grant->span, root_of(span) == root_of(grant->span))) continue;
        cut_span(span, grant->at);
        return;
    }
}

void end_spans_by_grants(const struct report_image *image)
{
    struct grants any = {0}, exclusive = {0};
    bool wanted = false;
    for (size_t i = 0; i < image->span_count; i++) wanted |= image->spans[i]->end != END_RELEASED;
    if (!wanted) return;
    gather_grants(image, &any, &exclusive);
    for (size_t i = 0; i < image->span_count; i++) {
        struct span *span = image->spans[i];
        if (span->end == END_RELEASED) continue;
        end_by_grants(span, span_segment(span, span->count - 1).mode == LOCK_EXCLUSIVE ? &any : &exclusive);
    }
    free(any.grants);
    free(exclusive.grants);
}
