/* report_log.c: reading audit logs. */
#include "report_log.h"

#include <errno.h>
#include <jansson.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "text.h"

enum { SKIPS_TOLD = 20 };
#define SECOND INT64_C(1000000000)

/* Two clocks are not read in one moment, and several processes write one file: the order of lines may differ from
 * that of their times by so much without a new boot. */
#define DISORDER (10 * SECOND)

/* What the wall clock may have been set by while two logs of one boot were written. */
#define SET_BY (2 * SECOND)

/* ---- memory and names --------------------------------------------------------------------------------------- */

static void *or_end(void *memory)
{
    if (!memory) exit(complain("report: not enough memory for these logs"));
    return memory;
}

void *grown(void *array, size_t count, size_t *room, size_t size)
{
    if (count < *room) return array;
    *room = *room ? 2 * *room : 16;
    return or_end(reallocarray(array, *room, size));
}

void *zeroed(size_t size)
{
    return or_end(calloc(1, size));
}

static int compare_names(const void *left, const void *right)
{
    const struct name *a = left, *b = right;
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    return memcmp(a->bytes, b->bytes, a->length);
}

const struct name *name_of(const char *bytes, size_t length)
{
    static void *names;
    const struct name sought = {.bytes = bytes, .length = length};
    struct name **found = or_end(tsearch(&sought, &names, compare_names));
    if (*found != &sought) return *found;
    struct name *name = zeroed(sizeof *name);
    char *copy = zeroed(length + 1);
    size_t size = 4 * length + 1;
    struct text shown = text_in(or_end(malloc(size)), size);
    memcpy(copy, bytes, length);
    text_append_untrusted(&shown, bytes, length);
    *name = (struct name){.bytes = copy, .length = length, .shown = or_end(realloc(shown.bytes, shown.length + 1))};
    *found = name;
    return name;
}

/* ---- fields of a line --------------------------------------------------------------------------------------- */

/* The bytes as the array KEY_raw has them, where there is one. */
static const struct name *raw_name(const json_t *line, const char *key)
{
    char raw[40];
    struct text text = text_in(raw, sizeof raw);
    text_append(&text, key);
    text_append(&text, "_raw");
    const json_t *array = json_object_get(line, raw);
    size_t length = json_array_size(array);
    if (!length) return NULL;
    char *bytes = zeroed(length);
    bool valid = true;
    for (size_t i = 0; i < length; i++) {
        const json_t *byte = json_array_get(array, i);
        valid = valid && json_is_integer(byte) && json_integer_value(byte) >= 0 && json_integer_value(byte) <= 255;
        bytes[i] = (char)json_integer_value(byte);
    }
    const struct name *name = valid ? name_of(bytes, length) : NULL;
    free(bytes);
    return name;
}

static const struct name *name_field(const json_t *line, const char *key)
{
    const struct name *raw = raw_name(line, key);
    if (raw) return raw;
    const json_t *value = json_object_get(line, key);
    return json_is_string(value) ? name_of(json_string_value(value), json_string_length(value)) : NULL;
}

static bool is_word(const json_t *line, const char *key, const char *word)
{
    const char *value = json_string_value(json_object_get(line, key));
    return value && strcmp(value, word) == 0;
}

/* A number that is not negative; otherwise when there is none. */
static int64_t number_field(const json_t *line, const char *key, int64_t otherwise)
{
    const json_t *value = json_object_get(line, key);
    return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value) : otherwise;
}

static pid_t pid_field(const json_t *line, const char *key)
{
    int64_t pid = number_field(line, key, 0);
    return pid <= INT32_MAX ? (pid_t)pid : 0;
}

static enum lock_mode mode_field(const json_t *line, const char *key)
{
    if (is_word(line, key, "exclusive")) return LOCK_EXCLUSIVE;
    return is_word(line, key, "shared") ? LOCK_SHARED : LOCK_NONE;
}

/* RFC 3339, UTC, up to nanoseconds.  0: it is none, or lies outside of 1970 to 2199. */
static int64_t time_field(const json_t *line, const char *key)
{
    const char *value = json_string_value(json_object_get(line, key));
    struct tm parts = {0};
    int end = 0;
    if (!value || sscanf(value, "%4d-%2d-%2dT%2d:%2d:%2d%n", &parts.tm_year, &parts.tm_mon, &parts.tm_mday,
                         &parts.tm_hour, &parts.tm_min, &parts.tm_sec, &end) != 6)
        return 0;
    if (parts.tm_year < 1970 || parts.tm_year > 2199 || parts.tm_mon < 1 || parts.tm_mon > 12 || parts.tm_mday < 1 ||
        parts.tm_mday > 31 || parts.tm_hour < 0 || parts.tm_hour > 23 || parts.tm_min < 0 || parts.tm_min > 59 ||
        parts.tm_sec < 0 || parts.tm_sec > 60)
        return 0;
    const char *at = value + end;
    int64_t fraction = 0, unit = SECOND / 10;
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++, unit /= 10) fraction += (*at - '0') * unit;
    if (strcmp(at, "Z") != 0) return 0;
    parts.tm_year -= 1900;
    parts.tm_mon--;
    return (int64_t)timegm(&parts) * SECOND + fraction;
}

static void read_blockers(const json_t *line, struct event *event)
{
    const json_t *array = json_object_get(line, "holders");
    size_t count = json_array_size(array);
    if (!count) return;
    event->blockers = zeroed(count * sizeof *event->blockers);
    for (size_t i = 0; i < count; i++) {
        const json_t *holder = json_array_get(array, i);
        struct blocker blocker = {.pid = pid_field(holder, "pid"),
                                  .start = (uint64_t)number_field(holder, "start", 0),
                                  .uid = number_field(holder, "uid", -1),
                                  .mode = mode_field(holder, "mode"),
                                  .since = time_field(holder, "since"),
                                  .comm = name_field(holder, "comm"),
                                  .host = name_field(holder, "host")};
        if (blocker.pid) event->blockers[event->blocker_count++] = blocker;
    }
}

/* ---- lines -------------------------------------------------------------------------------------------------- */

static const char *const kinds[] = {
    [EVENT_OPEN] = "open",   [EVENT_ACQUIRE] = "acquire", [EVENT_CONVERT] = "convert", [EVENT_CONFLICT] = "conflict",
    [EVENT_WAIT] = "wait",   [EVENT_RELEASE] = "release", [EVENT_GUARD] = "guard",     [EVENT_LOST] = "lost",
    [EVENT_ERROR] = "error", [EVENT_EXIT] = "exit",
};

/* NULL: *event is the line's.  Else why the line is none of an audit log. */
static const char *read_event(const json_t *line, struct event *event)
{
    *event = (struct event){0};
    if (!json_is_object(line)) return "no JSON object";
    const json_t *version = json_object_get(line, "v");
    if (!json_is_integer(version)) return "it has no version";
    if (json_integer_value(version) != 1) return "of a version that this imglock does not know";
    size_t kind = 0;
    while (kind < sizeof kinds / sizeof *kinds && !is_word(line, "event", kinds[kind])) kind++;
    if (kind == sizeof kinds / sizeof *kinds) return "of an unknown event";
    event->kind = (enum event_kind)kind;
    event->wall = time_field(line, "time");
    if (!event->wall) return "it has no valid time";
    event->monotonic = number_field(line, "mono_ns", -1);
    /* A hundred years of uptime; what is added to it then stays far from overflow. */
    if (event->monotonic < 0 || event->monotonic > INT64_C(3155760000) * SECOND) return "it has no valid mono_ns";
    event->pid = pid_field(line, "pid");
    if (!event->pid) return "it has no valid pid";
    event->image = name_field(line, "image");
    event->about_pid = pid_field(line, "about_pid");
    if (event->kind == EVENT_EXIT && !event->about_pid) return "it has no valid about_pid";
    if (event->kind != EVENT_EXIT && event->kind != EVENT_ERROR && !event->image) return "it names no image";
    event->tid = pid_field(line, "tid");
    event->parent = pid_field(line, "ppid");
    event->start = (uint64_t)number_field(line, "start", 0);
    event->about_start = (uint64_t)number_field(line, "about_start", 0);
    event->inode = (uint64_t)number_field(line, "ino", 0);
    event->uid = number_field(line, "uid", -1);
    event->held = number_field(line, "held_ns", 0);
    event->mode = mode_field(line, "mode");
    event->from = mode_field(line, "from");
    event->unlocked = json_is_true(json_object_get(line, "unlocked"));
    event->regained = json_is_true(json_object_get(line, "regained"));
    event->family = json_is_true(json_object_get(line, "family"));
    event->boot_id = name_field(line, "boot");
    event->comm = name_field(line, "comm");
    event->cmdline = name_field(line, "cmdline");
    event->lock = name_field(line, "lock");
    event->device = name_field(line, "dev");
    event->flags = name_field(line, "flags");
    event->result = name_field(line, "result");
    event->error = name_field(line, event->kind == EVENT_ERROR ? "cause" : "errno");
    if (!event->error) event->error = name_field(line, "errno");
    event->what = name_field(line, event->kind == EVENT_GUARD ? "operation" : "what");
    if (!event->comm) event->comm = name_of("?", 1);
    if (!event->cmdline || !event->cmdline->length) event->cmdline = event->comm;
    read_blockers(line, event);
    return NULL;
}

static struct stretch *add_stretch(struct log *log, const struct name *boot_id)
{
    log->stretches = grown(log->stretches, log->stretch_count, &log->stretch_room, sizeof(struct stretch *));
    struct stretch *stretch = zeroed(sizeof *stretch);
    *stretch = (struct stretch){.boot_id = boot_id,
                                .least_offset = INT64_MAX,
                                .greatest_offset = INT64_MIN,
                                .number = (unsigned)log->stretch_count};
    return log->stretches[log->stretch_count++] = stretch;
}

static int compare_boot_ids(const void *left, const void *right)
{
    const struct stretch *a = left, *b = right;
    return a->boot_id < b->boot_id ? -1 : a->boot_id > b->boot_id;
}

/* The stretch of a line that names its boot. */
static struct stretch *named_stretch(struct log *log, const struct name *boot_id)
{
    static void *tree;
    struct stretch sought = {.boot_id = boot_id};
    struct stretch **found = or_end(tsearch(&sought, &tree, compare_boot_ids));
    if (*found == &sought) *found = add_stretch(log, boot_id);
    return *found;
}

/* unnamed: the file's last stretch of lines that do not name their boot. */
static void add_event(struct log *log, const struct event *event, struct stretch **unnamed)
{
    struct stretch *stretch = event->boot_id ? named_stretch(log, event->boot_id) : *unnamed;
    int64_t offset = event->wall - event->monotonic;
    if (!stretch || (!event->boot_id && event->monotonic < stretch->latest - DISORDER))
        *unnamed = stretch = add_stretch(log, NULL);
    if (offset < stretch->least_offset) stretch->least_offset = offset;
    if (offset > stretch->greatest_offset) stretch->greatest_offset = offset;
    if (event->monotonic > stretch->latest) stretch->latest = event->monotonic;
    log->events = grown(log->events, log->count, &log->room, sizeof *log->events);
    log->events[log->count] = *event;
    log->events[log->count].sequence = log->count;
    log->events[log->count].stretch = stretch->number;
    log->count++;
}

static void skip_line(struct log_file *file, const char *reason, const char *detail)
{
    if (file->skipped++ < SKIPS_TOLD)
        complain("%s:%zu: line skipped: %s%s%s", file->path, file->lines, reason, detail ? ": " : "",
                 detail ? detail : "");
}

static void read_line(struct log *log, struct log_file *file, const char *line, size_t length, struct stretch **unnamed)
{
    json_error_t problem;
    struct event event;
    if (length && line[length - 1] == '\n') length--;
    if (!length) return; /* says nothing, and nothing wrong */
    json_t *object = json_loadb(line, length, 0, &problem);
    const char *foreign = object ? read_event(object, &event) : NULL;
    if (!object)
        skip_line(file, "no whole JSON object", problem.text);
    else if (foreign)
        skip_line(file, "no line of an audit log", foreign);
    else
        add_event(log, &event, unnamed);
    json_decref(object);
}

bool log_read(struct log *log, const char *path)
{
    bool standard_input = strcmp(path, "-") == 0;
    FILE *stream = standard_input ? stdin : fopen(path, "re");
    if (!stream) {
        complain("%s: cannot open: %m", path);
        return false;
    }
    struct log_file file = {.path = standard_input ? "standard input" : path};
    char *line = NULL;
    size_t size = 0;
    ssize_t length;
    struct stretch *unnamed = NULL;
    errno = 0;
    while ((length = getline(&line, &size, stream)) >= 0) {
        file.lines++;
        read_line(log, &file, line, (size_t)length, &unnamed);
        errno = 0;
    }
    /* getline(3) also fails for want of memory, and then sets no error on the stream. */
    bool whole = feof(stream) && !ferror(stream);
    if (!whole) complain("%s: cannot read: %m", file.path);
    if (file.skipped > SKIPS_TOLD)
        complain("%s: %zu more lines skipped, %zu of %zu in all", file.path, file.skipped - SKIPS_TOLD, file.skipped,
                 file.lines);
    free(line);
    if (!standard_input) fclose(stream);
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

static int compare_events(const void *left, const void *right)
{
    const struct event *a = left, *b = right;
    if (a->boot != b->boot) return a->boot < b->boot ? -1 : 1;
    if (a->monotonic != b->monotonic) return a->monotonic < b->monotonic ? -1 : 1;
    return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

void log_arrange(struct log *log)
{
    find_boots(log);
    for (size_t i = 0; i < log->count; i++) log->events[i].boot = log->stretches[log->events[i].stretch]->boot;
    if (log->count) qsort(log->events, log->count, sizeof *log->events, compare_events);
    for (size_t i = 0; i < log->count; i++) {
        struct event *event = &log->events[i];
        const struct event *before = i && event[-1].boot == event->boot ? &event[-1] : NULL;
        event->time = event->wall;
        /* A wall clock that was set back must not turn events round or make durations negative. */
        if (before && event->wall < before->time) event->time = before->time + event->monotonic - before->monotonic;
    }
}
