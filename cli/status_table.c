/* status_table.c: the columns of imglock status, and how they are printed. */
#include <errno.h>
#include <inttypes.h>
#include <libsmartcols/libsmartcols.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "lock_name.h"
#include "outsiders.h"
#include "process.h"
#include "status_table.h"
#include "text.h"

/* ---- cells -------------------------------------------------------------------------------------------------- */

const char *usage_mode_name(const struct usage *usage)
{
    return usage->mode == LOCK_NONE && !usage->noted ? "unlocked" : policy_mode_name(usage->mode);
}

const char *usage_kind_name(enum usage_kind kind)
{
    static const char *const names[] = {
        [KIND_HOLDER] = "holder",         [KIND_HELPER] = "helper",   [KIND_INHERITED] = "inherited",
        [KIND_UNRECORDED] = "unrecorded", [KIND_FOREIGN] = "foreign", [KIND_BLOCKER] = "blocker",
        [KIND_WAITING] = "waiting",       [KIND_MARKED] = "marked",   [KIND_QEMU] = "qemu",
        [KIND_LOCKED] = "locked",         [KIND_MOUNTED] = "mounted", [KIND_OPEN] = "open"};
    return names[kind];
}

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

static void append_time(struct text *cell, int64_t time_ms, bool iso)
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
        append_time(cell, usage->since_ms, options->format != TABLE_PLAIN);
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
    if (usage->since_ms) append_time(cell, usage->since_ms, true);
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

static void append_open(struct text *text, const struct usage *usage)
{
    text_append(text, usage->loop >= 0 ? "loop device, for " : usage->mapped ? "mapped for " : "open for ");
    text_append(text, usage->writes ? "writing" : "reading");
}

/* ", mounted on /mnt", where a loop device is. */
static void append_mount(struct text *text, unsigned loop)
{
    const size_t before = text->length;
    text_append(text, ", mounted on ");
    if (outsiders_append_mount(text, loop)) return;
    text->length = before;
    text->bytes[before] = '\0';
}

/* The words are those of a refusal, shim/message.c. */
void usage_append_has(struct text *text, const struct usage *usage)
{
    const struct mark_meaning *meaning = &usage->meaning;
    switch (usage->kind) {
    case KIND_MARKED:
        if (usage->loop >= 0 || usage->mapped) {
            append_open(text, usage);
            text_append(text, ", with ");
        }
        text_append(text, "imglock's marks");
        if (!usage->as) return;
        text_append(text, ", locked ");
        append_string(text, usage->as);
        return;
    case KIND_QEMU:
        text_append(text, "QEMU's own lock: ");
        text_append(text, meaning->writes ? "writes" : "reads");
        if (meaning->unshares) text_append(text, meaning->writes ? ", shares nothing" : ", shares no writing");
        return;
    case KIND_LOCKED:
        text_append(text, meaning->keeper      ? "virtlockd's lock, for a machine of libvirt"
                          : meaning->exclusive ? "it has locked the file for itself"
                                               : "it has locked the file");
        if (!meaning->bytes) text_append(text, " by flock");
        return;
    case KIND_OPEN:
        if (!usage->seen) return;
        append_open(text, usage);
        if (usage->loop >= 0) append_mount(text, (unsigned)usage->loop);
        return;
    case KIND_MOUNTED:
        text_append(text, "mounted on ");
        append_string(text, usage->as);
        return;
    default:
        return;
    }
}

static void cell_has(struct text *cell, const struct usage *usage, const struct table_options *options)
{
    (void)options;
    usage_append_has(cell, usage);
}

/* ---- the columns -------------------------------------------------------------------------------------------- */

enum column {
    COLUMN_IMAGE,
    COLUMN_MODE,
    COLUMN_KIND,
    COLUMN_PID,
    COLUMN_USER,
    COLUMN_COMMAND,
    COLUMN_SINCE,
    COLUMN_UID,
    COLUMN_HOST,
    COLUMN_FD,
    COLUMN_LOCKFILE,
    COLUMN_BOOT,
    COLUMN_START,
    COLUMN_PIDNS,
    COLUMN_HELD,
    COLUMN_LOCKED_SINCE,
    COLUMN_SHARERS,
    COLUMN_GUEST,
    COLUMN_UNIT,
    COLUMN_MACHINE,
    COLUMN_BLOCKS,
    COLUMN_REASON,
    COLUMN_HAS,
    COLUMNS
};
_Static_assert(COLUMNS <= sizeof((struct table_options){0}.columns) / sizeof(int), "room for all of them");

/* When a column is printed that nobody asked for. */
enum shown { ALWAYS, IF_SAID /* where it has something to say, and in JSON */, NEVER };

static const struct {
    const char *name;
    double width; /* as scols_table_new_column has it */
    int flags;    /* the same's; SCOLS_FL_WRAP: where lines are to be wrapped */
    bool number;  /* in JSON */
    enum shown shown;
    const char *help;
    void (*append)(struct text *cell, const struct usage *usage, const struct table_options *options);
} columns[COLUMNS] = {
    [COLUMN_IMAGE] = {"IMAGE", 0.4, SCOLS_FL_WRAP, false, ALWAYS,
                      "path of the image; sha1:... where the lock file does not tell it", cell_image},
    [COLUMN_MODE] = {"MODE", 9, 0, false, ALWAYS,
                     "exclusive, shared; inactive, force-share, none: no lock; unlocked: no lock of any kind",
                     cell_mode},
    [COLUMN_KIND] =
        {"KIND", 6, 0, false, ALWAYS,
         "holder, helper, inherited, unrecorded, foreign, blocker, waiting, marked, qemu, locked, mounted or open",
         cell_kind},
    [COLUMN_PID] = {"PID", 5, SCOLS_FL_RIGHT, true, ALWAYS, "process ID", cell_pid},
    [COLUMN_USER] = {"USER", 4, 0, false, ALWAYS, "user name of the process", cell_user_name},
    [COLUMN_COMMAND] = {"COMMAND", 8, 0, false, ALWAYS, "name of the command", cell_command},
    [COLUMN_SINCE] = {"SINCE", 5, 0, false, ALWAYS,
                      "when the lock was taken, short; on a terminal how long ago; in JSON as LOCKED-SINCE",
                      cell_since},
    [COLUMN_UID] = {"UID", 4, SCOLS_FL_RIGHT, true, NEVER, "user ID of the process", cell_uid},
    [COLUMN_HOST] = {"HOST", 6, 0, false, NEVER, "host that the process runs on", cell_host},
    [COLUMN_FD] = {"FD", 4, SCOLS_FL_RIGHT, true, NEVER,
                   "descriptor of the lock file, or of an image open without a lock", cell_descriptor},
    [COLUMN_LOCKFILE] = {"LOCKFILE", 0.4, SCOLS_FL_WRAP, false, NEVER, "path of the lock file", cell_lock_file},
    [COLUMN_BOOT] = {"BOOT", 16, 0, false, NEVER, "start of the boot ID of the process's host", cell_boot},
    [COLUMN_START] = {"START", 8, SCOLS_FL_RIGHT, true, NEVER, "when the process started, clock ticks after the boot",
                      cell_start},
    [COLUMN_PIDNS] = {"PIDNS", 10, SCOLS_FL_RIGHT, true, NEVER, "PID namespace of the process", cell_pid_space},
    [COLUMN_HELD] = {"HELD", 4, SCOLS_FL_RIGHT, true, NEVER, "how long the lock is held, in seconds", cell_held},
    [COLUMN_LOCKED_SINCE] = {"LOCKED-SINCE", 20, 0, false, NEVER, "when the lock was taken, as ISO 8601 has it",
                             cell_locked_since},
    [COLUMN_BLOCKS] = {"BLOCKS", 6, SCOLS_FL_WRAP, false, IF_SAID, "operations that it forbids others", cell_blocks},
    [COLUMN_REASON] = {"REASON", 0.3, SCOLS_FL_WRAP, false, IF_SAID, "why, in its own words", cell_reason},
    [COLUMN_GUEST] = {"GUEST", 5, 0, false, IF_SAID, "guest of a virtual machine, QEMU's -name", cell_guest},
    [COLUMN_UNIT] = {"UNIT", 8, 0, false, IF_SAID, "systemd unit of the process", cell_unit},
    [COLUMN_MACHINE] = {"MACHINE", 8, 0, false, IF_SAID, "container or machine that the process runs in", cell_machine},
    [COLUMN_HAS] = {"HAS", 0.3, SCOLS_FL_WRAP, false, IF_SAID,
                    "what it has of the image if not its lock: QEMU's own lock, open for writing", cell_has},
    [COLUMN_SHARERS] = {"SHARERS", 4, SCOLS_FL_RIGHT, true, NEVER,
                        "how many more processes have its lock, by inheritance", cell_sharers},
};

/* ---- which columns ------------------------------------------------------------------------------------------ */

void table_default_columns(struct table_options *options)
{
    options->column_count = 0;
    for (int i = 0; i < COLUMNS; i++)
        if (columns[i].shown == ALWAYS) options->columns[options->column_count++] = i;
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
        if (strlen(columns[i].name) == length && strncasecmp(columns[i].name, name, length) == 0) return i;
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
            complain_usage("status: the column %s is given twice", columns[column].name);
            return false;
        }
        options->columns[options->column_count++] = column;
        if (!list[length]) return true;
        list += length + 1;
    }
}

void table_list_columns(void)
{
    for (int i = 0; i < COLUMNS; i++) printf("%12s  %s\n", columns[i].name, columns[i].help);
}

const char *table_column_names(void)
{
    static char names[1024];
    struct text text = text_in(names, sizeof names);
    for (int i = 0; i < COLUMNS; i++) {
        if (i) text_append(&text, " ");
        text_append(&text, columns[i].name);
    }
    return names;
}

/* ---- the table ---------------------------------------------------------------------------------------------- */

static const char *colour_of(const struct usage *usage)
{
    static const char *const colours[] = {[LOCK_NONE] = "magenta",
                                          [LOCK_FORCE_SHARE] = "cyan",
                                          [LOCK_INACTIVE] = "lightblue",
                                          [LOCK_SHARED] = "green",
                                          [LOCK_EXCLUSIVE] = "red"};
    return usage->mode == LOCK_NONE && !usage->noted ? "yellow" : colours[usage->mode];
}

static int add_line(struct libscols_table *table, const struct table_options *options, const struct usage *usage)
{
    static char bytes[4 * PATH_MAX + 1]; /* a path, each byte of it escaped */
    struct libscols_line *line = scols_table_new_line(table, NULL);
    if (!line) return -ENOMEM;
    size_t first = options->marks;
    if (options->marks && usage->mark) {
        const char mark[] = {usage->mark, '\0'};
        int error = scols_line_set_data(line, 0, mark);
        if (!error && options->colour) error = scols_line_set_color(line, usage->mark == '+' ? "bold" : "darkgray");
        if (error) return error;
    }
    for (size_t i = 0; i < options->column_count; i++) {
        struct text cell = text_in(bytes, sizeof bytes);
        columns[options->columns[i]].append(&cell, usage, options);
        int error = cell.length ? scols_line_set_data(line, first + i, cell.bytes) : 0;
        if (!error && options->columns[i] == COLUMN_MODE && options->colour && usage->mark != '-')
            error = scols_cell_set_color(scols_line_get_cell(line, first + i), colour_of(usage));
        if (error) return error;
    }
    return 0;
}

static int fill_table(struct libscols_table *table, const struct table_options *options, const struct usage_list *list)
{
    scols_table_set_name(table, "locks");
    scols_table_enable_json(table, options->format == TABLE_JSON);
    scols_table_enable_noheadings(table, !options->headings);
    scols_table_enable_colors(table, options->colour);
    /* Every cell is escaped by then, in one way in all formats. */
    scols_table_enable_noencoding(table, 1);
    if (options->marks && !scols_table_new_column(table, "", 1, 0)) return -ENOMEM;
    for (size_t i = 0; i < options->column_count; i++) {
        int number = options->columns[i];
        struct libscols_column *column =
            scols_table_new_column(table, columns[number].name, columns[number].width,
                                   columns[number].flags & (options->wrap ? ~0 : ~SCOLS_FL_WRAP));
        if (!column) return -ENOMEM;
        if (columns[number].number) scols_column_set_json_type(column, SCOLS_JSON_NUMBER);
    }
    for (size_t i = 0; i < list->count; i++) {
        int error = add_line(table, options, &list->usages[i]);
        if (error) return error;
    }
    return 0;
}

/* One line of fields with a blank between them; one in a field is \x20, and what is not known is a dash, since a field
 * that is empty would shift those behind it.  Printed here: libsmartcols would escape once more what is escaped
 * already. */
static void print_raw_line(const struct table_options *options, const struct usage *usage)
{
    static char bytes[4 * PATH_MAX + 1];
    for (size_t i = 0; i < options->column_count; i++) {
        struct text cell = text_in(bytes, sizeof bytes);
        if (usage)
            columns[options->columns[i]].append(&cell, usage, options);
        else
            text_append(&cell, columns[options->columns[i]].name);
        if (i) putchar(' ');
        if (!cell.length) putchar('-');
        for (const char *at = cell.bytes; *at; at++) {
            if (*at == ' ')
                fputs("\\x20", stdout);
            else
                putchar(*at);
        }
    }
    putchar('\n');
}

static void print_raw(const struct table_options *options, const struct usage_list *list)
{
    if (options->headings && list->count) print_raw_line(options, NULL);
    for (size_t i = 0; i < list->count; i++) print_raw_line(options, &list->usages[i]);
}

/* The document without the line breaks between its parts; those in strings are escaped. */
static void print_in_one_line(const char *document)
{
    for (const char *at = document; *at;) {
        size_t length = strcspn(at, "\n");
        fwrite(at, 1, length, stdout);
        at += length;
        at += strspn(at, "\n ");
    }
    putchar('\n');
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

/* The columns that are shown IF_SAID: in JSON all of them, whose documents are all alike; in raw lines none, whose
 * fields stay where they are. */
static void add_columns(struct table_options *options, const struct usage_list *list)
{
    char bytes[PATH_MAX];
    if (options->chosen || options->format == TABLE_RAW) return;
    add_host(options, list);
    for (int column = 0; column < COLUMNS; column++) {
        if (columns[column].shown != IF_SAID) continue;
        bool said = options->format == TABLE_JSON;
        for (size_t i = 0; i < list->count && !said; i++) {
            struct text cell = text_in(bytes, sizeof bytes);
            columns[column].append(&cell, &list->usages[i], options);
            said = cell.length > 0;
        }
        if (said) options->columns[options->column_count++] = column;
    }
}

void table_print_change(const struct table_options *options, const struct usage *usage)
{
    char bytes[64];
    struct timespec now;
    struct text time = text_in(bytes, sizeof bytes);
    clock_gettime(CLOCK_REALTIME, &now);
    append_time(&time, now.tv_sec * INT64_C(1000), true);
    printf("%s %c ", bytes, usage->mark);
    print_raw_line(options, usage);
}

char *table_text(const struct table_options *given, const struct usage_list *list)
{
    struct table_options filled = *given;
    char *text = NULL;
    add_columns(&filled, list);
    struct libscols_table *table = scols_new_table();
    if (table && fill_table(table, &filled, list) == 0) scols_print_table_to_string(table, &text);
    scols_unref_table(table);
    return text;
}

int table_print(const struct table_options *given, const struct usage_list *list)
{
    struct table_options filled = *given;
    const struct table_options *options = &filled;
    add_columns(&filled, list);
    if (options->format == TABLE_RAW) {
        print_raw(options, list);
        return 0;
    }
    struct libscols_table *table = scols_new_table();
    if (!table) return ENOMEM;
    int error = fill_table(table, options, list);
    char *document = NULL;
    if (!error && options->format == TABLE_JSON && !list->count) {
        fputs(options->one_line ? "{\"locks\": []}\n" : "{\n   \"locks\": []\n}\n", stdout);
    } else if (!error && options->one_line) {
        error = scols_print_table_to_string(table, &document);
        if (!error) print_in_one_line(document);
    } else if (!error && list->count) {
        error = scols_print_table(table);
    }
    free(document);
    scols_unref_table(table);
    return -error;
}
