/* report_svg_group.c: draws the rows of an image. */
#include <stdlib.h>
#include <string.h>

#include "report_picture.h"

/* ---- shapes ------------------------------------------------------------------------------------------------- */

void draw_tick(const struct picture *picture, double x, double y)
{
    fprintf(picture->stream, "<path class=\"tick\" stroke-width=\"2\" d=\"M%.1f %.1fv%d\"/>", x, y - 2, BAR_HEIGHT + 4);
}

void draw_diamond(const struct picture *picture, double x, double y)
{
    fprintf(picture->stream,
            "<path class=\"passed\" stroke-width=\"1.5\" d=\"M%.1f %.1fl4.5 4.5l-4.5 4.5l-4.5 -4.5z\"/>", x,
            y + BAR_HEIGHT / 2.0 - 4.5);
}

void draw_bar(const struct picture *picture, const char *class, double x, double y, double width, bool open_ended)
{
    /* An end that is not in the log is an arrow. */
    if (open_ended && width >= 10)
        fprintf(picture->stream, "<path class=\"%s\" d=\"M%.1f %.1fH%.1fl6 %.1fl-6 %.1fH%.1fz\"/>", class, x, y,
                x + width - 6, BAR_HEIGHT / 2.0, BAR_HEIGHT / 2.0, x);
    else
        fprintf(picture->stream, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>", class, x, y,
                width, BAR_HEIGHT);
}

void draw_flag(const struct picture *picture, double x, double y)
{
    fprintf(picture->stream, "<path class=\"flag\" d=\"M%.1f %.1fl5 -8h-10z\"/>", x, y);
}

void draw_band(const struct picture *picture, const char *class, double left, double right, int top, int bottom)
{
    fprintf(picture->stream, "<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", class, left, top,
            right - left, bottom - top);
}

/* ---- rows --------------------------------------------------------------------------------------------------- */

static void put_tooltip(const struct picture *picture, const struct piece *piece)
{
    static const char *const verbs[] = {[PIECE_NONE] = "no lock wanted",
                                        [PIECE_SHARED] = "open for reading",
                                        [PIECE_EXCLUSIVE] = "open for writing",
                                        [PIECE_WAIT] = "waiting",
                                        [PIECE_MIXTURE] = "a reader beside a writer",
                                        [PIECE_CORRUPT] = "two writers at once",
                                        [PIECE_REFUSED] = "refused",
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
        [PIECE_NONE] = "none", [PIECE_SHARED] = "shared", [PIECE_EXCLUSIVE] = "exclusive",
        [PIECE_WAIT] = "wait", [PIECE_MIXTURE] = "mixed", [PIECE_CORRUPT] = "strip"};
    double width = piece->right - piece->left, left = piece->left;
    double least = piece->kind == PIECE_CORRUPT ? 4 : 2;
    if (width < least) width = least;
    if (left + width > PLOT_RIGHT) left = PLOT_RIGHT - width;
    fputs("<g>", picture->stream);
    put_tooltip(picture, piece);
    switch (piece->kind) {
    case PIECE_CORRUPT:
    case PIECE_MIXTURE:
        fprintf(picture->stream,
                "<rect class=\"%s\" stroke-width=\".8\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"6\"/>",
                classes[piece->kind], left, y + BAR_HEIGHT - 5, width);
        break;
    case PIECE_REFUSED:
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

static char *row_label(const struct row *row)
{
    if (!row->comm) return strdup("other programs");
    return row->cmdline ? label_of(row->cmdline) : strdup(row->comm->shown);
}

static void draw_row(const struct picture *picture, const struct row *row, int top)
{
    char right[40];
    double baseline = top + 14;
    const char *class = row->corrupts ? "bad" : row->mixes ? "mix" : NULL;
    if (row->processes == 1)
        snprintf(right, sizeof right, "%d", (int)row->only->pid);
    else
        snprintf(right, sizeof right, "× %zu", row->processes);
    double room = PLOT_X - LABEL_X - 12 - text_width(right, TEXT_SIZE, false) - 8;
    char *label = or_end(row_label(row));
    put_text(picture, LABEL_X, baseline, class, NULL, cut_to_width(label, room, TEXT_SIZE, class != NULL, false));
    free(label);
    put_text(picture, PLOT_X - 12, baseline, "faint", "end", right);
    for (size_t i = 0; i < row->count; i++) draw_piece(picture, &row->pieces[i], top + (ROW_HEIGHT - BAR_HEIGHT) / 2.0);
}

/* ---- overlaps ----------------------------------------------------------------------------------------------- */

static void draw_stretch(const struct picture *picture, enum overlap_kind kind, bool possible, double left,
                         double right, int top, int bottom)
{
    if (right > PLOT_RIGHT + 2) right = PLOT_RIGHT + 2;
    if (possible) {
        draw_band(picture, kind == OVERLAP_WRITERS ? "maybe" : "perhaps", left, right, top, bottom);
    } else if (kind == OVERLAP_MIXTURE) {
        draw_band(picture, "haze", left, right, top, bottom);
    } else {
        draw_band(picture, "band", left, right, top, bottom);
        draw_flag(picture, left, top);
    }
    putc('\n', picture->stream);
}

/* Overlaps of a kind across the group, those that lie close together as one. */
static void draw_overlaps(const struct picture *picture, const struct group *group, enum overlap_kind kind,
                          bool possible, int top, int bottom)
{
    const struct report_image *image = group->image;
    double left = 0, right = -1, least = kind == OVERLAP_WRITERS ? 4 : 2;
    for (size_t i = 0; i <= image->overlap_count; i++) {
        const struct overlap *overlap = i < image->overlap_count ? &image->overlaps[i] : NULL;
        if (overlap && (overlap->kind != kind || overlap->possible != possible)) continue;
        double from = overlap ? picture_x(picture, overlap->from) : 0,
               to = overlap ? picture_x(picture, overlap->to) : 0;
        if (to < from + least) to = from + least;
        if (overlap && right >= left && from <= right + 1) {
            if (to > right) right = to;
            continue;
        }
        if (right > left) draw_stretch(picture, kind, possible, left, right, top, bottom);
        left = from;
        right = to;
    }
}

/* Who did it, in words, above the place where it was. */
static void draw_callout(const struct picture *picture, const struct group *group, int y)
{
    const struct overlap *culprit = group->culprit;
    char time[TIME_SIZE], more[60] = "", rest[TIME_SIZE + 100];
    double x = picture_x(picture, culprit->from);
    if (group->image->clashes > 1) snprintf(more, sizeof more, ", and %zu more", group->image->clashes - 1);
    snprintf(rest, sizeof rest, ", pid %d, opened it for writing at %s%s", (int)culprit->second->process->pid,
             local_time(culprit->from, 0, picture->date, time), more);
    double room = PLOT_RIGHT - MARGIN - text_width(rest, TEXT_SIZE, true) - 8;
    char *label = or_end(label_of(culprit->second->cmdline)), *whole;
    if (room > 340) room = 340;
    if (asprintf(&whole, "%s%s", cut_to_width(label, room, TEXT_SIZE, true, false), rest) < 0) whole = NULL;
    free(label);
    double width = text_width(or_end(whole), TEXT_SIZE, true);
    double left = x - width / 2;
    if (left + width > PLOT_RIGHT) left = PLOT_RIGHT - width;
    if (left < MARGIN) left = MARGIN;
    put_text(picture, left, y, "bad", NULL, whole);
    free(whole);
}

static const char *group_words(const struct report_image *image, const char **class)
{
    *class = image->clashes ? "bad" : "mix";
    if (image->clashes == 1) return "two writers at once";
    if (image->clashes) return counted(image->clashes, "", "times two writers at once");
    if (image->mixtures) return counted(image->mixtures, "reader beside a writer", "readers beside a writer");
    if (image->possible) return counted(image->possible, "possible overlap", "possible overlaps");
    return NULL;
}

int group_height(const struct group *group)
{
    return HEADER_HEIGHT + (group->culprit ? CALLOUT_HEIGHT : 0) + (int)group->count * ROW_HEIGHT + GROUP_GAP;
}

void draw_group(const struct picture *picture, const struct group *group)
{
    const char *class, *words = group_words(group->image, &class);
    double room = PLOT_RIGHT - MARGIN - (words ? text_width(words, TEXT_SIZE, true) + 16 : 0);
    int top = group->top + HEADER_HEIGHT;
    fprintf(picture->stream, "<path class=\"rule\" d=\"M%d %dH%d\"/>\n", MARGIN, group->top, PLOT_RIGHT);
    put_text(picture, MARGIN, group->top + 16, "image", NULL,
             cut_to_width(group->image->path->shown, room, TEXT_SIZE, true, true));
    if (words) put_text(picture, PLOT_RIGHT, group->top + 16, class, "end", words);
    if (group->culprit) {
        draw_callout(picture, group, top + 9);
        top += CALLOUT_HEIGHT;
    }
    int bottom = top + (int)group->count * ROW_HEIGHT;
    draw_overlaps(picture, group, OVERLAP_MIXTURE, false, top - 2, bottom);
    draw_overlaps(picture, group, OVERLAP_WRITERS, false, top - 2, bottom);
    draw_overlaps(picture, group, OVERLAP_MIXTURE, true, top - 2, bottom);
    draw_overlaps(picture, group, OVERLAP_WRITERS, true, top - 2, bottom);
    for (size_t i = 0; i < group->count; i++) draw_row(picture, group->rows[i], top + (int)i * ROW_HEIGHT);
}
