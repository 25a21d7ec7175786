#include "audit.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "errors.h"
#include "holders.h"
#include "log_file.h"
#include "sys.h"
#include "text.h"

/* Two paths of 4,095 bytes, the image's and the program's, each byte three characters in JSON and four in the raw
 * array; the command line; fifty holders.  Pages that a line does not reach cost nothing. */
enum { LINE_SIZE = 128 * 1024, HOLDERS_NAMED = 50, COMMAND_LINE_SIZE = 256 };

struct line {
    struct text text;
    const struct settings *settings;
};

int64_t audit_now(void)
{
    return sys_monotonic();
}

/* ---- JSON ----------------------------------------------------------------------------------------------- */

static void append_key(struct line *line, const char *key)
{
    char last = line->text.length ? line->text.bytes[line->text.length - 1] : '{';
    if (last != '{' && last != '[') text_append(&line->text, ",");
    text_append(&line->text, "\"");
    text_append(&line->text, key);
    text_append(&line->text, "\":");
}

static void append_number(struct line *line, const char *key, long long number)
{
    append_key(line, key);
    text_append_number(&line->text, number);
}

static void append_truth(struct line *line, const char *key, bool value)
{
    append_key(line, key);
    text_append(&line->text, value ? "true" : "false");
}

static void append_string(struct line *line, const char *key, const char *bytes, size_t length)
{
    struct text *text = &line->text;
    bool valid = true;
    append_key(line, key);
    text_append(text, "\"");
    for (size_t i = 0; i < length;) {
        unsigned char byte = (unsigned char)bytes[i];
        size_t sequence = text_utf8_sequence(bytes + i, length - i);
        if (byte == '"' || byte == '\\') {
            text_append(text, byte == '"' ? "\\\"" : "\\\\");
        } else if (byte < 0x20 || byte == 0x7f) {
            text_append(text, "\\u00");
            text_append_hex(text, byte, 2);
        } else if (sequence) {
            text_append_bytes(text, bytes + i, sequence);
        } else {
            text_append(text, "\xef\xbf\xbd");
            valid = false;
        }
        i += sequence ? sequence : 1;
    }
    text_append(text, "\"");
    if (valid) return;
    char raw[32];
    struct text name = text_in(raw, sizeof raw);
    text_append(&name, key);
    text_append(&name, "_raw");
    append_key(line, raw);
    text_append(text, "[");
    for (size_t i = 0; i < length; i++) {
        if (i) text_append(text, ",");
        text_append_number(text, (unsigned char)bytes[i]);
    }
    text_append(text, "]");
}

static void append_word(struct line *line, const char *key, const char *word)
{
    append_string(line, key, word, strlen(word));
}

/* RFC 3339, UTC: the civil date from the days since 1970 (H. Hinnant's days_from_civil, turned round). */
static void append_time(struct line *line, const char *key, int64_t seconds, long microseconds)
{
    char buffer[40];
    struct text text = text_in(buffer, sizeof buffer);
    int64_t days = seconds / 86400;
    int64_t rest = seconds % 86400;
    int64_t shifted = days + 719468;
    int64_t era = shifted / 146097;
    int64_t day_of_era = shifted % 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    int64_t parts[6] = {year_of_era + era * 400 + (month >= 10),
                        month < 10 ? month + 3 : month - 9,
                        day_of_year - (153 * month + 2) / 5 + 1,
                        rest / 3600,
                        rest / 60 % 60,
                        rest % 60};
    for (int i = 0; i < 6; i++) {
        if (i) text_append(&text, i < 3 ? "-" : i == 3 ? "T" : ":");
        if (parts[i] < 10) text_append(&text, "0");
        text_append_number(&text, parts[i]);
    }
    text_append(&text, ".");
    for (long unit = 100000; unit > 0; unit /= 10) text_append_number(&text, microseconds / unit % 10);
    text_append(&text, "Z");
    append_word(line, key, buffer);
}

/* ---- the parts of every line ---------------------------------------------------------------------------- */

static ssize_t read_small(const char *path, char *bytes, size_t size)
{
    int descriptor = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return descriptor;
    ssize_t got = sys_read(descriptor, bytes, size);
    sys_close(descriptor);
    return got;
}

/* As in the records of holders.  start and mono_ns are times of this boot. */
static void append_boot(struct line *line, uint64_t boot)
{
    char digits[17];
    struct text text = text_in(digits, sizeof digits);
    text_append_hex(&text, boot, 16);
    append_word(line, "boot", digits);
}

static void append_process(struct line *line)
{
    char bytes[COMMAND_LINE_SIZE > 128 ? COMMAND_LINE_SIZE : 128];
    const struct process_identity *self = process_self();
    append_number(line, "pid", self->pid);
    append_number(line, "tid", sys_gettid());
    append_number(line, "ppid", sys_call(SYS_getppid, 0, 0, 0, 0, 0, 0));
    append_number(line, "start", (long long)self->start);
    if (self->boot) append_boot(line, self->boot);
    append_number(line, "uid", sys_geteuid());
    ssize_t got = read_small("/proc/self/comm", bytes, sizeof bytes);
    if (got > 0) append_string(line, "comm", bytes, (size_t)got - (bytes[got - 1] == '\n'));
    char exe[PATH_MAX];
    got = sys_readlinkat(AT_FDCWD, "/proc/self/exe", exe, sizeof exe);
    if (got > 0) append_string(line, "exe", exe, (size_t)got);
    got = read_small("/proc/self/cmdline", bytes, COMMAND_LINE_SIZE);
    if (got > 0) {
        size_t length = (size_t)got - (bytes[got - 1] == '\0');
        for (size_t i = 0; i < length; i++)
            if (bytes[i] == '\0') bytes[i] = ' ';
        append_string(line, "cmdline", bytes, length);
    }
}

static void append_image(struct line *line, const struct audit_image *image)
{
    char from_header[PATH_MAX];
    const char *path = image->path;
    if (!path && image->lock_descriptor >= 0 && record_read_header(image->lock_descriptor, from_header))
        path = from_header;
    if (path) append_word(line, "image", path);
    append_word(line, "lock", image->name->hex);
    if (!image->inode) return;
    char device[24];
    struct text text = text_in(device, sizeof device);
    /* As /proc/locks writes them, two digits at least. */
    text_append_hex(&text, major(image->device), major(image->device) > 0xff ? 3 : 2);
    text_append(&text, ":");
    text_append_hex(&text, minor(image->device), minor(image->device) > 0xff ? 5 : 2);
    append_word(line, "dev", device);
    append_number(line, "ino", (long long)image->inode);
}

/* "pid", "start", "comm", "uid" of a process by its number in /proc, which is not on record. */
static void append_other(struct line *line, pid_t pid)
{
    struct process_identity process = *process_self();
    uid_t user = (uid_t)-1;
    pid_t parent;
    char command[17];
    process.pid = pid;
    append_number(line, "pid", pid);
    if (!process_read_stat(pid, &process.start, &parent, command)) return;
    append_number(line, "start", (long long)process.start);
    append_word(line, "comm", command);
    if (process_look_at(&process, &user, command)) append_number(line, "uid", user);
}

/* Who is in the way and not on record. */
static void append_unrecorded(struct line *line, const struct audit_image *image)
{
    char bytes[256];
    const struct marker *marker = image->marker;
    const struct outsider *outsider = image->outsider;
    struct text has = text_in(bytes, sizeof bytes);
    if (line->text.bytes[line->text.length - 1] != '[') text_append(&line->text, ",");
    text_append(&line->text, "{");
    if (marker) {
        if (marker->pid) append_other(line, marker->pid);
        if (marker->pid) append_word(line, "mode", marker->writes || marker->exclusive ? "exclusive" : "shared");
        marker_append_has(&has, marker);
    } else {
        if (outsider->pid) append_other(line, outsider->pid);
        append_word(line, "mode", outsider->reads ? "shared" : "exclusive");
        if (outsider->kind == OUTSIDER_LOOP) append_number(line, "loop", outsider->loop);
        outsider_append_has(&has, outsider);
    }
    append_word(line, "has", bytes);
    text_append(&line->text, "}");
}

/* Who is in the way, as far as the records say. */
static void append_holders(struct line *line, const struct audit_image *image)
{
    struct holder holder;
    struct holders_walk walk = holders_begin(image->lock_descriptor);
    int named = 0;
    append_key(line, "holders");
    text_append(&line->text, "[");
    while (named < HOLDERS_NAMED && holders_walk(&walk, &holder)) {
        if (!holder.recorded || holder.mode < LOCK_SHARED) continue;
        if (named++) text_append(&line->text, ",");
        text_append(&line->text, "{");
        append_number(line, "pid", holder.process.pid);
        append_number(line, "start", (long long)holder.process.start);
        append_word(line, "comm", holder.process.command);
        append_number(line, "uid", record_user(&holder));
        append_word(line, "mode", policy_mode_name(holder.mode));
        append_time(line, "since", holder.since_ms / 1000, holder.since_ms % 1000 * 1000);
        append_word(line, "host", holder.process.host);
        text_append(&line->text, "}");
    }
    if (image->marker || image->outsider) append_unrecorded(line, image);
    text_append(&line->text, "]");
}

static void append_flags(struct line *line, int flags)
{
    static const struct {
        int bit;
        const char *name;
    } names[] = {{O_CREAT, "|O_CREAT"},   {O_EXCL, "|O_EXCL"},         {O_TRUNC, "|O_TRUNC"},
                 {O_APPEND, "|O_APPEND"}, {O_NONBLOCK, "|O_NONBLOCK"}, {O_DIRECT, "|O_DIRECT"},
                 {O_SYNC, "|O_SYNC"},     {O_CLOEXEC, "|O_CLOEXEC"}};
    char buffer[120];
    struct text text = text_in(buffer, sizeof buffer);
    int access = flags & O_ACCMODE;
    text_append(&text, access == O_RDONLY ? "O_RDONLY" : access == O_WRONLY ? "O_WRONLY" : "O_RDWR");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if ((flags & names[i].bit) == names[i].bit) text_append(&text, names[i].name);
    append_word(line, "flags", buffer);
}

static void append_result(struct line *line, int error)
{
    const char *name = error ? error_name(error) : NULL;
    append_word(line, "result", error ? "refused" : "let through");
    if (name) append_word(line, "errno", name);
}

/* ---- lines ---------------------------------------------------------------------------------------------- */

/* image: NULL where the line is about none. */
static bool start_line(struct line *line, const struct settings *settings, const char *event,
                       const struct audit_image *image)
{
    struct timespec now = {0};
    if (__builtin_expect(!settings->audit, 1)) return false;
    char *buffer = sys_mmap(LINE_SIZE);
    if (!buffer) return false;
    line->settings = settings;
    line->text = text_in(buffer, LINE_SIZE);
    sys_clock(CLOCK_REALTIME, &now);
    text_append(&line->text, "{");
    append_number(line, "v", 1);
    append_time(line, "time", now.tv_sec, now.tv_nsec / 1000);
    append_number(line, "mono_ns", audit_now());
    append_word(line, "event", event);
    append_process(line);
    if (image) append_image(line, image);
    return true;
}

/* Appends the line to the log.  Of one that the disk has no room for, the beginning may be written; the next line that
 * is goes with it, for a reader.  The program did not write it: neither a limit on the size of files (SIGXFSZ) nor a
 * pipe that nobody reads any more (SIGPIPE) may end the program for it. */
static void write_line(int descriptor, const char *bytes, size_t length)
{
    const sys_signals deadly = (sys_signals)1 << (SIGXFSZ - 1) | (sys_signals)1 << (SIGPIPE - 1);
    sys_signals before, pending;
    sys_sigmask(SIG_BLOCK, &deadly, &before);
    sys_sigpending(&pending);
    ssize_t written = sys_write(descriptor, bytes, length);
    const sys_signals sent = written == -EFBIG   ? (sys_signals)1 << (SIGXFSZ - 1)
                             : written == -EPIPE ? (sys_signals)1 << (SIGPIPE - 1)
                                                 : 0;
    if (sent && !(pending & sent)) sys_sigtake(&sent, NULL);
    sys_sigmask(SIG_SETMASK, &before, NULL);
}

static void end_line(struct line *line)
{
    /* What was cut is no JSON, but still one line. */
    if (line->text.length + 3 > line->text.size) line->text.length = line->text.size - 3;
    text_append(&line->text, "}\n");
    int descriptor = log_file_open(line->settings->audit, O_WRONLY | O_APPEND);
    if (descriptor >= 0) {
        write_line(descriptor, line->text.bytes, line->text.length);
        sys_close(descriptor);
    }
    sys_munmap(line->text.bytes, LINE_SIZE);
}

void audit_open(const struct settings *settings, const struct audit_image *image, int descriptor, int flags,
                enum lock_mode mode)
{
    struct line line;
    if (!start_line(&line, settings, "open", image)) return;
    append_number(&line, "fd", descriptor);
    append_flags(&line, flags);
    append_word(&line, "mode", policy_mode_name(mode));
    end_line(&line);
}

void audit_acquire(const struct settings *settings, const struct audit_image *image, enum lock_mode mode,
                   int64_t wait_ns, bool family)
{
    struct line line;
    if (!start_line(&line, settings, "acquire", image)) return;
    append_word(&line, "mode", policy_mode_name(mode));
    append_number(&line, "wait_ns", wait_ns);
    if (family) append_truth(&line, "family", true);
    end_line(&line);
}

void audit_convert(const struct settings *settings, const struct audit_image *image, enum lock_mode from,
                   enum lock_mode to)
{
    struct line line;
    if (!start_line(&line, settings, "convert", image)) return;
    append_word(&line, "from", policy_mode_name(from));
    append_word(&line, "mode", policy_mode_name(to));
    end_line(&line);
}

void audit_wait(const struct settings *settings, const struct audit_image *image, enum lock_mode mode)
{
    struct line line;
    if (!start_line(&line, settings, "wait", image)) return;
    append_word(&line, "mode", policy_mode_name(mode));
    append_holders(&line, image);
    end_line(&line);
}

void audit_conflict(const struct settings *settings, const struct audit_image *image, int flags, enum lock_mode wanted,
                    int error)
{
    struct line line;
    if (!start_line(&line, settings, "conflict", image)) return;
    append_word(&line, "mode", policy_mode_name(wanted));
    append_flags(&line, flags);
    append_result(&line, error);
    append_holders(&line, image);
    end_line(&line);
}

void audit_guard(const struct settings *settings, const struct audit_image *image, const char *operation, int error)
{
    struct line line;
    if (!start_line(&line, settings, "guard", image)) return;
    append_word(&line, "operation", operation);
    append_result(&line, error);
    append_holders(&line, image);
    end_line(&line);
}

void audit_problem(const struct settings *settings, const struct audit_image *image, const char *what, int cause,
                   int error)
{
    struct line line;
    if (!start_line(&line, settings, "error", image)) return;
    append_word(&line, "what", what);
    const char *name = cause ? error_name(cause) : NULL;
    if (name) append_word(&line, "cause", name);
    append_result(&line, error);
    end_line(&line);
}

void audit_release(const struct settings *settings, const struct audit_image *image, enum lock_mode mode, int64_t since)
{
    struct line line;
    if (!start_line(&line, settings, "release", image)) return;
    append_word(&line, "mode", policy_mode_name(mode));
    append_number(&line, "held_ns", audit_now() - since);
    if (mode < LOCK_SHARED) append_truth(&line, "unlocked", true);
    end_line(&line);
}

void audit_lost(const struct settings *settings, const struct audit_image *image, enum lock_mode mode, bool regained)
{
    struct line line;
    if (!start_line(&line, settings, "lost", image)) return;
    append_word(&line, "mode", policy_mode_name(mode));
    append_truth(&line, "regained", regained);
    if (!regained) append_holders(&line, image);
    end_line(&line);
}

void audit_unwatched(const struct settings *settings, const char *program, const char *why)
{
    struct line line;
    if (!start_line(&line, settings, "unwatched", NULL)) return;
    append_word(&line, "program", program);
    append_word(&line, "why", why);
    end_line(&line);
}

void audit_exit(const char *log, pid_t pid, uint64_t start)
{
    const struct settings settings = {.audit = log};
    struct line line;
    if (!start_line(&line, &settings, "exit", NULL)) return;
    append_number(&line, "about_pid", pid);
    append_number(&line, "about_start", (long long)start);
    end_line(&line);
}
