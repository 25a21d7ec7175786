/* report_overlap.c: goes along the time line of each file, and looks at whoever comes while somebody else is there.
 *
 * Who is there is kept in lists: writers, and readers that have not met a writer yet; each of them apart by whether it
 * is certain that they are still there, and by family.  A reader that met a writer is in no list any more, a newcomer
 * looks for the first writer of another family: so nobody is looked at by everybody. */
#include "report_overlap.h"

#include <stdlib.h>
#include <string.h>

/* ---- legs: parts of spans on one time line ------------------------------------------------------------------ */

enum access { READS, WRITES };

/* Those who are there and have one root. */
struct crowd {
    struct leg *legs[2][2][2];    /* by access, by certainty, and by whether they took a lock of their own */
    struct crowd *next[2][2];     /* of those with legs of this access and certainty */
    struct crowd *previous[2][2]; /* the list is a ring, so the first one's is the last */
    size_t count;                 /* of all its legs */
};

/* A part of a span that reads or writes.  One of a span whose end is not in the log has a second leg, from the last
 * line on, which is only possible. */
struct leg {
    struct span *span;
    struct report_process *root;
    int64_t from, until;         /* from its end on it is not there */
    int64_t to;                  /* as it is told: with the leg that goes on from this one */
    struct leg *next, *previous; /* a ring, too; NULL: not there */
    enum access access;
    bool certain;
};

struct line {
    struct report *report;
    struct leg *legs;
    size_t count, room;
    struct crowd *there[2][2];
};

static int64_t end_of(const struct span *span)
{
    /* One that is known from lines of others has no length of its own, and was there at that moment. */
    return span->to + span->reported;
}

static void add_leg(struct line *line, struct span *span, int64_t from, int64_t until, int64_t to, enum access access,
                    bool certain)
{
    line->legs = grown(line->legs, line->count, &line->room, sizeof *line->legs);
    line->legs[line->count++] =
        (struct leg){.span = span, .from = from, .until = until, .to = to, .access = access, .certain = certain};
}

static void add_legs(struct line *line, struct span *span)
{
    for (size_t i = 0; i < span->count; i++) {
        struct segment segment = span_segment(span, i);
        if (segment.mode == LOCK_NONE) continue;
        enum access access = segment.mode == LOCK_EXCLUSIVE ? WRITES : READS;
        bool last = i + 1 == span->count;
        /* What follows in the same mode, locked or not, is the same leg. */
        for (; !last && span_segment(span, i + 1).mode == segment.mode; i++, last = i + 1 == span->count)
            segment.to = span_segment(span, i + 1).to;
        int64_t until = last ? end_of(span) : segment.to;
        /* Including the moment of the last line. */
        int64_t known = last && span->end == END_UNKNOWN && !span->reported ? span->last_seen + 1 : until;
        if (known > until) known = until;
        add_leg(line, span, segment.from, known, segment.to, access, true);
        if (known < until) add_leg(line, span, known, until, segment.to, access, false);
    }
}

/* A leg that goes on from another comes after what is new at that time. */
static int compare_legs(const void *left, const void *right)
{
    const struct leg *a = left, *b = right;
    if (a->span->process->boot != b->span->process->boot)
        return a->span->process->boot < b->span->process->boot ? -1 : 1;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    if (a->certain != b->certain) return a->certain ? -1 : 1;
    if (a->span->number != b->span->number) return a->span->number < b->span->number ? -1 : 1;
    return a->span < b->span ? -1 : a->span > b->span;
}

static int compare_ends(const void *left, const void *right)
{
    const struct leg *a = *(struct leg *const *)left, *b = *(struct leg *const *)right;
    return a->until < b->until ? -1 : a->until > b->until;
}

/* ---- who is there ------------------------------------------------------------------------------------------- */

/* Adds to the end of a ring, and takes off it. */
#define RING_ADD(first, member, next, previous)     \
    do {                                            \
        if (!(first)) {                             \
            (first) = (member);                     \
            (member)->next = (member);              \
            (member)->previous = (member);          \
        } else {                                    \
            (member)->next = (first);               \
            (member)->previous = (first)->previous; \
            (first)->previous->next = (member);     \
            (first)->previous = (member);           \
        }                                           \
    } while (0)
#define RING_REMOVE(first, member, next, previous)         \
    do {                                                   \
        (member)->previous->next = (member)->next;         \
        (member)->next->previous = (member)->previous;     \
        if ((first) == (member)) (first) = (member)->next; \
        if ((first) == (member)) (first) = NULL;           \
    } while (0)

static struct leg **place_of(const struct leg *leg)
{
    return &leg->root->crowd->legs[leg->access][leg->certain][!leg->span->inherited];
}

/* Crowds that nobody is in. */
static struct crowd *spare_crowds;

static struct crowd *crowd_of(struct report_process *root)
{
    if (root->crowd) return root->crowd;
    struct crowd *crowd = spare_crowds ? spare_crowds : kept(sizeof *crowd);
    spare_crowds = crowd->next[0][0];
    crowd->next[0][0] = NULL;
    return root->crowd = crowd;
}

static void arrive(struct line *line, struct leg *leg)
{
    enum access access = leg->access;
    struct crowd *crowd = crowd_of(leg->root);
    if (!crowd->legs[access][leg->certain][0] && !crowd->legs[access][leg->certain][1])
        RING_ADD(line->there[access][leg->certain], crowd, next[access][leg->certain], previous[access][leg->certain]);
    RING_ADD(*place_of(leg), leg, next, previous);
    crowd->count++;
}

static void leave(struct line *line, struct leg *leg)
{
    enum access access = leg->access;
    struct crowd *crowd = leg->root ? leg->root->crowd : NULL;
    if (!leg->next) return;
    RING_REMOVE(*place_of(leg), leg, next, previous);
    leg->next = leg->previous = NULL;
    if (!crowd->legs[access][leg->certain][0] && !crowd->legs[access][leg->certain][1])
        RING_REMOVE(line->there[access][leg->certain], crowd, next[access][leg->certain],
                    previous[access][leg->certain]);
    if (--crowd->count) return;
    leg->root->crowd = NULL;
    crowd->next[0][0] = spare_crowds;
    spare_crowds = crowd;
}

/* ---- overlaps ----------------------------------------------------------------------------------------------- */

struct pair {
    const struct report_image *image;
    const struct report_process *one, *other;
    unsigned what;
};

static uint64_t hash_pair(const void *object)
{
    const struct pair *pair = object;
    return hash_of_two(hash_of_two((uintptr_t)pair->image, (uintptr_t)pair->one),
                       hash_of_two((uintptr_t)pair->other, pair->what));
}

static bool equal_pairs(const void *left, const void *right)
{
    const struct pair *a = left, *b = right;
    return a->image == b->image && a->one == b->one && a->other == b->other && a->what == b->what;
}

static struct set pairs = {.hash = hash_pair, .equal = equal_pairs};

static struct pair pair_of(const struct overlap *overlap, enum overlap_kind kind)
{
    const struct report_process *one = overlap->first->process, *other = overlap->second->process;
    return (struct pair){.image = overlap->first->image,
                         .one = one->number < other->number ? one : other,
                         .other = one->number < other->number ? other : one,
                         .what = 2 * kind + overlap->possible};
}

/* Did these two processes overlap before in this way?  A program that probes an image opens it many times. */
static bool is_repeated(const struct overlap *overlap)
{
    const struct pair sought = pair_of(overlap, overlap->kind);
    if (set_find(&pairs, &sought)) return true;
    struct pair *pair = kept(sizeof *pair);
    *pair = sought;
    set_put(&pairs, pair);
    return false;
}

/* Did the two write at once as well?  Then what one of them read before is the lesser harm, and not told apart. */
static bool is_part_of_worse(const struct overlap *overlap)
{
    const struct pair writers = pair_of(overlap, OVERLAP_WRITERS);
    return overlap->kind == OVERLAP_MIXTURE && set_find(&pairs, &writers);
}

static void count_overlap(struct report *report, const struct overlap *overlap)
{
    struct report_image *image = overlap->first->image;
    if (overlap->kind != OVERLAP_FAMILY && !overlap->possible) {
        struct span *const both[] = {overlap->first, overlap->second};
        for (int i = 0; i < 2; i++) {
            both[i]->clashes++;
            both[i]->corrupts |= overlap->kind == OVERLAP_WRITERS;
            both[i]->mixes |= overlap->kind == OVERLAP_MIXTURE;
        }
    }
    if (overlap->repeated) return;
    if (overlap->kind == OVERLAP_FAMILY)
        report->family++, image->family++;
    else if (overlap->possible)
        report->possible++, image->possible++;
    else if (overlap->kind == OVERLAP_MIXTURE)
        report->mixtures++, image->mixtures++;
    else
        report->clashes++, image->clashes++;
}

/* The newcomer meets somebody who is there. */
static void note_overlap(const struct leg *there, const struct leg *newcomer, bool family)
{
    struct overlap overlap = {.first = there->span, .second = newcomer->span, .from = newcomer->from};
    struct report_image *image = there->span->image;
    overlap.to = there->to < newcomer->to ? there->to : newcomer->to;
    if (overlap.to < overlap.from) overlap.to = overlap.from;
    overlap.kind = family                                                  ? OVERLAP_FAMILY
                   : there->access == WRITES && newcomer->access == WRITES ? OVERLAP_WRITERS
                                                                           : OVERLAP_MIXTURE;
    overlap.possible = !family && !there->certain;
    overlap.repeated = is_repeated(&overlap);
    image->overlaps = grown(image->overlaps, image->overlap_count, &image->overlap_room, sizeof *image->overlaps);
    image->overlaps[image->overlap_count++] = overlap;
}

/* One file under two names: only where it is known to be one. */
static bool have_one_file(const struct span *a, const struct span *b)
{
    return a->image == b->image || (a->file && a->file == b->file);
}

enum meeting { MEETS_NOBODY, MEETS_FAMILY, MEETS_STRANGER };

/* Is the newcomer alone with those of a ring?  *found: the first stranger, or the first of its family. */
static enum meeting meet_ring(struct leg *first, const struct leg *newcomer, struct leg **found)
{
    bool same_root = first && first->root == newcomer->root;
    enum meeting meeting = MEETS_NOBODY;
    /* All in it have what they have by one ancestor. */
    bool all_family = same_root && (first->span->inherited || newcomer->span->inherited);
    for (struct leg *leg = first; leg; leg = leg->next == first ? NULL : leg->next) {
        if (leg->span->process == newcomer->span->process || !have_one_file(leg->span, newcomer->span)) continue;
        if (all_family || are_family(leg->span, newcomer->span, same_root)) {
            if (meeting == MEETS_NOBODY) *found = leg;
            meeting = MEETS_FAMILY;
            if (all_family) return meeting;
            continue;
        }
        *found = leg;
        return MEETS_STRANGER;
    }
    return meeting;
}

/* Whom of those there with this access and certainty does the newcomer meet? */
static enum meeting meet(const struct line *line, enum access access, bool certain, const struct leg *newcomer,
                         struct leg **found)
{
    struct crowd *first = line->there[access][certain];
    enum meeting best = MEETS_NOBODY;
    for (struct crowd *crowd = first; crowd;
         crowd = crowd->next[access][certain] == first ? NULL : crowd->next[access][certain])
        for (int own = 1; own >= 0; own--) {
            struct leg *leg = NULL;
            enum meeting meeting = meet_ring(crowd->legs[access][certain][own], newcomer, &leg);
            if (meeting > best) *found = leg;
            if (meeting > best) best = meeting;
            if (best == MEETS_STRANGER) return best;
        }
    return best;
}

/* A writer comes: each reader that is there meets it, and needs to meet no other. */
static bool meet_readers(struct line *line, bool certain, const struct leg *newcomer)
{
    struct leg *reader = NULL;
    bool any = false;
    while (meet(line, READS, certain, newcomer, &reader) == MEETS_STRANGER) {
        note_overlap(reader, newcomer, false);
        leave(line, reader);
        any = true;
    }
    return any;
}

/* Notes whom the newcomer meets.  True: it met a writer, certainly. */
static bool meet_those_there(struct line *line, const struct leg *newcomer)
{
    struct leg *found = NULL, *family = NULL;
    enum meeting writers = meet(line, WRITES, true, newcomer, &found);
    if (writers == MEETS_FAMILY) family = found;
    bool stranger = writers == MEETS_STRANGER;
    bool certainly = stranger;
    if (!stranger) stranger = meet(line, WRITES, false, newcomer, &found) == MEETS_STRANGER;
    if (stranger) note_overlap(found, newcomer, false);
    if (newcomer->access == WRITES) {
        for (int certain = 1; certain >= 0; certain--) stranger |= meet_readers(line, certain, newcomer);
        if (!family && meet(line, READS, true, newcomer, &found) == MEETS_FAMILY) family = found;
    }
    if (!stranger && family) note_overlap(family, newcomer, true);
    return certainly;
}

/* Goes along the legs of one boot, which are in order. */
static void go_along(struct line *line, struct leg *legs, size_t count)
{
    struct leg **ends = zeroed(count * sizeof(struct leg *));
    size_t ended = 0;
    for (size_t i = 0; i < count; i++) ends[i] = &legs[i];
    qsort(ends, count, sizeof(struct leg *), compare_ends);
    for (size_t i = 0; i < count; i++) {
        struct leg *leg = &legs[i];
        for (; ended < count && ends[ended]->until <= leg->from; ended++) leave(line, ends[ended]);
        leg->root = root_of(leg->span);
        bool met = leg->certain && meet_those_there(line, leg);
        if (leg->until > leg->from && !(met && leg->access == READS)) arrive(line, leg);
    }
    for (; ended < count; ended++) leave(line, ends[ended]);
    free(ends);
}

static bool is_in_order(const struct leg *legs, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (compare_legs(&legs[i - 1], &legs[i]) > 0) return false;
    return true;
}

/* ---- images that are one file ------------------------------------------------------------------------------- */

/* A file on a machine, and the image by which it was known first. */
struct alias {
    const struct file *file;
    unsigned boot;
    struct report_image *image;
};

static uint64_t hash_alias(const void *object)
{
    const struct alias *alias = object;
    return hash_of_two((uintptr_t)alias->file, alias->boot);
}

static bool equal_aliases(const void *left, const void *right)
{
    const struct alias *a = left, *b = right;
    return a->file == b->file && a->boot == b->boot;
}

static struct report_image *representative(struct report_image *image)
{
    while (image->same != image) image = image->same = image->same->same;
    return image;
}

/* One file that was open under two names at the same time: a lock by path does not see that. */
static void join_names(const struct report *report)
{
    struct set aliases = {.hash = hash_alias, .equal = equal_aliases};
    for (size_t i = 0; i < report->image_count; i++)
        for (size_t j = 0; j < report->images[i]->span_count; j++) {
            const struct span *span = report->images[i]->spans[j];
            const struct alias sought = {span->file, span->process->boot, report->images[i]};
            if (!span->file) continue;
            struct alias *alias = set_find(&aliases, &sought);
            if (alias) {
                representative(report->images[i])->same = representative(alias->image);
                continue;
            }
            alias = kept(sizeof *alias);
            *alias = sought;
            set_put(&aliases, alias);
        }
    free(aliases.slots);
}

static int compare_images(const void *left, const void *right)
{
    struct report_image *a = *(struct report_image *const *)left, *b = *(struct report_image *const *)right;
    struct report_image *one = representative(a), *other = representative(b);
    if (one != other) return one < other ? -1 : 1;
    return a < b ? -1 : a > b;
}

static int compare_overlaps(const void *left, const void *right)
{
    const struct overlap *a = left, *b = right;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    if (a->first->number != b->first->number) return a->first->number < b->first->number ? -1 : 1;
    return a->second->number < b->second->number ? -1 : a->second->number > b->second->number;
}

/* Once all are known. */
static void settle_overlaps(struct report *report, struct report_image *image)
{
    size_t kept_count = 0;
    for (size_t i = 0; i < image->overlap_count; i++) {
        if (is_part_of_worse(&image->overlaps[i])) continue;
        image->overlaps[kept_count++] = image->overlaps[i];
        count_overlap(report, &image->overlaps[i]);
    }
    image->overlap_count = kept_count;
    if (kept_count) qsort(image->overlaps, kept_count, sizeof *image->overlaps, compare_overlaps);
}

/* All images that are one file, on one time line. */
static void find_overlaps(struct report *report, struct report_image **images, size_t count)
{
    struct line line = {.report = report};
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < images[i]->span_count; j++) add_legs(&line, images[i]->spans[j]);
    if (line.count > 1 && !is_in_order(line.legs, line.count))
        qsort(line.legs, line.count, sizeof *line.legs, compare_legs);
    for (size_t i = 0, next; i < line.count; i = next) {
        unsigned boot = line.legs[i].span->process->boot;
        for (next = i; next < line.count && line.legs[next].span->process->boot == boot;) next++;
        go_along(&line, line.legs + i, next - i);
    }
    free(line.legs);
    for (size_t i = 0; i < count; i++) settle_overlaps(report, images[i]);
}

void overlaps_find(struct report *report)
{
    struct report_image **sorted = zeroed((report->image_count + 1) * sizeof *sorted);
    join_names(report);
    for (size_t i = 0; i < report->image_count; i++) {
        sorted[i] = report->images[i];
        end_spans_by_grants(sorted[i]);
    }
    qsort(sorted, report->image_count, sizeof *sorted, compare_images);
    for (size_t i = 0, next; i < report->image_count; i = next) {
        for (next = i; next < report->image_count && representative(sorted[next]) == representative(sorted[i]);) next++;
        find_overlaps(report, sorted + i, next - i);
    }
    free(sorted);
}
