/* status_columns.c: the columns of imglock status: what each says of a usage, and which of them are shown. */
#include "status_columns.h"

#include <libsmartcols/libsmartcols.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "complain.h"
#include "lock_name.h"
#include "process.h"
#include "usage_words.h"

/* ---- cells -------------------------------------------------------------------------------------------------- */

static void append_user(struct text *cell, uid_t uid)
{
    static uid_t last = (uid_t)-1;
    static char name[64];
    if (uid != last) {
        const struct passwd *user = getpwuid(uid);
        snprintf(name, sizeof name, "%.*s", user ? 63 : 0, user ? user->pw_name : "");
        last = uid;
    }
    if (*name)
        text_append_untrusted(cell, name, strlen(name));
    else
        text_append_number(cell, uid);
}

void column_append_time(struct text *cell, int64_t time_ms, bool iso)
{
    struct tm then, today;
    time_t seconds = time_ms / 1000, now = time(NULL);
    char word[64];
    /* A record may say anything. */
    if (!localtime_r(&seconds, &then) || !localtime_r(&now, &today)) return;
    const char *format = "%Y-%m-%d";
    if (iso)
        format = "%Y-%m-%dT%H:%M:%S%z";
    else if (then.tm_year == today.tm_year && then.tm_yday == today.tm_yday)
        format = "%H:%M:%S";
    else if (then.tm_year == today.tm_year)
        format = "%b %d %H:%M";
    size_t length = strftime(word, sizeof word, format, &then);
    if (iso && length > 2) {
        /* +0100 is +01:00 there. */
        text_append_bytes(cell, word, length - 2);
        text_append(cell, ":");
        text_append_bytes(cell, word + length - 2, 2);
    } else {
        text_append_bytes(cell, word, length);
    }
}

static void append_string(struct text *cell, const char *string)
{
    text_append_untrusted(cell, string, strlen(string));
}

static void append_operations(struct text *cell, unsigned operations)
{
    for (int i = 0; i < OPERATIONS; i++) {
        if (!(operations & 1u << i)) continue;
        text_append(cell, settings_operation_name((enum operation)i));
        if (operations >> (i + 1)) text_append(cell, ",");
    }
}

static long long seconds_held(const struct usage *usage)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec > usage->since_ms / 1000 ? now.tv_sec - usage->since_ms / 1000 : 0;
}

static void cell_image(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->image) {
        append_string(cell, usage->image);
    } else {
        text_append(cell, "sha1:");
        text_append(cell, usage->name->hex);
    }
}

static void cell_mode(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    text_append(cell, usage_mode_name(usage));
}

static void cell_kind(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    text_append(cell, usage_kind_name(usage->kind));
}

static void cell_pid(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->pid) text_append_number(cell, usage->pid);
}

static void cell_user_name(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->uid_known) append_user(cell, usage->uid);
}

static void cell_command(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    text_append_escaped(cell, usage->command);
}

static void cell_since(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    if (!usage->since_ms) return;
    if (options->words)
        text_append_duration(cell, seconds_held(usage));
    else /* a program that reads JSON is to know the day */
        column_append_time(cell, usage->since_ms, options->format != TABLE_PLAIN);
}

static void cell_uid(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->uid_known) text_append_number(cell, usage->uid);
}

static void cell_host(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    text_append_escaped(cell, usage->host);
}

static void cell_descriptor(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->descriptor >= 0) text_append_number(cell, usage->descriptor);
}

static void cell_lock_file(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    char path[PATH_MAX];
    lock_path(options->settings->directory, usage->name, path);
    append_string(cell, path);
}

static void cell_boot(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->boot) text_append_hex(cell, usage->boot, 16);
}

static void cell_start(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->start) text_append_number(cell, (long long)usage->start);
}

static void cell_pid_space(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->pid_space) text_append_number(cell, (long long)usage->pid_space);
}

static void cell_held(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->since_ms) text_append_number(cell, seconds_held(usage));
}

static void cell_locked_since(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    if (usage->since_ms) column_append_time(cell, usage->since_ms, true);
}

static void cell_blocks(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    append_operations(cell, usage->block);
}

static void cell_reason(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    text_append_escaped(cell, usage->reason);
}

static void cell_guest(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    text_append(cell, usage->guest);
}

static void cell_unit(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    text_append(cell, usage->unit);
}

static void cell_machine(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    text_append(cell, usage->machine);
}

static void cell_sharers(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    text_append_number(cell, usage->sharers);
}

static void cell_has(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    usage_append_has(cell, usage);
}

/* ---- the columns -------------------------------------------------------------------------------------------- */

_Static_assert(COLUMNS <= sizeof((struct table_options){0}.columns) / sizeof(int), "room for all of them");

const struct status_column status_columns[COLUMNS] = {
    [COLUMN_IMAGE] = {"IMAGE", 0.4, SCOLS_FL_WRAP, false, SHOWN_ALWAYS,
                      "path of the image; sha1:... where the lock file does not tell it", cell_image},
    [COLUMN_MODE] = {"MODE", 9, 0, false, SHOWN_ALWAYS,
                     "exclusive, shared; inactive, force-share, none: no lock; unlocked: no lock of any kind",
                     cell_mode},
    [COLUMN_KIND] =
        {"KIND", 6, 0, false, SHOWN_ALWAYS,
         "holder, helper, inherited, unrecorded, foreign, blocker, waiting, marked, qemu, locked, mounted or open",
         cell_kind},
    [COLUMN_PID] = {"PID", 5, SCOLS_FL_RIGHT, true, SHOWN_ALWAYS, "process ID", cell_pid},
    [COLUMN_USER] = {"USER", 4, 0, false, SHOWN_ALWAYS, "user name of the process", cell_user_name},
    [COLUMN_COMMAND] = {"COMMAND", 8, 0, false, SHOWN_ALWAYS, "name of the command", cell_command},
    [COLUMN_SINCE] = {"SINCE", 5, 0, false, SHOWN_ALWAYS,
                      "when the lock was taken, short; on a terminal how long ago; in JSON as LOCKED-SINCE",
                      cell_since},
    [COLUMN_UID] = {"UID", 4, SCOLS_FL_RIGHT, true, SHOWN_NEVER, "user ID of the process", cell_uid},
    [COLUMN_HOST] = {"HOST", 6, 0, false, SHOWN_NEVER, "host that the process runs on", cell_host},
    [COLUMN_FD] = {"FD", 4, SCOLS_FL_RIGHT, true, SHOWN_NEVER,
                   "descriptor of the lock file, or of an image open without a lock", cell_descriptor},
    [COLUMN_LOCKFILE] = {"LOCKFILE", 0.4, SCOLS_FL_WRAP, false, SHOWN_NEVER, "path of the lock file", cell_lock_file},
    [COLUMN_BOOT] = {"BOOT", 16, 0, false, SHOWN_NEVER, "start of the boot ID of the process's host", cell_boot},
    [COLUMN_START] = {"START", 8, SCOLS_FL_RIGHT, true, SHOWN_NEVER,
                      "when the process started, clock ticks after the boot", cell_start},
    [COLUMN_PIDNS] = {"PIDNS", 10, SCOLS_FL_RIGHT, true, SHOWN_NEVER, "PID namespace of the process", cell_pid_space},
    [COLUMN_HELD] = {"HELD", 4, SCOLS_FL_RIGHT, true, SHOWN_NEVER, "how long the lock is held, in seconds", cell_held},
    [COLUMN_LOCKED_SINCE] = {"LOCKED-SINCE", 20, 0, false, SHOWN_NEVER, "when the lock was taken, as ISO 8601 has it",
                             cell_locked_since},
    [COLUMN_BLOCKS] = {"BLOCKS", 6, SCOLS_FL_WRAP, false, SHOWN_IF_SAID, "operations that it forbids others",
                       cell_blocks},
    [COLUMN_REASON] = {"REASON", 0.3, SCOLS_FL_WRAP, false, SHOWN_IF_SAID, "why, in its own words", cell_reason},
    [COLUMN_GUEST] = {"GUEST", 5, 0, false, SHOWN_IF_SAID, "guest of a virtual machine, QEMU's -name", cell_guest},
    [COLUMN_UNIT] = {"UNIT", 8, 0, false, SHOWN_IF_SAID, "systemd unit of the process", cell_unit},
    [COLUMN_MACHINE] = {"MACHINE", 8, 0, false, SHOWN_IF_SAID, "container or machine that the process runs in",
                        cell_machine},
    [COLUMN_HAS] = {"HAS", 0.3, SCOLS_FL_WRAP, false, SHOWN_IF_SAID,
                    "what it has of the image if not its lock: QEMU's own lock, open for writing", cell_has},
    [COLUMN_SHARERS] = {"SHARERS", 4, SCOLS_FL_RIGHT, true, SHOWN_NEVER,
                        "how many more processes have its lock, by inheritance", cell_sharers},
};

/* ---- which columns ------------------------------------------------------------------------------------------ */

void table_default_columns(struct table_options *options)
{
    options->column_count = 0;
    for (int i = 0; i < COLUMNS; i++)
        if (status_columns[i].shown == SHOWN_ALWAYS) options->columns[options->column_count++] = i;
}

void table_all_columns(struct table_options *options)
{
    options->chosen = true;
    options->column_count = 0;
    for (int i = 0; i < COLUMNS; i++) options->columns[options->column_count++] = i;
}

static int find_column(const char *name, size_t length)
{
    for (int i = 0; i < COLUMNS; i++)
        if (strlen(status_columns[i].name) == length && strncasecmp(status_columns[i].name, name, length) == 0)
            return i;
    return -1;
}

bool table_parse_columns(struct table_options *options, const char *list)
{
    options->chosen = true;
    if (*list == '+') {
        table_default_columns(options);
        list++;
    } else {
        options->column_count = 0;
    }
    for (;;) {
        size_t length = strcspn(list, ",");
        int column = find_column(list, length);
        if (column < 0) {
            complain_usage("status: there is no column '%.*s'; --list-columns lists them", (int)length, list);
            return false;
        }
        for (size_t i = 0; i < options->column_count; i++) {
            if (options->columns[i] != column) continue;
            complain_usage("status: the column %s is given twice", status_columns[column].name);
            return false;
        }
        options->columns[options->column_count++] = column;
        if (!list[length]) return true;
        list += length + 1;
    }
}

void table_list_columns(void)
{
    for (int i = 0; i < COLUMNS; i++) printf("%12s  %s\n", status_columns[i].name, status_columns[i].help);
}

const char *table_column_names(void)
{
    static char names[1024];
    struct text text = text_in(names, sizeof names);
    for (int i = 0; i < COLUMNS; i++) {
        if (i) text_append(&text, " ");
        text_append(&text, status_columns[i].name);
    }
    return names;
}

/* Who is on another host is told by that first. */
static void add_host(struct table_options *options, const struct usage_list *list)
{
    const char *self = process_self()->host;
    bool elsewhere = false;
    for (size_t i = 0; i < list->count && !elsewhere; i++)
        elsewhere = strncmp(list->usages[i].host, self, strlen(list->usages[i].host)) != 0;
    if (!elsewhere || options->format != TABLE_PLAIN) return;
    size_t at = 0;
    while (at < options->column_count && options->columns[at] != COLUMN_PID) at++;
    memmove(&options->columns[at + 1], &options->columns[at], (options->column_count - at) * sizeof *options->columns);
    options->columns[at] = COLUMN_HOST;
    options->column_count++;
}

void table_add_columns(struct table_options *options, const struct usage_list *list)
{
    char bytes[PATH_MAX];
    if (options->chosen || options->format == TABLE_RAW) return;
    add_host(options, list);
    for (int column = 0; column < COLUMNS; column++) {
        if (status_columns[column].shown != SHOWN_IF_SAID) continue;
        bool said = options->format == TABLE_JSON;
        for (size_t i = 0; i < list->count && !said; i++) {
            struct text cell = text_in(bytes, sizeof bytes);
            status_columns[column].append(&cell, &list->usages[i], options);
            said = cell.length > 0;
        }
        if (said) options->columns[options->column_count++] = column;
    }
}
