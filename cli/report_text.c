/* report_text.c: the report that a person reads. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "report_verdict.h"
#include "report_write.h"

/* More of a kind than this are summed up by command. */
enum {
    LINES_SHOWN = 24,
    LINES_KEPT = 200,
    PAIRS_SHOWN = 10,
    NARROWEST = 72,
    WIDEST = 200,
    WIDTH_OF_FILES = 100,
    LEAST_COMMAND = 30
};

struct page {
    FILE *stream;
    const struct report *report;
    size_t width;
    bool terminal; /* else nothing is cut */
    bool colour;
    bool date; /* the log is longer than a day */
};

enum paint { PLAIN, BOLD, RED, YELLOW, FAINT };

static void paint(const struct page *page, enum paint paint)
{
    static const char *const codes[] = {"\033[0m", "\033[1m", "\033[1;31m", "\033[33m", "\033[2m"};
    if (page->colour) fputs(codes[paint], page->stream);
}

static void heading(const struct page *page, enum paint how, const char *words, size_t count)
{
    paint(page, how);
    fprintf(page->stream, "  %s: %zu\n", words, count);
    paint(page, PLAIN);
}

static const char *moment(const struct page *page, int64_t time, char text[TIME_SIZE])
{
    return local_time(time, 3, page->date, text);
}

/* How many columns a moment takes. */
static int moment_width(const struct page *page)
{
    return page->date ? 23 : 12;
}

/* ---- who opened it ------------------------------------------------------------------------------------------ */

/* Spans that were alike: of one process, of one command line, or of one program. */
struct line {
    const struct span *first;
    const char *how;
    size_t count, processes;
    const struct report_process *last; /* counted */
    int64_t held;
    bool unknown_end, corrupts, mixes;
};

enum level { BY_PROCESS, BY_COMMAND, BY_PROGRAM };

static const char *span_manner(const struct span *span)
{
    bool writes = span_mode(span) == LOCK_EXCLUSIVE;
    if (span->let_through) return writes ? "write, let through" : "read, let through";
    if (span->count && !span_segment(span, 0).locked) return writes ? "write, no lock" : "read, no lock";
    if (span->family || span->inherited) return writes ? "write, family" : "read, family";
    return writes ? "write" : "read";
}

static bool is_alike(const struct line *line, const struct span *span, enum level level)
{
    if (line->how != span_manner(span)) return false;
    if (level == BY_PROGRAM) return line->first->comm == span->comm;
    return line->first->cmdline == span->cmdline && (level == BY_COMMAND || line->first->process == span->process);
}

static void add_to_line(struct line *line, const struct span *span)
{
    line->count++;
    line->processes += line->last != span->process;
    line->last = span->process;
    line->held += span->to - span->from;
    line->unknown_end |= span->end == END_UNKNOWN;
    line->corrupts |= span->corrupts;
    line->mixes |= span->mixes;
}

/* Gathers the image's spans into lines.  Returns how many, or one more than fit. */
static size_t gather_lines(const struct report_image *image, enum level level, struct line *lines, size_t most)
{
    size_t count = 0;
    for (size_t i = 0; i < image->span_count; i++) {
        const struct span *span = image->spans[i];
        size_t at = 0;
        while (at < count && !is_alike(&lines[at], span, level)) at++;
        if (at == count && count == most) return most + 1;
        if (at == count) lines[count++] = (struct line){.first = span, .how = span_manner(span)};
        add_to_line(&lines[at], span);
    }
    return count;
}

static void print_line(const struct page *page, const struct line *line, bool by_program)
{
    char from[TIME_SIZE], held[TIME_SIZE], pid[32];
    const struct span *span = line->first;
    const enum paint how = line->corrupts ? RED : line->mixes ? YELLOW : PLAIN;
    moment(page, span->from, from);
    duration_words(line->held, held);
    if (line->processes == 1)
        snprintf(pid, sizeof pid, "%d", (int)span->process->pid);
    else
        snprintf(pid, sizeof pid, "%d, ...", (int)span->process->pid);
    if (how != PLAIN) paint(page, how);
    /* An end that is not in the log has a question mark. */
    int used = fprintf(page->stream, "    %-18s  %s  %10s%c  %5zu  %-9s  %-8s  ", line->how, from, held,
                       line->unknown_end ? '?' : ' ', line->count, pid, user_name(span->process->uid));
    const char *command = by_program ? span->comm->shown : short_command(span->cmdline);
    size_t left = page->width > (size_t)used ? page->width - (size_t)used : 0;
    if (!page->terminal) {
        fputs(command, page->stream);
    } else if (left >= LEAST_COMMAND || text_columns(command) <= left) {
        put_columns(page->stream, command, left, false);
    } else {
        fputs("\n        ", page->stream);
        put_columns(page->stream, command, page->width - 8, false);
    }
    if (how != PLAIN) paint(page, PLAIN);
    putc('\n', page->stream);
}

static void print_spans(const struct page *page, const struct report_image *image)
{
    if (!image->span_count) return;
    struct line *lines = zeroed(LINES_KEPT * sizeof *lines);
    enum level level = BY_PROCESS;
    size_t count = gather_lines(image, level, lines, LINES_SHOWN);
    while (count > LINES_SHOWN && ++level < BY_PROGRAM) count = gather_lines(image, level, lines, LINES_SHOWN);
    /* Programs are few; where they are not, the first are gathered and the others counted as one. */
    if (count > LINES_SHOWN) count = gather_lines(image, BY_PROGRAM, lines, LINES_KEPT);
    paint(page, FAINT);
    fprintf(page->stream, "    %-18s  %-*s  %10s   %5s  %-9s  %-8s  %s\n", "opened for", moment_width(page), "from",
            "open for", "times", "pid", "user", "command");
    paint(page, PLAIN);
    for (size_t i = 0; i < count && i < LINES_SHOWN; i++) print_line(page, &lines[i], level == BY_PROGRAM);
    if (count > LINES_SHOWN) fputs("    and more; --json has all\n", page->stream);
    free(lines);
}

/* ---- overlaps ----------------------------------------------------------------------------------------------- */

/* The first bytes of text that fill so many columns; breaks at a blank where one is near the end. */
static size_t break_line(const char *text, size_t columns)
{
    size_t length = 0, last_blank = 0;
    char one[8];
    for (size_t used = 0; text[length];) {
        size_t sequence = 1;
        while ((text[length + sequence] & 0xc0) == 0x80 && sequence < 4) sequence++;
        memcpy(one, text + length, sequence);
        one[sequence] = '\0';
        used += text_columns(one);
        if (used > columns) return last_blank > length / 2 ? last_blank : length;
        if (text[length] == ' ') last_blank = length;
        length += sequence;
    }
    return length;
}

static void print_side_by_side(const struct page *page, const char *left, const char *right)
{
    size_t half = (page->width - 9) / 2;
    while (*left || *right) {
        size_t left_length = break_line(left, half), right_length = break_line(right, half);
        char *piece = strndup(left, left_length);
        fputs("      ", page->stream);
        put_columns(page->stream, piece ? piece : "", half, true);
        free(piece);
        piece = strndup(right, right_length);
        fputs(" | ", page->stream);
        put_columns(page->stream, piece ? piece : "", half, false);
        free(piece);
        putc('\n', page->stream);
        for (left += left_length; *left == ' ';) left++;
        for (right += right_length; *right == ' ';) right++;
    }
}

static void describe_side(const struct page *page, const struct span *span, const struct report_image *image,
                          char *words, size_t size)
{
    char since[TIME_SIZE];
    snprintf(words, size, "pid %d, %s, %s since %s%s%s", (int)span->process->pid, user_name(span->process->uid),
             span_manner(span), moment(page, span->from, since), span->image == image ? "" : ", as ",
             span->image == image ? "" : span->image->path->shown);
}

static void print_overlap(const struct page *page, const struct report_image *image, const struct overlap *overlap,
                          size_t count)
{
    char from[TIME_SIZE], to[TIME_SIZE], lasting[TIME_SIZE], left[600], right[600];
    fprintf(page->stream, "    %s to %s, %s", moment(page, overlap->from, from), moment(page, overlap->to, to),
            duration_words(overlap->to - overlap->from, lasting));
    if (count > 1) fprintf(page->stream, ", one of %zu like it", count);
    putc('\n', page->stream);
    print_side_by_side(page, short_command(overlap->first->cmdline), short_command(overlap->second->cmdline));
    describe_side(page, overlap->first, image, left, sizeof left);
    describe_side(page, overlap->second, image, right, sizeof right);
    print_side_by_side(page, left, right);
}

static void print_overlaps(const struct page *page, const struct report_image *image, enum overlap_kind kind,
                           bool possible)
{
    struct {
        const struct overlap *first;
        size_t count;
    } pairs[PAIRS_SHOWN];
    size_t shown = 0, others = 0;
    for (size_t i = 0; i < image->overlap_count; i++) {
        const struct overlap *overlap = &image->overlaps[i];
        if (overlap->kind != kind || overlap->possible != possible) continue;
        size_t at = 0;
        while (at < shown && (pairs[at].first->first->cmdline != overlap->first->cmdline ||
                              pairs[at].first->second->cmdline != overlap->second->cmdline))
            at++;
        if (at == PAIRS_SHOWN) {
            others++;
        } else {
            if (at == shown) pairs[shown++].first = overlap, pairs[at].count = 0;
            pairs[at].count++;
        }
    }
    for (size_t i = 0; i < shown; i++) print_overlap(page, image, pairs[i].first, pairs[i].count);
    if (others) fprintf(page->stream, "    and %zu more, of other commands\n", others);
}

/* ---- conflicts and what else happened ----------------------------------------------------------------------- */

static void print_opponents(const struct page *page, const struct detail *detail)
{
    char since[TIME_SIZE];
    if (!detail->opponent_count) {
        fputs("; who was in the way is not known", page->stream);
        return;
    }
    const struct opponent *opponent = &detail->opponents[0];
    fprintf(page->stream, "; %s by %s (pid %d, %s)",
            opponent->has                      ? "in use"
            : opponent->mode == LOCK_EXCLUSIVE ? "locked exclusively"
                                               : "shared",
            opponent->comm ? opponent->comm->shown : "?", (int)opponent->pid, user_name(opponent->uid));
    if (opponent->has) fprintf(page->stream, ": %s", opponent->has->shown);
    if (opponent->since) fprintf(page->stream, " since %s", moment(page, opponent->since, since));
    if (detail->opponent_count > 1) fprintf(page->stream, " and %zu more", detail->opponent_count - 1);
}

static void print_incident(const struct page *page, const struct incident *incident, size_t count)
{
    const struct detail *detail = incident->detail;
    char time[TIME_SIZE];
    fprintf(page->stream, "    %s  %s (pid %d, %s)", moment(page, incident->time, time), detail->comm->shown,
            (int)incident->process->pid, user_name(incident->process->uid));
    switch (detail->kind) {
    case EVENT_CONFLICT:
        fprintf(page->stream, " for %s", detail->mode == LOCK_EXCLUSIVE ? "writing" : "reading");
        if (detail->flags) fprintf(page->stream, ", %s", detail->flags->shown);
        if (!was_let_through(detail->result) && detail->error) fprintf(page->stream, ": %s", detail->error->shown);
        print_opponents(page, detail);
        break;
    case EVENT_GUARD:
        fprintf(page->stream, " by name: %s", detail->what ? detail->what->shown : "?");
        print_opponents(page, detail);
        break;
    case EVENT_LOST:
        fprintf(page->stream, ", a lock for %s: %s", detail->mode == LOCK_EXCLUSIVE ? "writing" : "reading",
                detail->regained ? "regained" : "not regained");
        break;
    default:
        fprintf(page->stream, ": %s%s%s%s%s", detail->what ? detail->what->shown : "?", detail->error ? ": " : "",
                detail->error ? detail->error->shown : "", detail->result ? "; " : "",
                detail->result ? detail->result->shown : "");
    }
    if (count > 1) fprintf(page->stream, " (%zu times)", count);
    fprintf(page->stream, "\n");
}

enum incident_class { REFUSED, LET_THROUGH, LOST, ERRORS };

static enum incident_class class_of(const struct detail *detail)
{
    if (detail->kind == EVENT_LOST) return LOST;
    if (detail->kind == EVENT_ERROR) return ERRORS;
    return was_let_through(detail->result) ? LET_THROUGH : REFUSED;
}

static bool are_alike(const struct detail *a, const struct detail *b)
{
    const struct report_name *one = a->opponent_count ? a->opponents[0].comm : NULL;
    const struct report_name *other = b->opponent_count ? b->opponents[0].comm : NULL;
    return a->kind == b->kind && a->cmdline == b->cmdline && a->mode == b->mode && a->what == b->what && one == other;
}

static void print_incidents(const struct page *page, const struct incident *incidents, size_t count,
                            enum incident_class class, enum paint how, const char *words)
{
    struct {
        const struct incident *first;
        size_t count;
    } kinds[PAIRS_SHOWN];
    size_t shown = 0, others = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        const struct detail *detail = incidents[i].detail;
        if (class_of(detail) != class) continue;
        all++;
        size_t at = 0;
        while (at < shown && !are_alike(kinds[at].first->detail, detail)) at++;
        if (at == PAIRS_SHOWN) {
            others++;
        } else {
            if (at == shown) kinds[shown++].first = &incidents[i], kinds[at].count = 0;
            kinds[at].count++;
        }
    }
    if (!all) return;
    heading(page, how, words, all);
    for (size_t i = 0; i < shown; i++) print_incident(page, kinds[i].first, kinds[i].count);
    if (others) fprintf(page->stream, "    and %zu more\n", others);
}

static void print_all_incidents(const struct page *page, const struct incident *incidents, size_t count)
{
    print_incidents(page, incidents, count, LET_THROUGH, YELLOW, "Let through, would have been refused");
    print_incidents(page, incidents, count, REFUSED, YELLOW, "Refused");
    print_incidents(page, incidents, count, LOST, RED, "Locks lost");
    print_incidents(page, incidents, count, ERRORS, YELLOW, "Errors");
}

static void print_waits(const struct page *page, const struct report_image *image)
{
    const struct report_wait *longest = NULL;
    char lasting[TIME_SIZE], from[TIME_SIZE];
    static const char *const ends[] = {[WAIT_GRANTED] = "then it had the lock",
                                       [WAIT_REFUSED] = "then it gave up",
                                       [WAIT_UNKNOWN] = "how it ended is not in the log"};
    for (size_t i = 0; i < image->wait_count; i++)
        if (!longest || image->waits[i]->to - image->waits[i]->from > longest->to - longest->from)
            longest = image->waits[i];
    if (!longest) return;
    heading(page, PLAIN, "Waits", image->wait_count);
    fprintf(page->stream, "    longest: %s from %s, %s (pid %d) to %s; %s\n",
            duration_words(longest->to - longest->from, lasting), moment(page, longest->from, from),
            longest->comm->shown, (int)longest->process->pid, mode_verb(longest->mode), ends[longest->end]);
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

static void print_all_overlaps(const struct page *page, const struct report_image *image)
{
    if (image->clashes) {
        heading(page, RED, "Overlaps that corrupt (two writers at once)", image->clashes);
        print_overlaps(page, image, OVERLAP_WRITERS, false);
    }
    if (image->mixtures) {
        heading(page, YELLOW, "Readers beside a writer (may have read a mixture)", image->mixtures);
        print_overlaps(page, image, OVERLAP_MIXTURE, false);
    }
    if (image->possible) {
        heading(page, YELLOW, "Possible overlaps, since an end is not in the log", image->possible);
        print_overlaps(page, image, OVERLAP_WRITERS, true);
        print_overlaps(page, image, OVERLAP_MIXTURE, true);
    }
    if (image->family) heading(page, PLAIN, "Overlaps in a family, harmless", image->family);
}

static void print_image(const struct page *page, const struct report_image *image)
{
    paint(page, BOLD);
    fprintf(page->stream, "%s\n", image->path->shown);
    paint(page, PLAIN);
    print_all_overlaps(page, image);
    print_spans(page, image);
    print_all_incidents(page, image->incidents, image->incident_count);
    print_waits(page, image);
    putc('\n', page->stream);
}

/* Those with two writers first, then those with readers beside a writer. */
static void print_images(const struct page *page)
{
    const struct report *report = page->report;
    for (int turn = 0; turn < 3; turn++)
        for (size_t i = 0; i < report->image_count; i++) {
            const struct report_image *image = report->images[i];
            if (is_system_file(image)) continue;
            if ((image->clashes ? 0 : image->mixtures ? 1 : 2) == turn) print_image(page, image);
        }
}

static void print_left_out(const struct page *page)
{
    size_t count = 0;
    for (size_t i = 0; i < page->report->image_count; i++) count += is_system_file(page->report->images[i]);
    if (count)
        fprintf(page->stream, "Not listed: %s that nobody wrote.\n\n",
                counted(count, "file of the system", "files of the system"));
}

static void print_totals(const struct page *page)
{
    const struct report *report = page->report;
    paint(page, BOLD);
    fprintf(
        page->stream,
        "Total: %s, %s, opened %s, %s that corrupt%s, %s that may have read a mixture, %zu refused, %zu let through, "
        "%s, %zu lost, %s",
        counted(report->image_count, "image", "images"), counted(report->process_count, "process", "processes"),
        counted(report->spans, "time", "times"), counted(report->clashes, "overlap", "overlaps"),
        report->clashes == 1 ? "s" : "", counted(report->mixtures, "reader", "readers"), report->refused,
        report->let_through, counted(report->waits, "wait", "waits"), report->lost,
        counted(report->errors, "error", "errors"));
    if (report->skipped) fprintf(page->stream, ", %s", counted(report->skipped, "line skipped", "lines skipped"));
    paint(page, PLAIN);
    putc('\n', page->stream);
}

/* The verdict, and what it cannot know. */
static void print_verdict(const struct page *page)
{
    static const enum paint paints[] = {[VERDICT_NOTHING] = BOLD,
                                        [VERDICT_REFUSED] = YELLOW,
                                        [VERDICT_POSSIBLE] = YELLOW,
                                        [VERDICT_MIXTURE] = YELLOW,
                                        [VERDICT_CORRUPT] = RED};
    char *words = verdict_words(page->report), *unwatched = verdict_unwatched(page->report);
    paint(page, paints[verdict_of(page->report)]);
    fprintf(page->stream, "%s", words);
    paint(page, PLAIN);
    putc('\n', page->stream);
    if (unwatched) fprintf(page->stream, "%s\n", unwatched);
    free(words);
    free(unwatched);
}

static size_t width_of(FILE *stream)
{
    struct winsize size;
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) < 0 || size.ws_col == 0) return WIDTH_OF_FILES;
    return size.ws_col < NARROWEST ? NARROWEST : size.ws_col > WIDEST ? WIDEST : size.ws_col;
}

static bool in_colour(FILE *stream)
{
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(fileno(stream)) && !(no_colour && *no_colour) && !(terminal && strcmp(terminal, "dumb") == 0);
}

void report_write_text(const struct report *report, FILE *stream)
{
    struct page page = {.stream = stream,
                        .report = report,
                        .width = width_of(stream),
                        .terminal = isatty(fileno(stream)),
                        .colour = in_colour(stream),
                        .date = !is_same_day(report->from, report->to)};
    char from[TIME_SIZE], to[TIME_SIZE], zone[TIME_SIZE], lasting[TIME_SIZE];
    print_verdict(&page);
    if (report->events) {
        fprintf(stream, "%s to %s %s, %s of log", local_time(report->from, 3, true, from),
                local_time(report->to, 3, page.date, to), local_zone(report->to, zone),
                duration_words(report->to - report->from, lasting));
        /* Of one machine or of several. */
        if (report->boots > 1) fprintf(stream, ", of %s", counted(report->boots, "boot", "boots"));
        fputs("\n\n", stream);
    }
    print_images(&page);
    print_left_out(&page);
    if (report->homeless_count) {
        fputs("Without an image\n", stream);
        print_all_incidents(&page, report->homeless, report->homeless_count);
        putc('\n', stream);
    }
    print_totals(&page);
}
