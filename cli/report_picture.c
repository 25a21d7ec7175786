#include "report_picture.h"

#include <stdlib.h>
#include <string.h>

/* With more rows than ROWS_SINGLE those of one program become one.  An image has ROWS_OF_IMAGE at most, the picture
 * about ROWS_OF_PICTURE; so many processes that corrupt an image keep rows of their own. */
enum { ROWS_SINGLE = 40, ROWS_OF_IMAGE = 12, ROWS_OF_PICTURE = 60, CULPRITS = 6 };

double picture_x(const struct picture *picture, int64_t time)
{
    double share = (double)(time - picture->from) / (double)(picture->to - picture->from);
    return PLOT_X + share * (PLOT_RIGHT - PLOT_X);
}

/* ---- rows --------------------------------------------------------------------------------------------------- */

/* Where an image's rows are found, while it is filled. */
struct filling {
    struct picture *picture;
    struct group *group;
    struct set rows;
    uint32_t *seen; /* for each process, the group in which it was counted last, one more than its index */
    const struct report_process *culprits[CULPRITS];
    size_t culprit_count;
};

static uint64_t hash_row(const void *object)
{
    const struct row *row = object;
    return hash_of_two((uintptr_t)row->process, row->process ? 0 : (uintptr_t)row->comm);
}

static bool equal_rows(const void *left, const void *right)
{
    const struct row *a = left, *b = right;
    return a->process == b->process && (a->process || a->comm == b->comm);
}

static bool has_own_row(const struct filling *filling, const struct report_process *process)
{
    if (!filling->picture->by_program) return true;
    for (size_t i = 0; i < filling->culprit_count; i++)
        if (filling->culprits[i] == process) return true;
    return false;
}

static struct row *find_row(struct filling *filling, const struct report_process *process,
                            const struct report_name *comm)
{
    struct group *group = filling->group;
    const struct row sought = {.process = has_own_row(filling, process) ? process : NULL, .comm = comm};
    struct row *row = set_find(&filling->rows, &sought);
    if (!row) {
        row = kept(sizeof *row);
        *row = sought;
        row->order = group->count;
        set_put(&filling->rows, row);
        group->rows = grown(group->rows, group->count, &group->room, sizeof *group->rows);
        group->rows[group->count++] = row;
    }
    uint32_t *seen = &filling->seen[process->number];
    if (*seen != group->order + 1) row->processes++;
    *seen = (uint32_t)group->order + 1;
    row->only = process;
    return row;
}

/* Can the two not be told apart at this scale? */
static bool are_one(const struct piece *last, const struct piece *next)
{
    double apart = next->kind == PIECE_REFUSED ? 3 : next->kind == PIECE_PASSED ? 8 : 1;
    bool narrow = last->right - last->left < 3 || next->right - next->left < 3;
    bool joined = next->kind == PIECE_CORRUPT || next->kind == PIECE_MIXTURE;
    return last->kind == next->kind && next->left - last->right < apart && last->left - next->right < apart &&
           (narrow || next->from < last->to || joined);
}

static void join(struct piece *last, const struct piece *next)
{
    if (next->right > last->right) {
        last->right = next->right;
        last->open_ended = next->open_ended;
    }
    if (next->left < last->left) last->left = next->left;
    if (next->from < last->from) last->from = next->from;
    if (next->to > last->to) last->to = next->to;
    if (last->process != next->process) last->process = NULL;
    if (last->cmdline != next->cmdline) last->cmdline = NULL;
    last->count += next->count;
}

static void put_piece(struct row *row, const struct piece *piece)
{
    size_t *last = &row->last[piece->kind];
    if (*last && are_one(&row->pieces[*last - 1], piece)) {
        join(&row->pieces[*last - 1], piece);
        return;
    }
    row->pieces = grown(row->pieces, row->count, &row->room, sizeof *row->pieces);
    row->pieces[row->count++] = *piece;
    *last = row->count;
}

static struct row *add_piece(struct filling *filling, const struct report_process *process,
                             const struct report_name *comm, struct piece piece)
{
    struct picture *picture = filling->picture;
    struct row *row = find_row(filling, process, comm);
    row->cmdline = row->count == 0 || row->cmdline == piece.cmdline ? piece.cmdline : NULL;
    piece.process = process;
    piece.count = 1;
    piece.left = picture_x(picture, piece.from);
    piece.right = picture_x(picture, piece.to);
    picture->has[piece.kind] = true;
    picture->has_open_end |= piece.open_ended;
    put_piece(row, &piece);
    return row;
}

static void add_spans(struct filling *filling)
{
    const struct report_image *image = filling->group->image;
    for (size_t i = 0; i < image->span_count; i++) {
        const struct span *span = image->spans[i];
        for (size_t j = 0; j < span->count; j++) {
            const struct segment segment = span_segment(span, j);
            add_piece(filling, span->process, span->comm,
                      (struct piece){.kind = segment.mode == LOCK_EXCLUSIVE ? PIECE_EXCLUSIVE
                                             : segment.mode == LOCK_SHARED  ? PIECE_SHARED
                                                                            : PIECE_NONE,
                                     .from = segment.from,
                                     .to = segment.to,
                                     .open_ended = span->end == END_UNKNOWN && j + 1 == span->count,
                                     .cmdline = span->cmdline});
        }
    }
}

static void add_waits(struct filling *filling)
{
    const struct report_image *image = filling->group->image;
    for (size_t i = 0; i < image->wait_count; i++) {
        const struct report_wait *wait = image->waits[i];
        add_piece(filling, wait->process, wait->comm,
                  (struct piece){.kind = PIECE_WAIT, .from = wait->from, .to = wait->to, .cmdline = wait->cmdline});
    }
}

static void add_incidents(struct filling *filling)
{
    const struct report_image *image = filling->group->image;
    for (size_t i = 0; i < image->incident_count; i++) {
        const struct incident *incident = &image->incidents[i];
        const struct detail *detail = incident->detail;
        if (detail->kind != EVENT_CONFLICT && detail->kind != EVENT_GUARD) continue;
        add_piece(filling, incident->process, detail->comm,
                  (struct piece){.kind = was_let_through(detail->result) ? PIECE_PASSED : PIECE_REFUSED,
                                 .from = incident->time,
                                 .to = incident->time,
                                 .cmdline = detail->cmdline});
    }
}

static void add_overlap(struct filling *filling, const struct overlap *overlap)
{
    const struct span *const both[] = {overlap->first, overlap->second};
    bool corrupts = overlap->kind == OVERLAP_WRITERS;
    for (int i = 0; i < 2; i++) {
        if (both[i]->image != filling->group->image) continue;
        struct row *row = add_piece(filling, both[i]->process, both[i]->comm,
                                    (struct piece){.kind = corrupts ? PIECE_CORRUPT : PIECE_MIXTURE,
                                                   .from = overlap->from,
                                                   .to = overlap->to,
                                                   .cmdline = both[i]->cmdline});
        if (corrupts)
            row->corrupts = true;
        else
            row->mixes = true;
    }
}

static bool is_certain(const struct overlap *overlap)
{
    return overlap->kind != OVERLAP_FAMILY && !overlap->possible;
}

/* Those of the image, and, where it is known by another name as well, of that. */
static void add_overlaps(struct filling *filling)
{
    const struct report *report = filling->picture->report;
    for (size_t i = 0; i < report->image_count; i++) {
        const struct report_image *image = report->images[i];
        /* An image that shares its file with none is its own alone. */
        if (image != filling->group->image && image->same == image &&
            filling->group->image->same == filling->group->image)
            continue;
        for (size_t j = 0; j < image->overlap_count; j++)
            if (is_certain(&image->overlaps[j])) add_overlap(filling, &image->overlaps[j]);
    }
}

static void find_culprits(struct filling *filling)
{
    const struct report_image *image = filling->group->image;
    filling->culprit_count = 0;
    for (size_t i = 0; i < image->overlap_count; i++) {
        const struct overlap *overlap = &image->overlaps[i];
        filling->picture->has_possible |= overlap->possible;
        if (!is_certain(overlap) || overlap->kind != OVERLAP_WRITERS) continue;
        if (!filling->group->culprit) filling->group->culprit = overlap;
        const struct report_process *const both[] = {overlap->first->process, overlap->second->process};
        for (int j = 0; j < 2; j++)
            if (filling->culprit_count < CULPRITS && (!filling->picture->by_program || !has_own_row(filling, both[j])))
                filling->culprits[filling->culprit_count++] = both[j];
    }
}

static int compare_pieces(const void *left, const void *right)
{
    const struct piece *a = left, *b = right;
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    return a->from < b->from ? -1 : a->from > b->from;
}

static void join_pieces(struct row *row)
{
    size_t kept_count = 0;
    if (row->count) qsort(row->pieces, row->count, sizeof *row->pieces, compare_pieces);
    for (size_t i = 0; i < row->count; i++) {
        struct piece *last = kept_count ? &row->pieces[kept_count - 1] : NULL;
        if (last && are_one(last, &row->pieces[i]))
            join(last, &row->pieces[i]);
        else
            row->pieces[kept_count++] = row->pieces[i];
    }
    row->count = kept_count;
}

/* Those who had part in a conflict first. */
static int compare_rows(const void *left, const void *right)
{
    const struct row *a = *(struct row *const *)left, *b = *(struct row *const *)right;
    if (a->corrupts != b->corrupts) return a->corrupts ? -1 : 1;
    if (a->mixes != b->mixes) return a->mixes ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static int compare_importance(const void *left, const void *right)
{
    const struct row *a = *(struct row *const *)left, *b = *(struct row *const *)right;
    if (a->corrupts != b->corrupts) return a->corrupts ? -1 : 1;
    if (a->mixes != b->mixes) return a->mixes ? -1 : 1;
    if (a->processes != b->processes) return a->processes > b->processes ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Beyond what an image may have, the rows of least importance become one, the last. */
static void join_rows(struct group *group)
{
    if (group->count > ROWS_OF_IMAGE) {
        qsort(group->rows, group->count, sizeof *group->rows, compare_importance);
        struct row *others = group->rows[ROWS_OF_IMAGE - 1];
        for (size_t i = ROWS_OF_IMAGE; i < group->count; i++) {
            const struct row *row = group->rows[i];
            for (size_t j = 0; j < row->count; j++) put_piece(others, &row->pieces[j]);
            others->processes += row->processes;
            others->corrupts |= row->corrupts;
            free(row->pieces);
        }
        others->comm = others->cmdline = NULL;
        others->process = NULL;
        others->order = SIZE_MAX;
        group->count = ROWS_OF_IMAGE;
    }
    qsort(group->rows, group->count, sizeof *group->rows, compare_rows);
}

/* ---- which images ------------------------------------------------------------------------------------------- */

static size_t conflicts_of(const struct report_image *image)
{
    return image->clashes + image->mixtures + image->incident_count;
}

static int compare_conflicts(const void *left, const void *right)
{
    const struct group *a = left, *b = right;
    if (a->worst != b->worst) return a->worst ? -1 : 1;
    if (a->image->clashes != b->image->clashes) return a->image->clashes > b->image->clashes ? -1 : 1;
    if (!conflicts_of(a->image) != !conflicts_of(b->image)) return conflicts_of(a->image) ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* The one of the verdict, then those with conflicts, as many as there is room for. */
static void choose_images(struct picture *picture)
{
    const struct report *report = picture->report;
    const struct overlap *worst = verdict_overlap(report);
    size_t rows = 0;
    picture->groups = zeroed((report->image_count + 1) * sizeof *picture->groups);
    for (size_t i = 0; i < report->image_count; i++) {
        if (is_system_file(report->images[i])) {
            picture->system_files++;
            continue;
        }
        picture->groups[picture->count].image = report->images[i];
        picture->groups[picture->count].order = picture->count;
        picture->groups[picture->count].worst = worst && report->images[i] == worst->second->image;
        picture->count++;
        rows += report->images[i]->holder_count;
    }
    picture->by_program = rows > ROWS_SINGLE;
    qsort(picture->groups, picture->count, sizeof *picture->groups, compare_conflicts);
    size_t all = picture->count;
    rows = 0;
    for (size_t i = 0; i < all; i++) {
        const struct report_image *image = picture->groups[i].image;
        rows += image->holder_count < ROWS_OF_IMAGE ? image->holder_count : ROWS_OF_IMAGE;
        if (rows <= ROWS_OF_PICTURE || i == 0) continue;
        picture->count = i;
        break;
    }
    for (size_t i = picture->count; i < all; i++) {
        picture->images_left_out++;
        picture->clashes_left_out += picture->groups[i].image->clashes;
    }
}

void picture_fill(struct picture *picture)
{
    struct filling filling = {.picture = picture,
                              .seen = zeroed((picture->report->process_count + 1) * sizeof(uint32_t))};
    choose_images(picture);
    for (size_t i = 0; i < picture->count; i++) {
        struct group *group = &picture->groups[i];
        group->order = i;
        filling.group = group;
        filling.rows = (struct set){.hash = hash_row, .equal = equal_rows};
        find_culprits(&filling);
        add_spans(&filling);
        add_waits(&filling);
        add_incidents(&filling);
        add_overlaps(&filling);
        free(filling.rows.slots);
        join_rows(group);
        for (size_t j = 0; j < group->count; j++) join_pieces(group->rows[j]);
    }
    free(filling.seen);
}
