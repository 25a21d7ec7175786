/* report_svg.c: the report as a picture: a group of rows for each image, a row for each process, time from left to
 * right.
 *
 * The picture needs nothing but itself: no script, no font, no style sheet.  It has a background of its own, a dark one
 * where the reader prefers that.  Shared and exclusive differ in lightness too, so that it reads in grey. */
#include <stdlib.h>
#include <string.h>

#include "report_write.h"

#define SECOND INT64_C(1000000000)

/* In the picture's unit, the pixel. */
enum {
    WIDTH = 1000,
    MARGIN = 20,
    LABEL_X = 32,
    PLOT_X = 290,
    PLOT_RIGHT = 976,
    ROW_HEIGHT = 20,
    BAR_HEIGHT = 12,
    HEADER_HEIGHT = 30,
    GROUP_GAP = 10,
    TITLE_SIZE = 16,
    TEXT_SIZE = 11,
    AXIS_SIZE = 10,
};

/* With more rows than ROWS_SINGLE those of one program become one.  An image has ROWS_OF_IMAGE at most, the picture
 * about ROWS_OF_PICTURE. */
enum { ROWS_SINGLE = 40, ROWS_OF_IMAGE = 12, ROWS_OF_PICTURE = 60 };

static const char style[] =
    "<style>\n"
    "text{font-family:'DejaVu Sans',Verdana,Arial,sans-serif;font-size:11px;fill:#1b2026}\n"
    ".title{font-size:16px;font-weight:bold}.image{font-weight:bold}\n"
    ".faint{fill:#5c6670}.axis{font-size:10px;fill:#5c6670}.bad{fill:#c0141c;font-weight:bold}\n"
    ".page{fill:#ffffff;stroke:#d4dae0}.grid{stroke:#e4e8ec}.rule{stroke:#c3cad1}\n"
    ".shared{fill:#8cc4ea;stroke:#4a8fc0}.exclusive{fill:#1d3a6b;stroke:#1d3a6b}.none{fill:none;stroke:#5c6670}\n"
    ".wait{fill:url(#hatch);stroke:#5c6670}.hatch{stroke:#5c6670}\n"
    ".band{fill:#e0202a;fill-opacity:.16}.edge{stroke:#e0202a;stroke-opacity:.55}.strip{fill:#e0202a;stroke:#ffffff}\n"
    ".flag{fill:#e0202a}.maybe{fill:none;stroke:#e0202a;stroke-dasharray:3 2}.tick{stroke:#e0202a}\n"
    ".passed{fill:#ffffff;stroke:#e0202a}\n"
    "@media (prefers-color-scheme:dark){\n"
    "text{fill:#e6e9ec}.faint,.axis{fill:#9aa5b0}.bad{fill:#ff8086}\n"
    ".page{fill:#14191f;stroke:#39424c}.grid{stroke:#262d35}.rule{stroke:#4a545f}\n"
    ".shared{fill:#35638c;stroke:#6fa8d6}.exclusive{fill:#d3e6f7;stroke:#d3e6f7}.none{stroke:#9aa5b0}\n"
    ".wait{stroke:#9aa5b0}.hatch{stroke:#9aa5b0}\n"
    ".band{fill:#ff4d55;fill-opacity:.24}.edge{stroke:#ff4d55}.strip{fill:#ff4d55;stroke:#14191f}\n"
    ".flag{fill:#ff4d55}.maybe,.tick{stroke:#ff4d55}.passed{fill:#14191f;stroke:#ff4d55}\n"
    "}\n"
    "</style>\n"
    "<defs><pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" "
    "patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M1 0V5\" stroke-width=\"1.4\"/></pattern></defs>\n";

enum piece_kind { PIECE_NONE, PIECE_SHARED, PIECE_EXCLUSIVE, PIECE_WAIT, PIECE_STRIP, PIECE_TICK, PIECE_PASSED };

/* Something that happened in a row, or several of a kind that lie so close that they are drawn as one. */
struct piece {
    enum piece_kind kind;
    double left, right;
    int64_t from, to;
    size_t count;
    bool open_ended;
    const struct process *process; /* NULL: of several */
    const struct name *cmdline;    /* NULL: of several */
};

struct row {
    const struct process *process; /* NULL: of a program */
    const struct name *comm;       /* NULL: of all other programs */
    const struct name *cmdline;    /* NULL: several */
    struct piece *pieces;
    size_t count, room;
    size_t processes;
    const struct process *only; /* where it is one */
    bool clashes;
    size_t order;
};

struct group {
    const struct image *image;
    struct row *rows;
    size_t count, room;
    size_t order;
    int top; /* of the header */
};

struct picture {
    const struct report *report;
    FILE *stream;
    int64_t from, to;
    struct group *groups;
    size_t count;
    size_t images_left_out, clashes_left_out;
    bool by_program;
    bool date;
    bool has[PIECE_PASSED + 1];
    bool has_overlap, has_possible, has_open_end;
    int axis_y, bottom;
};

/* ---- text --------------------------------------------------------------------------------------------------- */

static void put_escaped(FILE *stream, const char *text)
{
    for (; *text; text++) switch (*text) {
        case '&':
            fputs("&amp;", stream);
            break;
        case '<':
            fputs("&lt;", stream);
            break;
        case '>':
            fputs("&gt;", stream);
            break;
        case '"':
            fputs("&quot;", stream);
            break;
        default:
            /* U+FFFE and U+FFFF are valid UTF-8 and no characters of XML. */
            if (memcmp(text, "\xef\xbf", 2) == 0 && ((text[2] & 0xff) == 0xbe || (text[2] & 0xff) == 0xbf)) {
                fputs("\xef\xbf\xbd", stream);
                text += 2;
            } else {
                putc(*text, stream);
            }
        }
}

static void put_text(const struct picture *picture, double x, double y, const char *class, const char *anchor,
                     const char *text)
{
    fprintf(picture->stream, "<text x=\"%.1f\" y=\"%.1f\"", x, y);
    if (class) fprintf(picture->stream, " class=\"%s\"", class);
    if (anchor) fprintf(picture->stream, " text-anchor=\"%s\"", anchor);
    putc('>', picture->stream);
    put_escaped(picture->stream, text);
    fputs("</text>\n", picture->stream);
}

static double x_of(const struct picture *picture, int64_t time)
{
    double share = (double)(time - picture->from) / (double)(picture->to - picture->from);
    return PLOT_X + share * (PLOT_RIGHT - PLOT_X);
}

/* ---- rows --------------------------------------------------------------------------------------------------- */

static struct row *find_row(struct picture *picture, struct group *group, const struct process *process,
                            const struct name *comm)
{
    for (size_t i = 0; i < group->count; i++) {
        struct row *row = &group->rows[i];
        if (picture->by_program ? row->comm == comm : row->process == process) return row;
    }
    group->rows = grown(group->rows, group->count, &group->room, sizeof *group->rows);
    struct row *row = &group->rows[group->count];
    *row = (struct row){.process = picture->by_program ? NULL : process, .comm = comm, .order = group->count};
    group->count++;
    return row;
}

static void add_piece(struct picture *picture, struct group *group, const struct process *process,
                      const struct name *comm, const struct piece *piece)
{
    struct row *row = find_row(picture, group, process, comm);
    row->cmdline = row->count == 0 || row->cmdline == piece->cmdline ? piece->cmdline : NULL;
    row->pieces = grown(row->pieces, row->count, &row->room, sizeof *row->pieces);
    struct piece *added = &row->pieces[row->count++];
    *added = *piece;
    added->process = process;
    added->count = 1;
    added->left = x_of(picture, piece->from);
    added->right = x_of(picture, piece->to);
    picture->has[piece->kind] = true;
    picture->has_open_end |= piece->open_ended;
}

static void add_spans(struct picture *picture, struct group *group)
{
    for (size_t i = 0; i < group->image->span_count; i++) {
        const struct span *span = group->image->spans[i];
        for (size_t j = 0; j < span->count; j++) {
            const struct segment *segment = &span->segments[j];
            struct piece piece = {.kind = segment->mode == LOCK_EXCLUSIVE ? PIECE_EXCLUSIVE
                                          : segment->mode == LOCK_SHARED  ? PIECE_SHARED
                                                                          : PIECE_NONE,
                                  .from = segment->from,
                                  .to = segment->to,
                                  .open_ended = span->end == END_UNKNOWN && j + 1 == span->count,
                                  .cmdline = span->cmdline};
            add_piece(picture, group, span->process, span->comm, &piece);
        }
    }
}

static void add_waits(struct picture *picture, struct group *group)
{
    for (size_t i = 0; i < group->image->wait_count; i++) {
        const struct waiting *wait = group->image->waits[i];
        struct piece piece = {.kind = PIECE_WAIT, .from = wait->from, .to = wait->to, .cmdline = wait->cmdline};
        add_piece(picture, group, wait->process, wait->comm, &piece);
    }
}

static void add_conflicts(struct picture *picture, struct group *group)
{
    for (size_t i = 0; i < group->image->incident_count; i++) {
        const struct incident *incident = &group->image->incidents[i];
        const struct event *event = incident->event;
        if (event->kind != EVENT_CONFLICT && event->kind != EVENT_GUARD) continue;
        struct piece piece = {.kind = was_let_through(event) ? PIECE_PASSED : PIECE_TICK,
                              .from = event->time,
                              .to = event->time,
                              .cmdline = event->cmdline};
        add_piece(picture, group, incident->process, event->comm, &piece);
    }
}

/* The group in which an image is drawn, or NULL. */
static struct group *group_of(struct picture *picture, const struct image *image)
{
    for (size_t i = 0; i < picture->count; i++)
        if (picture->groups[i].image == image) return &picture->groups[i];
    return NULL;
}

static bool is_clash(const struct overlap *overlap)
{
    return !overlap->family && !overlap->possible;
}

static void add_strips(struct picture *picture, const struct image *image)
{
    for (size_t i = 0; i < image->overlap_count; i++) {
        const struct overlap *overlap = &image->overlaps[i];
        picture->has_overlap |= is_clash(overlap);
        picture->has_possible |= overlap->possible;
        if (!is_clash(overlap)) continue;
        const struct span *const both[] = {overlap->first, overlap->second};
        for (int j = 0; j < 2; j++) {
            struct group *group = group_of(picture, both[j]->image);
            struct piece piece = {
                .kind = PIECE_STRIP, .from = overlap->from, .to = overlap->to, .cmdline = both[j]->cmdline};
            if (!group) continue;
            add_piece(picture, group, both[j]->process, both[j]->comm, &piece);
            find_row(picture, group, both[j]->process, both[j]->comm)->clashes = true;
        }
    }
}

static int compare_pieces(const void *left, const void *right)
{
    const struct piece *a = left, *b = right;
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    return a->from < b->from ? -1 : a->from > b->from;
}

static int compare_processes(const void *left, const void *right)
{
    const struct process *a = ((const struct piece *)left)->process, *b = ((const struct piece *)right)->process;
    return a->number < b->number ? -1 : a->number > b->number;
}

static void count_processes(struct row *row)
{
    qsort(row->pieces, row->count, sizeof *row->pieces, compare_processes);
    row->only = row->count ? row->pieces[0].process : NULL;
    for (size_t i = 0; i < row->count; i++)
        row->processes += i == 0 || row->pieces[i].process != row->pieces[i - 1].process;
}

/* Pieces of a kind that cannot be told apart at this scale become one. */
static void join_pieces(struct row *row)
{
    size_t kept = 0;
    if (row->count) qsort(row->pieces, row->count, sizeof *row->pieces, compare_pieces);
    for (size_t i = 0; i < row->count; i++) {
        struct piece *last = kept ? &row->pieces[kept - 1] : NULL;
        const struct piece *next = &row->pieces[i];
        double apart = next->kind == PIECE_TICK ? 3 : next->kind == PIECE_PASSED ? 8 : 1;
        bool narrow = last && (last->right - last->left < 3 || next->right - next->left < 3);
        bool touch = last && last->kind == next->kind && next->left - last->right < apart &&
                     (narrow || next->from < last->to || next->kind == PIECE_STRIP);
        if (!touch) {
            row->pieces[kept++] = *next;
            continue;
        }
        if (next->right > last->right) {
            last->right = next->right;
            last->open_ended = next->open_ended;
        }
        if (next->to > last->to) last->to = next->to;
        if (last->process != next->process) last->process = NULL;
        if (last->cmdline != next->cmdline) last->cmdline = NULL;
        last->count += next->count;
    }
    row->count = kept;
}

static int compare_importance(const void *left, const void *right)
{
    const struct row *a = left, *b = right;
    if (a->clashes != b->clashes) return a->clashes ? -1 : 1;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static int compare_order(const void *left, const void *right)
{
    const struct row *a = left, *b = right;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Beyond what an image may have, the rows of least importance become one, the last. */
static void join_rows(struct group *group)
{
    if (group->count > ROWS_OF_IMAGE) {
        qsort(group->rows, group->count, sizeof *group->rows, compare_importance);
        struct row *others = &group->rows[ROWS_OF_IMAGE - 1];
        for (size_t i = ROWS_OF_IMAGE; i < group->count; i++) {
            const struct row *row = &group->rows[i];
            for (size_t j = 0; j < row->count; j++) {
                others->pieces = grown(others->pieces, others->count, &others->room, sizeof *others->pieces);
                others->pieces[others->count++] = row->pieces[j];
            }
            free(row->pieces);
        }
        others->comm = others->cmdline = NULL;
        others->process = NULL;
        others->order = SIZE_MAX;
        group->count = ROWS_OF_IMAGE;
    }
    qsort(group->rows, group->count, sizeof *group->rows, compare_order);
}

/* ---- which images ------------------------------------------------------------------------------------------- */

static size_t conflicts_of(const struct image *image)
{
    return image->clashes + image->incident_count;
}

static int compare_conflicts(const void *left, const void *right)
{
    const struct group *a = left, *b = right;
    if (!conflicts_of(a->image) != !conflicts_of(b->image)) return conflicts_of(a->image) ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Those with conflicts first, as many as there is room for. */
static void choose_images(struct picture *picture)
{
    const struct report *report = picture->report;
    size_t rows = 0;
    picture->groups = zeroed((report->image_count + 1) * sizeof *picture->groups);
    for (size_t i = 0; i < report->image_count; i++) {
        picture->groups[i].image = report->images[i];
        picture->groups[i].order = i;
        rows += report->images[i]->holder_count;
    }
    picture->count = report->image_count;
    picture->by_program = rows > ROWS_SINGLE;
    if (rows <= ROWS_OF_PICTURE) return;
    qsort(picture->groups, picture->count, sizeof *picture->groups, compare_conflicts);
    rows = 0;
    for (size_t i = 0; i < report->image_count; i++) {
        const struct image *image = picture->groups[i].image;
        size_t wanted = image->holder_count < ROWS_OF_IMAGE ? image->holder_count : ROWS_OF_IMAGE;
        if (rows + wanted > ROWS_OF_PICTURE && i > 0) {
            picture->count = i;
            break;
        }
        rows += wanted;
    }
    for (size_t i = picture->count; i < report->image_count; i++) {
        picture->images_left_out++;
        picture->clashes_left_out += picture->groups[i].image->clashes;
    }
}

/* ---- drawing: the axis -------------------------------------------------------------------------------------- */

/* The least sensible step that has at most so many ticks. */
static int64_t tick_step(int64_t duration, int most)
{
    static const int64_t beyond_seconds[] = {1,     2,     5,      10,     15,      30,     60,    120,
                                             300,   600,   900,    1800,   3600,    7200,   10800, 21600,
                                             43200, 86400, 172800, 604800, 1209600, 2592000};
    for (int64_t unit = 1000; unit < SECOND; unit *= 10)
        for (int factor = 1; factor <= 5; factor += factor == 1 ? 1 : 3)
            if (duration / (unit * factor) < most) return unit * factor;
    size_t count = sizeof beyond_seconds / sizeof *beyond_seconds;
    for (size_t i = 0; i < count; i++)
        if (duration / (beyond_seconds[i] * SECOND) < most) return beyond_seconds[i] * SECOND;
    int64_t step = beyond_seconds[count - 1] * SECOND;
    while (duration / step >= most) step *= 2;
    return step;
}

static const char *tick_label(int64_t time, int64_t step, bool date, char text[TIME_SIZE])
{
    int digits = 0;
    for (int64_t unit = SECOND; unit > step && digits < 6; unit /= 10) digits++;
    if (step >= 86400 * SECOND) return local_date(time, text);
    local_time(time, digits, date, text);
    /* No seconds where all are zero. */
    if (step >= 60 * SECOND) text[strlen(text) - 3] = '\0';
    return text;
}

static void draw_axis(const struct picture *picture, int y, bool grid)
{
    int64_t duration = picture->to - picture->from;
    char label[TIME_SIZE];
    int64_t step = tick_step(duration, 12);
    /* Fewer, as long as labels would touch. */
    for (int most = 11; most > 1; most--) {
        tick_label(picture->from, step, picture->date, label);
        double room = (double)step / (double)duration * (PLOT_RIGHT - PLOT_X);
        if (text_width(label, AXIS_SIZE, false) + 14 <= room) break;
        step = tick_step(duration, most);
    }
    int64_t offset = local_offset(picture->from) * SECOND;
    int64_t first = (picture->from + offset + step - 1) / step * step - offset;
    fprintf(picture->stream, "<path class=\"rule\" d=\"M%d %dH%d\"/>\n", PLOT_X, y, PLOT_RIGHT);
    double last = 0;
    for (int64_t time = first; time <= picture->to; time += step) {
        double x = x_of(picture, time);
        tick_label(time, step, picture->date, label);
        double half = text_width(label, AXIS_SIZE, false) / 2;
        if (grid)
            fprintf(picture->stream, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>\n", x, y, picture->bottom);
        else
            fprintf(picture->stream, "<path class=\"rule\" d=\"M%.1f %dv4\"/>\n", x, y);
        if (x + half > WIDTH - 4 || x - half < last + 6) continue;
        put_text(picture, x, grid ? y - 5 : y + 14, "axis", "middle", label);
        last = x + half;
    }
}

/* ---- drawing: title and legend ------------------------------------------------------------------------------ */

static void draw_title(const struct picture *picture)
{
    const struct report *report = picture->report;
    char from[TIME_SIZE], to[TIME_SIZE], zone[TIME_SIZE], words[400];
    put_text(picture, MARGIN, 34, "title", NULL, "Who had which disk image open");
    if (!report->log.count) {
        put_text(picture, MARGIN, 56, "faint", NULL, "The log has no events.");
        return;
    }
    int digits = report->to - report->from < 10 * SECOND ? 3 : 0;
    snprintf(words, sizeof words, "%s to %s %s   ·   %s   ·   %s   ·   opened %s",
             local_time(report->from, digits, true, from), local_time(report->to, digits, picture->date, to),
             local_zone(report->to, zone), counted(report->image_count, "image", "images"),
             counted(report->processes, "process", "processes"), counted(report->spans, "time", "times"));
    put_text(picture, MARGIN, 56, "faint", NULL, words);
    if (!report_has_conflict(report)) return;
    size_t conflicts = report->refused + report->let_through;
    snprintf(words, sizeof words, "%s, %s", counted(report->clashes, "overlap that corrupts", "overlaps that corrupt"),
             counted(conflicts, "conflict", "conflicts"));
    put_text(picture, PLOT_RIGHT, 34, "bad", "end", words);
}

static void draw_tick(const struct picture *picture, double x, double y)
{
    fprintf(picture->stream, "<path class=\"tick\" stroke-width=\"2\" d=\"M%.1f %.1fv%d\"/>", x, y - 2, BAR_HEIGHT + 4);
}

static void draw_diamond(const struct picture *picture, double x, double y)
{
    fprintf(picture->stream,
            "<path class=\"passed\" stroke-width=\"1.5\" d=\"M%.1f %.1fl4.5 4.5l-4.5 4.5l-4.5 -4.5z\"/>", x,
            y + BAR_HEIGHT / 2.0 - 4.5);
}

static void draw_bar(const struct picture *picture, const char *class, double x, double y, double width,
                     bool open_ended)
{
    /* An end that is not in the log is an arrow. */
    if (open_ended && width >= 10)
        fprintf(picture->stream, "<path class=\"%s\" d=\"M%.1f %.1fH%.1fl6 %.1fl-6 %.1fH%.1fz\"/>", class, x, y,
                x + width - 6, BAR_HEIGHT / 2.0, BAR_HEIGHT / 2.0, x);
    else
        fprintf(picture->stream, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>", class, x, y,
                width, BAR_HEIGHT);
}

static void draw_flag(const struct picture *picture, double x, double y)
{
    fprintf(picture->stream, "<path class=\"flag\" d=\"M%.1f %.1fl4.5 -7h-9z\"/>", x, y);
}

static void draw_band(const struct picture *picture, double left, double right, int top, int bottom)
{
    fprintf(picture->stream,
            "<rect class=\"band\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>"
            "<path class=\"edge\" fill=\"none\" d=\"M%.1f %dV%dM%.1f %dV%d\"/>",
            left, top, right - left, bottom - top, left, top, bottom, right, top, bottom);
}

enum legend { SHARED, EXCLUSIVE, WAIT, OPEN_END, OVERLAP, POSSIBLE, PASSED, REFUSED, NO_LOCK, LEGENDS };

static void draw_sample(const struct picture *picture, enum legend legend, double x, double y)
{
    switch (legend) {
    case SHARED:
        draw_bar(picture, "shared", x, y, 22, false);
        break;
    case EXCLUSIVE:
        draw_bar(picture, "exclusive", x, y, 22, false);
        break;
    case WAIT:
        draw_bar(picture, "wait", x, y, 22, false);
        break;
    case OPEN_END:
        draw_bar(picture, "shared", x, y, 22, true);
        break;
    case OVERLAP:
        draw_band(picture, x, x + 22, (int)y - 2, (int)y + BAR_HEIGHT + 2);
        draw_flag(picture, x + 11, y + 6);
        break;
    case POSSIBLE:
        fprintf(picture->stream, "<rect class=\"maybe\" x=\"%.1f\" y=\"%.1f\" width=\"22\" height=\"%d\"/>", x, y,
                BAR_HEIGHT);
        break;
    case PASSED:
        draw_diamond(picture, x + 11, y);
        break;
    case REFUSED:
        draw_tick(picture, x + 11, y);
        break;
    case NO_LOCK:
        draw_bar(picture, "none", x, y, 22, false);
        break;
    case LEGENDS:
        break;
    }
}

/* Lays the legend out, and draws it where told to.  Returns the y of its last line. */
static int lay_legend(const struct picture *picture, bool draw)
{
    static const char *const words[LEGENDS] = {[SHARED] = "shared (read)",
                                               [EXCLUSIVE] = "exclusive (write)",
                                               [WAIT] = "waiting",
                                               [OPEN_END] = "end not in the log",
                                               [OVERLAP] = "overlap that corrupts",
                                               [POSSIBLE] = "possible overlap",
                                               [PASSED] = "let through",
                                               [REFUSED] = "refused",
                                               [NO_LOCK] = "no lock wanted"};
    const bool wanted[LEGENDS] = {[SHARED] = true,
                                  [EXCLUSIVE] = true,
                                  [WAIT] = picture->has[PIECE_WAIT],
                                  [OPEN_END] = picture->has_open_end,
                                  [OVERLAP] = picture->has_overlap,
                                  [POSSIBLE] = picture->has_possible,
                                  [PASSED] = picture->has[PIECE_PASSED],
                                  [REFUSED] = picture->has[PIECE_TICK],
                                  [NO_LOCK] = picture->has[PIECE_NONE]};
    double x = MARGIN;
    int y = 80;
    for (int i = 0; i < LEGENDS; i++) {
        if (!wanted[i]) continue;
        double width = 28 + text_width(words[i], TEXT_SIZE, false);
        if (x + width > PLOT_RIGHT) {
            x = MARGIN;
            y += 20;
        }
        if (draw) {
            draw_sample(picture, (enum legend)i, x, y - 10);
            putc('\n', picture->stream);
            put_text(picture, x + 28, y, NULL, NULL, words[i]);
        }
        x += width + 18;
    }
    return y;
}

/* ---- drawing: groups ---------------------------------------------------------------------------------------- */

static void put_tooltip(const struct picture *picture, const struct piece *piece)
{
    static const char *const verbs[] = {[PIECE_NONE] = "no lock wanted",
                                        [PIECE_SHARED] = "shared",
                                        [PIECE_EXCLUSIVE] = "exclusive",
                                        [PIECE_WAIT] = "waiting",
                                        [PIECE_STRIP] = "overlap that corrupts",
                                        [PIECE_TICK] = "refused",
                                        [PIECE_PASSED] = "let through, would have been refused"};
    char from[TIME_SIZE], to[TIME_SIZE], lasting[TIME_SIZE];
    FILE *stream = picture->stream;
    fputs("<title>", stream);
    if (piece->cmdline) put_escaped(stream, short_command(piece->cmdline));
    if (piece->process) fprintf(stream, "%spid %d", piece->cmdline ? ", " : "", (int)piece->process->pid);
    if (piece->process || piece->cmdline) fputs("&#10;", stream);
    if (piece->count > 1) fprintf(stream, "%zu times ", piece->count);
    fprintf(stream, "%s, %s", verbs[piece->kind], local_time(piece->from, 3, picture->date, from));
    if (piece->to > piece->from)
        fprintf(stream, " to %s%s, %s", local_time(piece->to, 3, picture->date, to),
                piece->open_ended ? " or another time, the end is not in the log" : "",
                duration_words(piece->to - piece->from, lasting));
    fputs("</title>", stream);
}

static void draw_piece(const struct picture *picture, const struct piece *piece, double y)
{
    static const char *const classes[] = {
        [PIECE_NONE] = "none", [PIECE_SHARED] = "shared", [PIECE_EXCLUSIVE] = "exclusive", [PIECE_WAIT] = "wait"};
    double width = piece->right - piece->left, left = piece->left;
    if (width < 2) width = 2;
    if (left + width > PLOT_RIGHT) left = PLOT_RIGHT - width;
    fputs("<g>", picture->stream);
    put_tooltip(picture, piece);
    switch (piece->kind) {
    case PIECE_STRIP:
        fprintf(picture->stream,
                "<rect class=\"strip\" stroke-width=\".8\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"5\"/>", left,
                y + BAR_HEIGHT - 4, width);
        break;
    case PIECE_TICK:
        for (double x = piece->left; x <= piece->right + 0.1; x += 3) draw_tick(picture, x, y);
        break;
    case PIECE_PASSED:
        draw_diamond(picture, (piece->left + piece->right) / 2, y);
        break;
    default:
        draw_bar(picture, classes[piece->kind], left, y, width, piece->open_ended);
    }
    fputs("</g>\n", picture->stream);
}

/* The command, with the image's name for its path, which stands above.  The caller frees it. */
static char *row_label(const struct row *row, const struct image *image)
{
    if (!row->comm) return strdup("other programs");
    if (!row->cmdline) return strdup(row->comm->shown);
    const char *rest = short_command(row->cmdline), *path = image->path->shown;
    char *label = zeroed(strlen(rest) + 1);
    for (const char *at; *path && (at = strstr(rest, path)); rest = at + strlen(path)) {
        strncat(label, rest, (size_t)(at - rest));
        strcat(label, base_name(image->path));
    }
    return strcat(label, rest);
}

static void draw_row(const struct picture *picture, const struct group *group, const struct row *row, int top)
{
    char right[40];
    double baseline = top + 14;
    if (row->processes == 1)
        snprintf(right, sizeof right, "%d", (int)row->only->pid);
    else
        snprintf(right, sizeof right, "× %zu", row->processes);
    double room = PLOT_X - LABEL_X - 12 - text_width(right, TEXT_SIZE, false) - 8;
    char *label = row_label(row, group->image);
    if (label) put_text(picture, LABEL_X, baseline, NULL, NULL, cut_to_width(label, room, TEXT_SIZE, false, false));
    free(label);
    put_text(picture, PLOT_X - 12, baseline, "faint", "end", right);
    for (size_t i = 0; i < row->count; i++) draw_piece(picture, &row->pieces[i], top + (ROW_HEIGHT - BAR_HEIGHT) / 2.0);
}

/* Overlaps across the group, those that lie close together as one; the certain ones as a band, the possible ones as a
 * dashed frame. */
static void draw_overlaps(const struct picture *picture, const struct group *group, bool possible)
{
    const struct image *image = group->image;
    int top = group->top + HEADER_HEIGHT - 2, bottom = group->top + HEADER_HEIGHT + (int)group->count * ROW_HEIGHT;
    double left = 0, right = -1;
    for (size_t i = 0; i <= image->overlap_count; i++) {
        const struct overlap *overlap = i < image->overlap_count ? &image->overlaps[i] : NULL;
        if (overlap && (overlap->family || overlap->possible != possible)) continue;
        double from = overlap ? x_of(picture, overlap->from) : 0, to = overlap ? x_of(picture, overlap->to) : 0;
        if (to < from + 2) to = from + 2;
        if (overlap && right >= left && from <= right + 1) {
            if (to > right) right = to;
            continue;
        }
        if (right > left) {
            if (right > PLOT_RIGHT + 2) right = PLOT_RIGHT + 2;
            if (possible) {
                fprintf(picture->stream, "<rect class=\"maybe\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n",
                        left, top, right - left, bottom - top);
            } else {
                draw_band(picture, left, right, top, bottom);
                draw_flag(picture, (left + right) / 2, top);
                putc('\n', picture->stream);
            }
        }
        left = from;
        right = to;
    }
}

static void draw_group(const struct picture *picture, const struct group *group)
{
    const struct image *image = group->image;
    char words[200] = "";
    if (image->clashes)
        snprintf(words, sizeof words, "%s", counted(image->clashes, "overlap that corrupts", "overlaps that corrupt"));
    else if (image->possible)
        snprintf(words, sizeof words, "%s", counted(image->possible, "possible overlap", "possible overlaps"));
    double room = PLOT_RIGHT - MARGIN - (*words ? text_width(words, TEXT_SIZE, true) + 16 : 0);
    fprintf(picture->stream, "<path class=\"rule\" d=\"M%d %dH%d\"/>\n", MARGIN, group->top, PLOT_RIGHT);
    put_text(picture, MARGIN, group->top + 15, "image", NULL,
             cut_to_width(image->path->shown, room, TEXT_SIZE, true, true));
    if (*words) put_text(picture, PLOT_RIGHT, group->top + 15, "bad", "end", words);
    draw_overlaps(picture, group, false);
    draw_overlaps(picture, group, true);
    for (size_t i = 0; i < group->count; i++)
        draw_row(picture, group, &group->rows[i], group->top + HEADER_HEIGHT + (int)i * ROW_HEIGHT);
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

static void set_range(struct picture *picture)
{
    const struct report *report = picture->report;
    int64_t duration = report->to - report->from;
    if (duration < SECOND / 1000) duration = SECOND / 1000;
    picture->from = report->from - duration / 100;
    picture->to = report->from + duration + duration / 60;
    picture->date = !is_same_day(report->from, report->to);
}

static void fill_groups(struct picture *picture)
{
    for (size_t i = 0; i < picture->count; i++) {
        add_spans(picture, &picture->groups[i]);
        add_waits(picture, &picture->groups[i]);
        add_conflicts(picture, &picture->groups[i]);
    }
    for (size_t i = 0; i < picture->report->image_count; i++) add_strips(picture, picture->report->images[i]);
    for (size_t i = 0; i < picture->count; i++) {
        join_rows(&picture->groups[i]);
        for (size_t j = 0; j < picture->groups[i].count; j++) {
            count_processes(&picture->groups[i].rows[j]);
            join_pieces(&picture->groups[i].rows[j]);
        }
    }
}

static int place_groups(struct picture *picture)
{
    picture->axis_y = lay_legend(picture, false) + 34;
    int y = picture->axis_y + 8;
    for (size_t i = 0; i < picture->count; i++) {
        picture->groups[i].top = y;
        y += HEADER_HEIGHT + (int)picture->groups[i].count * ROW_HEIGHT + GROUP_GAP;
    }
    picture->bottom = y;
    return y + 24 + (picture->images_left_out ? 20 : 0);
}

static void draw_left_out(const struct picture *picture, int height)
{
    char words[200];
    if (!picture->images_left_out) return;
    snprintf(
        words, sizeof words, "%s not drawn, with %s", counted(picture->images_left_out, "more image", "more images"),
        picture->clashes_left_out ? counted(picture->clashes_left_out, "overlap that corrupts", "overlaps that corrupt")
                                  : "no overlap");
    put_text(picture, MARGIN, height - 12, "faint", NULL, words);
}

void report_write_svg(const struct report *report, FILE *stream)
{
    struct picture picture = {.report = report, .stream = stream};
    set_range(&picture);
    choose_images(&picture);
    fill_groups(&picture);
    int height = report->log.count ? place_groups(&picture) : 80;
    fprintf(stream,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n"
            "<title>Who had which disk image open</title>\n%s"
            "<rect class=\"page\" x=\".5\" y=\".5\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n",
            WIDTH, height, WIDTH, height, style, WIDTH - 1, height - 1);
    draw_title(&picture);
    if (report->log.count) {
        lay_legend(&picture, true);
        draw_axis(&picture, picture.axis_y, true);
        for (size_t i = 0; i < picture.count; i++) draw_group(&picture, &picture.groups[i]);
        draw_axis(&picture, picture.bottom, false);
        draw_left_out(&picture, height);
    }
    fputs("</svg>\n", stream);
}
