/* report_svg.c: the report as a picture.
 *
 * The picture needs nothing but itself: no script, no font, no style sheet.  It has a background of its own, a dark one
 * where the reader prefers that.  Reading and writing differ in lightness too, so that it reads in grey.  Red is for
 * two writers at once and for nothing else; a reader beside a writer is amber. */
#include <stdlib.h>
#include <string.h>

#include "report_picture.h"

#define SECOND INT64_C(1000000000)

static const char style[] =
    "<style>\n"
    "text{font-family:'DejaVu Sans',Verdana,Arial,sans-serif;font-size:11px;fill:#1b2026}\n"
    ".title{font-size:16px;font-weight:bold}.image{font-weight:bold}\n"
    ".faint{fill:#5c6670}.axis{font-size:10px;fill:#5c6670}.bad{fill:#c0141c;font-weight:bold}\n"
    ".mix{fill:#8a5a00;font-weight:bold}.worst{font-size:16px;font-weight:bold;fill:#c0141c}\n"
    ".page{fill:#ffffff;stroke:#d4dae0}.grid{stroke:#e4e8ec}.rule{stroke:#c3cad1}\n"
    ".shared{fill:#8cc4ea;stroke:#4a8fc0}.exclusive{fill:#1d3a6b;stroke:#1d3a6b}.none{fill:none;stroke:#5c6670}\n"
    ".wait{fill:url(#hatch);stroke:#5c6670}.hatch{stroke:#5c6670}\n"
    ".band{fill:#e0202a;fill-opacity:.28;stroke:#e0202a;stroke-opacity:.8}.strip{fill:#e0202a;stroke:#ffffff}\n"
    ".haze{fill:#e8a013;fill-opacity:.16}.mixed{fill:#e8a013;stroke:#ffffff}\n"
    ".flag{fill:#e0202a}.maybe{fill:none;stroke:#e0202a;stroke-dasharray:3 2}\n"
    ".perhaps{fill:none;stroke:#c98500;stroke-dasharray:3 2}.tick{stroke:#7a4b9a}\n"
    ".passed{fill:#ffffff;stroke:#7a4b9a}\n"
    "@media (prefers-color-scheme:dark){\n"
    "text{fill:#e6e9ec}.faint,.axis{fill:#9aa5b0}.bad,.worst{fill:#ff8086}.mix{fill:#f2bd55}\n"
    ".page{fill:#14191f;stroke:#39424c}.grid{stroke:#262d35}.rule{stroke:#4a545f}\n"
    ".shared{fill:#35638c;stroke:#6fa8d6}.exclusive{fill:#d3e6f7;stroke:#d3e6f7}.none{stroke:#9aa5b0}\n"
    ".wait{stroke:#9aa5b0}.hatch{stroke:#9aa5b0}\n"
    ".band{fill:#ff4d55;fill-opacity:.34;stroke:#ff4d55}.strip{fill:#ff4d55;stroke:#14191f}\n"
    ".haze{fill:#f0b33c;fill-opacity:.16}.mixed{fill:#f0b33c;stroke:#14191f}\n"
    ".flag{fill:#ff4d55}.maybe{stroke:#ff4d55}.perhaps{stroke:#f0b33c}.tick{stroke:#c79be6}\n"
    ".passed{fill:#14191f;stroke:#c79be6}\n"
    "}\n"
    "</style>\n"
    "<defs><pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" "
    "patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M1 0V5\" stroke-width=\"1.4\"/></pattern></defs>\n";

/* ---- text --------------------------------------------------------------------------------------------------- */

void put_escaped(FILE *stream, const char *text)
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

void put_text(const struct picture *picture, double x, double y, const char *class, const char *anchor,
              const char *text)
{
    fprintf(picture->stream, "<text x=\"%.1f\" y=\"%.1f\"", x, y);
    if (class) fprintf(picture->stream, " class=\"%s\"", class);
    if (anchor) fprintf(picture->stream, " text-anchor=\"%s\"", anchor);
    putc('>', picture->stream);
    put_escaped(picture->stream, text);
    fputs("</text>\n", picture->stream);
}

/* The bytes at the beginning of a text that fill a line; breaks at a blank. */
static size_t line_length(const char *text, double width)
{
    size_t fits = 0, length = 0;
    while (text[length]) {
        size_t next = length + 1 + strcspn(text + length + 1, " ");
        char *start = or_end(strndup(text, next));
        bool too_wide = text_width(start, TEXT_SIZE, false) > width;
        free(start);
        if (too_wide) break;
        fits = length = next;
    }
    return fits;
}

/* Puts a text on at most so many lines; of a path that is too long for one, its end.  Returns the y below the last.
 * draw: else only its height is wanted. */
static int put_lines(const struct picture *picture, int y, const char *class, const char *text, int most, bool draw)
{
    const double width = PLOT_RIGHT - MARGIN;
    for (int line = 1; *text; line++, y += 16) {
        size_t length = line_length(text, width);
        bool too_wide = length == 0;
        if (too_wide) length = strcspn(text, " ");
        if (line == most) length = strlen(text);
        char *words = or_end(strndup(text, length));
        if (draw) put_text(picture, MARGIN, y, class, NULL, cut_to_width(words, width, TEXT_SIZE, false, too_wide));
        free(words);
        text += length;
        text += strspn(text, " ");
    }
    return y;
}

/* ---- the axis ----------------------------------------------------------------------------------------------- */

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
        double x = picture_x(picture, time);
        tick_label(time, step, picture->date, label);
        double half = text_width(label, AXIS_SIZE, false) / 2;
        if (grid)
            fprintf(picture->stream, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>\n", x, y, picture->bottom);
        else
            fprintf(picture->stream, "<path class=\"rule\" d=\"M%.1f %dv4\"/>\n", x, y);
        if (x + half > PICTURE_WIDTH - 4 || x - half < last + 6) continue;
        put_text(picture, x, grid ? y - 5 : y + 14, "axis", "middle", label);
        last = x + half;
    }
}

/* ---- title and legend ---------------------------------------------------------------------------------------- */

static void draw_title(const struct picture *picture)
{
    static const char *const titles[] = {[VERDICT_NOTHING] = "No two programs in each other's way",
                                         [VERDICT_REFUSED] = "Programs that wanted what others had",
                                         [VERDICT_POSSIBLE] = "Perhaps two writers at once",
                                         [VERDICT_MIXTURE] = "Readers beside a writer",
                                         [VERDICT_CORRUPT] = "Two writers at once"};
    const struct report *report = picture->report;
    const enum report_verdict verdict = verdict_of(report);
    const struct overlap *overlap = verdict_overlap(report);
    char title[200];
    if (!report->events)
        snprintf(title, sizeof title, "The log has no events");
    else if (verdict == VERDICT_CORRUPT)
        snprintf(title, sizeof title, "%s: %s", titles[verdict],
                 cut_to_width(base_name(overlap->second->image->path), 500, TITLE_SIZE, true, true));
    else
        snprintf(title, sizeof title, "%s", titles[verdict]);
    put_text(picture, MARGIN, 34, verdict == VERDICT_CORRUPT ? "worst" : "title", NULL, title);
}

/* The verdict, and what the picture is of.  Returns the y below it. */
static int put_summary(const struct picture *picture, bool draw)
{
    const struct report *report = picture->report;
    char from[TIME_SIZE], to[TIME_SIZE], zone[TIME_SIZE], words[400];
    char *verdict = verdict_words(report), *unwatched = verdict_unwatched(report);
    int digits = report->to - report->from < 10 * SECOND ? 3 : 0;
    int y = put_lines(picture, 56, NULL, verdict, 4, draw);
    if (unwatched) y = put_lines(picture, y, NULL, unwatched, 2, draw);
    free(verdict);
    free(unwatched);
    snprintf(words, sizeof words, "%s to %s %s   ·   %s   ·   %s   ·   opened %s",
             local_time(report->from, digits, true, from), local_time(report->to, digits, picture->date, to),
             local_zone(report->to, zone), counted(report->image_count, "image", "images"),
             counted(report->process_count, "process", "processes"), counted(report->spans, "time", "times"));
    return put_lines(picture, y + 2, "faint", words, 1, draw);
}

enum legend { SHARED, EXCLUSIVE, OVERLAP, MIXTURE, WAIT, OPEN_END, POSSIBLE, PASSED, REFUSED, NO_LOCK, LEGENDS };

static void draw_sample(const struct picture *picture, enum legend legend, double x, double y)
{
    static const char *const bars[LEGENDS] = {
        [SHARED] = "shared", [EXCLUSIVE] = "exclusive", [WAIT] = "wait", [OPEN_END] = "shared", [NO_LOCK] = "none"};
    const int top = (int)y - 2, bottom = (int)y + BAR_HEIGHT + 2;
    switch (legend) {
    case OVERLAP:
        draw_band(picture, "band", x, x + 22, top, bottom);
        draw_flag(picture, x + 11, y + 7);
        break;
    case MIXTURE:
        draw_band(picture, "haze", x, x + 22, top, bottom);
        draw_band(picture, "mixed", x, x + 22, top + 8, top + 14);
        break;
    case POSSIBLE:
        draw_band(picture, "maybe", x, x + 22, top + 2, bottom - 2);
        break;
    case PASSED:
        draw_diamond(picture, x + 11, y);
        break;
    case REFUSED:
        draw_tick(picture, x + 11, y);
        break;
    default:
        if (bars[legend]) draw_bar(picture, bars[legend], x, y, 22, legend == OPEN_END);
    }
}

/* Lays the legend out, and draws it where told to.  Returns the y of its last line. */
static int lay_legend(const struct picture *picture, int y, bool draw)
{
    static const char *const words[LEGENDS] = {[SHARED] = "open for reading",
                                               [EXCLUSIVE] = "open for writing",
                                               [WAIT] = "waiting",
                                               [OPEN_END] = "end not in the log",
                                               [OVERLAP] = "two writers at once: corrupt",
                                               [MIXTURE] = "reader beside a writer: may be torn",
                                               [POSSIBLE] = "possible overlap",
                                               [PASSED] = "would have been refused",
                                               [REFUSED] = "refused",
                                               [NO_LOCK] = "no lock wanted"};
    const bool wanted[LEGENDS] = {[SHARED] = true,
                                  [EXCLUSIVE] = true,
                                  [WAIT] = picture->has[PIECE_WAIT],
                                  [OPEN_END] = picture->has_open_end,
                                  [OVERLAP] = picture->has[PIECE_CORRUPT],
                                  [MIXTURE] = picture->has[PIECE_MIXTURE],
                                  [POSSIBLE] = picture->has_possible,
                                  [PASSED] = picture->has[PIECE_PASSED],
                                  [REFUSED] = picture->has[PIECE_REFUSED],
                                  [NO_LOCK] = picture->has[PIECE_NONE]};
    double x = MARGIN;
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

/* What is not drawn, in words; false: everything is. */
static bool describe_left_out(const struct picture *picture, char *words, size_t size)
{
    size_t length = 0;
    *words = '\0';
    if (picture->images_left_out)
        length = (size_t)snprintf(words, size, "%s not drawn, with %s.  ",
                                  counted(picture->images_left_out, "more image", "more images"),
                                  picture->clashes_left_out ? counted(picture->clashes_left_out,
                                                                      "overlap that corrupts", "overlaps that corrupt")
                                                            : "no overlap");
    if (picture->system_files)
        snprintf(words + length, size - length, "Not drawn: %s that nobody wrote.",
                 counted(picture->system_files, "file of the system", "files of the system"));
    return *words;
}

static int place_groups(struct picture *picture)
{
    char words[300];
    picture->axis_y = lay_legend(picture, put_summary(picture, false) + 10, false) + 34;
    int y = picture->axis_y + 8;
    for (size_t i = 0; i < picture->count; i++) {
        picture->groups[i].top = y;
        y += group_height(&picture->groups[i]);
    }
    picture->bottom = y;
    return y + 24 + (describe_left_out(picture, words, sizeof words) ? 20 : 0);
}

void report_write_svg(const struct report *report, FILE *stream)
{
    struct picture picture = {.report = report, .stream = stream};
    char words[300];
    set_range(&picture);
    picture_fill(&picture);
    int height = report->events ? place_groups(&picture) : 80;
    fprintf(stream,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n"
            "<title>Who had which disk image open</title>\n%s"
            "<rect class=\"page\" x=\".5\" y=\".5\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n",
            PICTURE_WIDTH, height, PICTURE_WIDTH, height, style, PICTURE_WIDTH - 1, height - 1);
    draw_title(&picture);
    if (report->events) {
        lay_legend(&picture, put_summary(&picture, true) + 10, true);
        draw_axis(&picture, picture.axis_y, true);
        for (size_t i = 0; i < picture.count; i++) draw_group(&picture, &picture.groups[i]);
        draw_axis(&picture, picture.bottom, false);
        if (describe_left_out(&picture, words, sizeof words))
            put_text(&picture, MARGIN, height - 12, "faint", NULL, words);
    }
    fputs("</svg>\n", stream);
}
