/* report_log.c: reading audit logs. */
#include "report_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum { SKIPS_TOLD = 20, BUFFER_SIZE = 64 * 1024 };
#define SECOND INT64_C(1000000000)

/* Two clocks are not read in one moment, and several processes write one file: the order of lines may differ from
 * that of their times by so much without a new boot. */
#define DISORDER (10 * SECOND)

/* What the wall clock may have been set by while two logs of one boot were written. */
#define SET_BY (2 * SECOND)

/* How a place holds both its numbers: 16 TiB of logs, a million boots. */
enum { STRETCH_BITS = 20, MOST_STRETCHES = 1 << STRETCH_BITS };

/* ---- progress ----------------------------------------------------------------------------------------------- */

/* Says on a terminal how far the reading is, after the first second, and five times a second.  done: 0 to 1, of the
 * first or the second time; 1 of the second clears the line. */
static void show_progress(bool second, double done)
{
    static int64_t next;
    static bool shown;
    static int watched = -1;
    struct timespec now;
    if (watched < 0) watched = isatty(STDERR_FILENO);
    if (!watched) return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t time = (int64_t)now.tv_sec * SECOND + now.tv_nsec;
    if (!next) next = time + SECOND;
    bool over = second && done >= 1;
    if (over ? !shown : time < next) return;
    next = time + SECOND / 5;
    shown = true;
    if (over)
        fputs("\r\033[K", stderr);
    else
        fprintf(stderr, "\rimglock: reading the log: %d %%", (int)(50 * done) + 50 * second);
}

/* ---- boots, as lines name them ------------------------------------------------------------------------------ */

static struct stretch *add_stretch(struct log *log, const struct report_name *boot_id)
{
    if (log->stretch_count == MOST_STRETCHES) exit(complain("report: these are the logs of too many boots"));
    log->stretches = grown(log->stretches, log->stretch_count, &log->stretch_room, sizeof(struct stretch *));
    struct stretch *stretch = kept(sizeof *stretch);
    *stretch = (struct stretch){.boot_id = boot_id,
                                .least_offset = INT64_MAX,
                                .greatest_offset = INT64_MIN,
                                .number = (unsigned)log->stretch_count};
    return log->stretches[log->stretch_count++] = stretch;
}

static uint64_t hash_stretch(const void *object)
{
    return ((const struct stretch *)object)->boot_id->hash;
}

static bool equal_stretches(const void *left, const void *right)
{
    return ((const struct stretch *)left)->boot_id == ((const struct stretch *)right)->boot_id;
}

/* The stretch of a line that names its boot. */
static struct stretch *named_stretch(struct log *log, const struct report_name *boot_id)
{
    static struct set named = {.hash = hash_stretch, .equal = equal_stretches};
    const struct stretch sought = {.boot_id = boot_id};
    struct stretch *stretch = set_find(&named, &sought);
    if (stretch) return stretch;
    stretch = add_stretch(log, boot_id);
    set_put(&named, stretch);
    return stretch;
}

/* ---- the first time: which lines, and when ------------------------------------------------------------------ */

/* unnamed: the file's last stretch of lines that do not name their boot. */
static void add_place(struct log *log, const struct event *event, off_t where, struct stretch **unnamed)
{
    struct stretch *stretch = event->boot_id ? named_stretch(log, event->boot_id) : *unnamed;
    int64_t offset = event->wall - event->monotonic;
    if (!stretch || (!event->boot_id && event->monotonic < stretch->latest - DISORDER))
        *unnamed = stretch = add_stretch(log, NULL);
    if (offset < stretch->least_offset) stretch->least_offset = offset;
    if (offset > stretch->greatest_offset) stretch->greatest_offset = offset;
    if (event->monotonic > stretch->latest) stretch->latest = event->monotonic;
    log->places = grown(log->places, log->count, &log->room, sizeof *log->places);
    log->places[log->count++] = (struct place){event->monotonic, (uint64_t)where << STRETCH_BITS | stretch->number};
}

static void read_line(struct log *log, struct log_file *file, off_t where, size_t length, struct stretch **unnamed)
{
    struct event event;
    if (length && log->line[length - 1] == '\n') length--;
    if (!length) return; /* says nothing, and nothing wrong */
    const char *reason = event_read(log->line, length, &event);
    if (!reason) {
        add_place(log, &event, where, unnamed);
        free(event.opponents);
    } else if (file->skipped++ < SKIPS_TOLD) {
        complain("%s:%zu: line skipped: %s", file->path, file->lines, reason);
    }
}

/* A stream that can be read twice, at the place where this one is: itself, or a copy.  NULL with errno. */
static FILE *readable_twice(FILE *stream)
{
    struct stat status;
    if (fstat(fileno(stream), &status) == 0 && S_ISREG(status.st_mode)) return stream;
    FILE *copy = tmpfile();
    char bytes[BUFFER_SIZE];
    size_t got;
    while (copy && (got = fread(bytes, 1, sizeof bytes, stream)) > 0)
        if (fwrite(bytes, 1, got, copy) != got) break;
    if (!copy || ferror(stream) || ferror(copy) || fflush(copy) != 0) return NULL;
    rewind(copy);
    return copy;
}

static bool read_lines(struct log *log, struct log_file *file)
{
    struct stretch *unnamed = NULL;
    struct stat status;
    ssize_t length;
    off_t start = ftello(file->stream);
    double size =
        fstat(fileno(file->stream), &status) == 0 && status.st_size > start ? (double)(status.st_size - start) : 1;
    file->first = log->bytes;
    file->start = start;
    errno = 0;
    while ((length = getline(&log->line, &log->line_size, file->stream)) >= 0) {
        if (file->lines++ % 1024 == 0) show_progress(false, (double)(log->bytes - file->first) / size);
        read_line(log, file, log->bytes, (size_t)length, &unnamed);
        log->bytes += length;
        errno = 0;
    }
    file->position = log->bytes;
    /* getline(3) also fails for want of memory, and then sets no error on the stream. */
    return feof(file->stream) && !ferror(file->stream);
}

/* Each file stays open until all are read a second time. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

bool log_read(struct log *log, const char *path)
{
    bool standard_input = strcmp(path, "-") == 0;
    struct log_file file = {.path = standard_input ? "standard input" : path};
    if (!log->file_count) raise_descriptor_limit();
    FILE *stream = standard_input ? stdin : fopen(path, "re");
    if (!stream) {
        complain("%s: cannot open: %m", path);
        return false;
    }
    file.stream = readable_twice(stream);
    if (!standard_input && file.stream != stream) fclose(stream);
    bool whole = file.stream && read_lines(log, &file);
    if (!whole) complain("%s: cannot read: %m", file.path);
    if (file.skipped > SKIPS_TOLD)
        complain("%s: %zu more lines skipped, %zu of %zu in all", file.path, file.skipped - SKIPS_TOLD, file.skipped,
                 file.lines);
    log->files = grown(log->files, log->file_count, &log->file_room, sizeof *log->files);
    log->files[log->file_count++] = file;
    return whole;
}

/* ---- one time line ------------------------------------------------------------------------------------------ */

static int compare_stretches(const void *left, const void *right)
{
    const struct stretch *a = *(struct stretch *const *)left, *b = *(struct stretch *const *)right;
    return a->least_offset < b->least_offset ? -1 : a->least_offset > b->least_offset;
}

/* Is the boot of these lines the same, as far as their clocks say?  Wall minus monotonic time is one number for a whole
 * boot, but for what the wall clock was set by and the time that the machine slept.  A later boot's is greater by at
 * least the time that the earlier one ran. */
static bool may_be_one_boot(const struct stretch *unnamed, const struct stretch *other)
{
    return unnamed->least_offset <= other->greatest_offset + SET_BY &&
           other->least_offset <= unnamed->greatest_offset + SET_BY;
}

/* Gives each stretch its boot: a number that is greater for a boot that began later.  Lines that do not name theirs,
 * which processes write that have no /proc, belong to the named boot next to them that may be theirs. */
static void find_boots(struct log *log)
{
    struct stretch **sorted = zeroed((log->stretch_count + 1) * sizeof *sorted);
    if (log->stretch_count) memcpy(sorted, log->stretches, log->stretch_count * sizeof *sorted);
    qsort(sorted, log->stretch_count, sizeof *sorted, compare_stretches);
    struct stretch *last = NULL; /* that is not named, with the range of all before it in one boot */
    for (size_t i = 0; i < log->stretch_count; i++) sorted[i]->boot = (unsigned)i;
    for (size_t i = 0; i < log->stretch_count; i++) {
        if (sorted[i]->boot_id) continue;
        const struct stretch *before = i ? sorted[i - 1] : NULL, *after = sorted[i + 1];
        if (last && sorted[i]->least_offset <= last->greatest_offset + SET_BY) {
            sorted[i]->boot = last->boot;
            if (last->greatest_offset > sorted[i]->greatest_offset) sorted[i]->greatest_offset = last->greatest_offset;
        } else if (before && before->boot_id && may_be_one_boot(sorted[i], before)) {
            sorted[i]->boot = before->boot;
        } else if (after && after->boot_id && may_be_one_boot(sorted[i], after)) {
            sorted[i]->boot = after->boot;
        }
        last = sorted[i];
    }
    free(sorted);
}

static struct stretch **stretches_of_places; /* for compare_places */

static const struct stretch *stretch_of(const struct place *place)
{
    return stretches_of_places[place->where & (MOST_STRETCHES - 1)];
}

static int compare_places(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    unsigned one = stretch_of(a)->boot, other = stretch_of(b)->boot;
    if (one != other) return one < other ? -1 : 1;
    if (a->monotonic != b->monotonic) return a->monotonic < b->monotonic ? -1 : 1;
    return a->where < b->where ? -1 : a->where > b->where;
}

void log_arrange(struct log *log)
{
    find_boots(log);
    stretches_of_places = log->stretches;
    if (!log->count) return;
    log->places = or_end(realloc(log->places, log->count * sizeof *log->places));
    /* Most logs are in order, and sorting would take as much memory again. */
    for (size_t i = 1; i < log->count; i++)
        if (compare_places(&log->places[i - 1], &log->places[i]) > 0) {
            qsort(log->places, log->count, sizeof *log->places, compare_places);
            return;
        }
}

/* ---- the second time: what they say ------------------------------------------------------------------------- */

static struct log_file *file_of(const struct log *log, off_t where)
{
    size_t low = 0, high = log->file_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        const struct log_file *file = &log->files[middle];
        if (file->first > where)
            high = middle;
        else
            low = middle;
    }
    return &log->files[low];
}

const struct event *log_event(struct log *log, size_t number)
{
    const struct place *place = &log->places[number];
    const struct stretch *stretch = stretch_of(place);
    const struct event before = log->last;
    off_t where = (off_t)(place->where >> STRETCH_BITS);
    struct log_file *file = file_of(log, where);
    if (number % 1024 == 0) show_progress(true, (double)number / (double)log->count);
    free(log->last.opponents);
    log->last = (struct event){0};
    if (file->position != where) fseeko(file->stream, file->start + where - file->first, SEEK_SET);
    ssize_t length = getline(&log->line, &log->line_size, file->stream);
    file->position = where + (length > 0 ? length : 0);
    struct event event;
    if (length <= 0 || event_read(log->line, (size_t)length, &event)) {
        complain("%s: it changed while it was read", file->path);
        return NULL;
    }
    event.boot = stretch->boot;
    event.time = event.wall;
    /* A wall clock that was set back must not turn events round or make durations negative. */
    if (number && before.boot == event.boot && event.wall < before.time)
        event.time = before.time + event.monotonic - before.monotonic;
    log->last = event;
    return &log->last;
}

void log_close(struct log *log)
{
    show_progress(true, 1);
    free(log->places);
    free(log->line);
    free(log->last.opponents);
    log->places = NULL;
    log->line = NULL;
    log->last = (struct event){0};
    for (size_t i = 0; i < log->file_count; i++)
        if (log->files[i].stream && log->files[i].stream != stdin) fclose(log->files[i].stream);
}
