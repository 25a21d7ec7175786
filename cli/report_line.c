/* report_line.c: from a line of an audit log to an event. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "report_log.h"
#include "text.h"

#define SECOND INT64_C(1000000000)

/* ---- fields of a line --------------------------------------------------------------------------------------- */

/* The bytes as the array KEY_raw has them, where there is one. */
static const struct report_name *raw_name(const json_t *line, const char *key)
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
    const struct report_name *name = valid ? name_of(bytes, length) : NULL;
    free(bytes);
    return name;
}

static const struct report_name *name_field(const json_t *line, const char *key)
{
    const struct report_name *raw = raw_name(line, key);
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

/* Who reads by force-share reads as everybody does; without a lock, which is event->unlocked. */
static enum lock_mode mode_field(const json_t *line, const char *key)
{
    if (is_word(line, key, "exclusive")) return LOCK_EXCLUSIVE;
    return is_word(line, key, "shared") || is_word(line, key, "force-share") ? LOCK_SHARED : LOCK_NONE;
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

static void read_opponents(const json_t *line, struct event *event)
{
    const json_t *array = json_object_get(line, "holders");
    size_t count = json_array_size(array);
    if (!count || event->kind == EVENT_EXIT) return;
    event->opponents = zeroed(count * sizeof *event->opponents);
    for (size_t i = 0; i < count; i++) {
        const json_t *holder = json_array_get(array, i);
        struct opponent opponent = {.pid = pid_field(holder, "pid"),
                                    .start = (uint64_t)number_field(holder, "start", 0),
                                    .uid = number_field(holder, "uid", -1),
                                    .mode = mode_field(holder, "mode"),
                                    .since = time_field(holder, "since"),
                                    .comm = name_field(holder, "comm"),
                                    .host = name_field(holder, "host"),
                                    .has = name_field(holder, "has")};
        if (opponent.pid) event->opponents[event->opponent_count++] = opponent;
    }
}

/* ---- lines -------------------------------------------------------------------------------------------------- */

static const char *const kinds[] = {
    [EVENT_OPEN] = "open",           [EVENT_ACQUIRE] = "acquire", [EVENT_CONVERT] = "convert",
    [EVENT_CONFLICT] = "conflict",   [EVENT_WAIT] = "wait",       [EVENT_RELEASE] = "release",
    [EVENT_GUARD] = "guard",         [EVENT_LOST] = "lost",       [EVENT_ERROR] = "error",
    [EVENT_UNWATCHED] = "unwatched", [EVENT_EXIT] = "exit",
};

/* NULL: *event is the line's.  Else why the line is none of an audit log. */
static const char *read_object(const json_t *line, struct event *event)
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
    event->what = name_field(line, event->kind == EVENT_GUARD       ? "operation"
                                   : event->kind == EVENT_UNWATCHED ? "program"
                                                                    : "what");
    if (event->kind == EVENT_UNWATCHED && !event->what) return "it names no program";
    if (event->kind < EVENT_ERROR && !event->image) return "it names no image";
    event->tid = pid_field(line, "tid");
    event->parent = pid_field(line, "ppid");
    event->start = (uint64_t)number_field(line, "start", 0);
    event->about_start = (uint64_t)number_field(line, "about_start", 0);
    event->inode = (uint64_t)number_field(line, "ino", 0);
    event->uid = number_field(line, "uid", -1);
    event->held = number_field(line, "held_ns", 0);
    event->mode = mode_field(line, "mode");
    event->from = mode_field(line, "from");
    event->unlocked = json_is_true(json_object_get(line, "unlocked")) || is_word(line, "mode", "force-share");
    event->regained = json_is_true(json_object_get(line, "regained"));
    event->family = json_is_true(json_object_get(line, "family"));
    event->boot_id = name_field(line, "boot");
    event->comm = name_field(line, "comm");
    event->cmdline = name_field(line, "cmdline");
    event->lock = name_field(line, "lock");
    event->device = name_field(line, "dev");
    event->flags = name_field(line, "flags");
    event->result = name_field(line, "result");
    event->error = name_field(line, event->kind == EVENT_ERROR       ? "cause"
                                    : event->kind == EVENT_UNWATCHED ? "why"
                                                                     : "errno");
    if (!event->error) event->error = name_field(line, "errno");
    if (!event->comm) event->comm = name_of("?", 1);
    if (!event->cmdline || !event->cmdline->length) event->cmdline = event->comm;
    read_opponents(line, event);
    return NULL;
}

const char *event_read(const char *line, size_t length, struct event *event)
{
    static char reason[JSON_ERROR_TEXT_LENGTH + 40];
    json_error_t problem;
    json_t *object = json_loadb(line, length, 0, &problem);
    if (!object) {
        snprintf(reason, sizeof reason, "no whole JSON object: %s", problem.text);
        return reason;
    }
    const char *foreign = read_object(object, event);
    json_decref(object);
    if (!foreign) return NULL;
    snprintf(reason, sizeof reason, "no line of an audit log: %s", foreign);
    return reason;
}
