#include "policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#include "arguments.h"
#include "sys.h"
#include "text.h"

extern char **environ;

/* ---- values --------------------------------------------------------------------------------------------- */

struct choice {
    const char *name;
    int value;
};

static bool choose(const struct choice *choices, const char *value, size_t length, int *chosen)
{
    for (; choices->name; choices++)
        if (strlen(choices->name) == length && memcmp(choices->name, value, length) == 0) {
            *chosen = choices->value;
            return true;
        }
    return false;
}

static const struct choice modes[] = {{"auto", MODE_AUTO},
                                      {"shared", MODE_SHARED},
                                      {"exclusive", MODE_EXCLUSIVE},
                                      {"nolock", MODE_NOLOCK},
                                      {"force-share", MODE_FORCE_SHARE},
                                      {"inactive", MODE_INACTIVE},
                                      {0}};
#define MODES_TEXT "auto, shared, exclusive, nolock, force-share or inactive"

static const struct choice conflict_answers[] = {
    {"deny", CONFLICT_DENY}, {"read-only", CONFLICT_READ_ONLY}, {"warn", CONFLICT_WARN}, {0}};
static const struct choice error_answers[] = {{"deny", false}, {"allow", true}, {0}};
static const struct choice switches[] = {{"on", true}, {"off", false}, {0}};
static const struct choice keys[] = {{"path", false}, {"inode", true}, {0}};
static const struct choice levels[] = {{"conflicts", LOG_CONFLICTS}, {"quiet", LOG_QUIET}, {"debug", LOG_DEBUG}, {0}};
static const struct choice guards[] = {
    {"truncate", OPERATION_TRUNCATE}, {"unlink", OPERATION_UNLINK}, {"rename", OPERATION_RENAME}, {0}};
static const struct choice operations[] = {{"write", OPERATION_WRITE},   {"truncate", OPERATION_TRUNCATE},
                                           {"resize", OPERATION_RESIZE}, {"rename", OPERATION_RENAME},
                                           {"unlink", OPERATION_UNLINK}, {0}};
/* Names that a refused open may return.  Measured: on EBUSY and EAGAIN losetup and mount -o loop retry for
 * ever, on EACCES and EROFS six tools fall back to reading in silence.  All stay possible: the user knows the
 * program. */
static const struct choice errnos[] = {{"ETXTBSY", ETXTBSY},
                                       {"EBUSY", EBUSY},
                                       {"EAGAIN", EAGAIN},
                                       {"EACCES", EACCES},
                                       {"EPERM", EPERM},
                                       {"EROFS", EROFS},
                                       {"EIO", EIO},
                                       {"ENOLCK", ENOLCK},
                                       {"EDEADLK", EDEADLK},
                                       {"ENXIO", ENXIO},
                                       {0}};

/* Seconds with an optional fraction of up to nine digits, or "forever", into nanoseconds. */
static bool parse_wait(const char *value, int64_t *wait_ns)
{
    if (strcmp(value, "forever") == 0) {
        *wait_ns = WAIT_FOREVER;
        return true;
    }
    uint64_t seconds = 0;
    const char *at = value;
    bool whole = text_parse_number(&at, &seconds);
    if (seconds > 1000000000) return false;
    uint64_t fraction = 0;
    if (*at == '.') {
        const char *start = ++at;
        uint64_t unit = 100000000;
        for (; *at >= '0' && *at <= '9'; at++, unit /= 10) fraction += (uint64_t)(*at - '0') * unit;
        if (at == start || at - start > 9) return false;
        whole = true;
    }
    if (!whole || *at) return false;
    *wait_ns = (int64_t)(seconds * 1000000000 + fraction);
    return true;
}

/* Names separated by commas; each bit is the choice's value. */
static bool choose_several(const struct choice *choices, const char *value, unsigned *chosen)
{
    *chosen = 0;
    for (const char *at = value;; at++) {
        const char *end = at + strcspn(at, ",");
        int one;
        if (!choose(choices, at, (size_t)(end - at), &one)) return false;
        *chosen |= 1u << one;
        if (!*end) return true;
        at = end;
    }
}

static bool parse_guard(const char *value, unsigned *guard)
{
    *guard = 0;
    return strcmp(value, "none") == 0 || choose_several(guards, value, guard);
}

bool policy_parse_operations(const char *value, unsigned *chosen)
{
    return choose_several(operations, value, chosen);
}

/* conflicts|quiet|debug and stderr|syslog|/file, in any order, separated by a comma; a file name may hold
 * further commas. */
static bool parse_log(const char *value, struct settings *settings)
{
    bool level_given = false;
    for (const char *at = value;;) {
        if (*at == '/') {
            settings->log_target = LOG_TO_FILE;
            settings->log_file = at;
            return true;
        }
        const char *end = at + strcspn(at, ",");
        size_t length = (size_t)(end - at);
        int level;
        if (!level_given && choose(levels, at, length, &level)) {
            settings->log_level = (enum log_level)level;
            level_given = true;
        } else if (length == 6 && memcmp(at, "stderr", 6) == 0) {
            settings->log_target = LOG_TO_STDERR;
        } else if (length == 6 && memcmp(at, "syslog", 6) == 0) {
            settings->log_target = LOG_TO_SYSLOG;
        } else {
            return false;
        }
        if (!*end) return true;
        at = end + 1;
    }
}

/* The end of a rule or image entry: the next colon that no backslash quotes. */
static const char *entry_end(const char *at)
{
    while (*at && *at != ':') at += *at == '\\' && at[1] ? 2 : 1;
    return at;
}

/* The = that separates glob and mode: the last one of the entry, so that a glob may hold others. */
static const char *rule_separator(const char *start, const char *end)
{
    for (const char *at = end; at-- > start;)
        if (*at == '=') return at;
    return NULL;
}

/* Is this glob, up to its separator, given a mode once more before the value's end, and another one? */
static bool contradicted(const char *glob, const char *separator, const char *end)
{
    size_t length = (size_t)(separator - glob);
    for (const char *at = end; *at;) {
        const char *next = entry_end(++at);
        const char *other = rule_separator(at, next);
        if (other && (size_t)(other - at) == length && memcmp(at, glob, length) == 0 &&
            (next - other != end - separator || memcmp(other, separator, (size_t)(end - separator)) != 0))
            return true;
        at = next;
    }
    return false;
}

static bool valid_rules(const char *value)
{
    for (const char *at = value;;) {
        const char *end = entry_end(at);
        const char *separator = rule_separator(at, end);
        int mode;
        if (!separator || separator == at || !choose(modes, separator + 1, (size_t)(end - separator - 1), &mode))
            return false;
        if (contradicted(at, separator, end)) return false;
        if (!*end) return true;
        at = end + 1;
    }
}

static bool valid_images(const char *value)
{
    for (const char *at = value;;) {
        const char *end = entry_end(at);
        if ((*at != '+' && *at != '-') || end == at + 1) return false;
        if (!*end) return true;
        at = end + 1;
    }
}

/* ---- variables ------------------------------------------------------------------------------------------ */

/* The longest directory leaves room for "/.qemu-", 40 digits and ".lock" in a path. */
enum { DIRECTORY_MAX = 3072 };

enum variable {
    VARIABLE_MODE,
    VARIABLE_RULES,
    VARIABLE_WAIT,
    VARIABLE_ON_CONFLICT,
    VARIABLE_ON_ERROR,
    VARIABLE_ERRNO,
    VARIABLE_GUARD,
    VARIABLE_FAMILY,
    VARIABLE_DIR,
    VARIABLE_IMAGES,
    VARIABLE_KEY,
    VARIABLE_MAGIC,
    VARIABLE_LOG,
    VARIABLE_BLOCK,
    VARIABLE_REASON,
    VARIABLE_AUDIT,
    VARIABLES
};

static const struct {
    const char *name;
    const char *expects;
} variables[VARIABLES] = {
    [VARIABLE_MODE] = {"IMGLOCK_MODE", MODES_TEXT},
    [VARIABLE_RULES] = {"IMGLOCK_RULES", "GLOB=MODE[:GLOB=MODE...], no GLOB with two modes, MODE being " MODES_TEXT},
    [VARIABLE_WAIT] = {"IMGLOCK_WAIT", "seconds, with a fraction if need be, or forever"},
    [VARIABLE_ON_CONFLICT] = {"IMGLOCK_ON_CONFLICT", "deny, read-only or warn"},
    [VARIABLE_ON_ERROR] = {"IMGLOCK_ON_ERROR", "deny or allow"},
    [VARIABLE_ERRNO] = {"IMGLOCK_ERRNO", "ETXTBSY, EBUSY, EAGAIN, EACCES, EPERM, EROFS, EIO, ENOLCK, EDEADLK or ENXIO"},
    [VARIABLE_GUARD] = {"IMGLOCK_GUARD", "none, or any of truncate,unlink,rename"},
    [VARIABLE_FAMILY] = {"IMGLOCK_FAMILY", "on or off"},
    [VARIABLE_DIR] = {"IMGLOCK_DIR", "an absolute path of at most 3072 bytes"},
    [VARIABLE_IMAGES] = {"IMGLOCK_IMAGES", "+GLOB and -GLOB, separated by colons"},
    [VARIABLE_KEY] = {"IMGLOCK_KEY", "path or inode"},
    [VARIABLE_MAGIC] = {"IMGLOCK_MAGIC", "on or off"},
    [VARIABLE_LOG] = {"IMGLOCK_LOG", "conflicts, quiet or debug, then stderr, syslog or a file's absolute path"},
    [VARIABLE_BLOCK] = {"IMGLOCK_BLOCK", "any of write,truncate,resize,rename,unlink"},
    [VARIABLE_REASON] = {"IMGLOCK_REASON", "a text"},
    [VARIABLE_AUDIT] = {"IMGLOCK_AUDIT", "a file's absolute path"},
};

/* Takes one value in; false when it makes no sense. */
static bool apply(struct settings *settings, enum variable variable, const char *value)
{
    int chosen = 0;
    size_t length = strlen(value);
    switch (variable) {
    case VARIABLE_MODE:
        if (!choose(modes, value, length, &chosen)) return false;
        settings->mode = (enum open_mode)chosen;
        return true;
    case VARIABLE_RULES:
        if (!valid_rules(value)) return false;
        settings->rules = value;
        return true;
    case VARIABLE_WAIT:
        return parse_wait(value, &settings->wait_ns);
    case VARIABLE_ON_CONFLICT:
        if (!choose(conflict_answers, value, length, &chosen)) return false;
        settings->on_conflict = (enum conflict_answer)chosen;
        return true;
    case VARIABLE_ON_ERROR:
        if (!choose(error_answers, value, length, &chosen)) return false;
        settings->allow_on_error = chosen;
        return true;
    case VARIABLE_ERRNO:
        return choose(errnos, value, length, &settings->refusal_errno);
    case VARIABLE_GUARD:
        return parse_guard(value, &settings->guard);
    case VARIABLE_FAMILY:
        if (!choose(switches, value, length, &chosen)) return false;
        settings->family = chosen;
        return true;
    case VARIABLE_DIR:
        settings->directory = value;
        return value[0] == '/' && length <= DIRECTORY_MAX;
    case VARIABLE_IMAGES:
        if (!valid_images(value)) return false;
        settings->images = value;
        return true;
    case VARIABLE_KEY:
        if (!choose(keys, value, length, &chosen)) return false;
        settings->key_inode = chosen;
        return true;
    case VARIABLE_MAGIC:
        if (!choose(switches, value, length, &chosen)) return false;
        settings->magic = chosen;
        return true;
    case VARIABLE_LOG: {
        struct settings parsed = *settings;
        if (!parse_log(value, &parsed)) return false;
        *settings = parsed;
        return true;
    }
    case VARIABLE_AUDIT:
        settings->audit = value;
        return value[0] == '/';
    case VARIABLE_BLOCK:
        return policy_parse_operations(value, &settings->block);
    case VARIABLE_REASON:
        settings->reason = value;
        return true;
    case VARIABLES:
        break;
    }
    return false;
}

/* Which variable an environment entry sets, and where its value starts.  Names that are not in the table are
 * somebody else's, or ours from a later version: a preset may name them. */
static enum variable variable_of(const char *entry, const char **value)
{
    /* The letter first: of every variable of every process this is asked. */
    if (*entry != 'I' || strncmp(entry, "IMGLOCK_", 8) != 0) return VARIABLES;
    for (unsigned i = 0; i < VARIABLES; i++) {
        size_t length = strlen(variables[i].name);
        if (strncmp(entry, variables[i].name, length) == 0 && entry[length] == '=') {
            *value = entry + length + 1;
            return (enum variable)i;
        }
    }
    return VARIABLES;
}

/* An audit refuses nothing and says nothing unless it is told to. */
static void audit_defaults(struct settings *settings)
{
    settings->on_conflict = CONFLICT_WARN;
    settings->allow_on_error = true;
    settings->log_level = LOG_QUIET;
}

/* Settings that make sense alone and none together.  The line names the one that gives way to the mode. */
static void find_contradiction(struct settings *settings, const char *const values[])
{
    static const char *const with_read_only[] = {
        [MODE_SHARED] = NULL,
        [MODE_EXCLUSIVE] = "deny or warn with IMGLOCK_MODE=exclusive, in which a reader is no way out",
        [MODE_NOLOCK] = "deny or warn with IMGLOCK_MODE=nolock, in which nothing conflicts",
        [MODE_FORCE_SHARE] = "deny or warn with IMGLOCK_MODE=force-share, in which opens for writing are refused",
        [MODE_INACTIVE] = "deny or warn with IMGLOCK_MODE=inactive, in which nothing conflicts",
    };
    static const char *const with_block[] = {
        [MODE_NOLOCK] = "no value with IMGLOCK_MODE=nolock: only a holder blocks operations",
        [MODE_FORCE_SHARE] = "no value with IMGLOCK_MODE=force-share: only a holder blocks operations",
        [MODE_INACTIVE] = "no value with IMGLOCK_MODE=inactive: only a holder blocks operations",
    };
    const char *expects = settings->on_conflict == CONFLICT_READ_ONLY ? with_read_only[settings->mode] : NULL;
    enum variable variable = VARIABLE_ON_CONFLICT;
    if (!expects && settings->block) {
        expects = with_block[settings->mode];
        variable = VARIABLE_BLOCK;
    }
    if (!expects || settings->bad_variable) return;
    settings->bad_variable = variables[variable].name;
    settings->bad_value = values[variable];
    settings->bad_expects = expects;
}

/* Where the values are copied to.  Those of the process, of which there is one, seldom need a page of their own. */
static char *room_for(size_t needed, const struct settings *settings)
{
    static char process_values[512];
    if (settings == &policy_process && needed <= sizeof process_values) return process_values;
    return sys_mmap(needed);
}

bool policy_parse(char *const *environment, struct settings *settings, bool copy)
{
    *settings = (struct settings){
        .mode = MODE_AUTO,
        .on_conflict = CONFLICT_DENY,
        .refusal_errno = ETXTBSY,
        .guard = 1u << OPERATION_TRUNCATE | 1u << OPERATION_UNLINK | 1u << OPERATION_RENAME,
        .magic = true,
        .family = true,
        .log_level = LOG_CONFLICTS,
        .log_target = LOG_TO_STDERR,
        .directory = "/var/tmp",
    };
    const char *value;
    size_t needed = 0;
    for (char *const *entry = environment; entry && *entry; entry++) switch (variable_of(*entry, &value)) {
        case VARIABLES:
            break;
        case VARIABLE_AUDIT:
            if (*value) audit_defaults(settings);
            __attribute__((fallthrough));
        default:
            needed += strlen(value) + 1;
        }
    if (!needed) return true;
    char *storage = copy ? room_for(needed, settings) : NULL;
    if (copy && !storage) {
        settings->bad_variable = "IMGLOCK_*";
        settings->bad_value = "";
        settings->bad_expects = "memory for a copy of the settings, and there is none";
        return false;
    }
    const char *values[VARIABLES] = {0};
    for (char *const *entry = environment; *entry; entry++) {
        enum variable variable = variable_of(*entry, &value);
        if (variable == VARIABLES) continue;
        if (copy) {
            size_t size = strlen(value) + 1;
            value = memcpy(storage, value, size);
            storage += size;
        }
        values[variable] = value;
        /* An empty value is an unset one, as for most programs: "IMGLOCK_RULES= imglock ..." */
        if (*value && !apply(settings, variable, value) && !settings->bad_variable) {
            settings->bad_variable = variables[variable].name;
            settings->bad_value = value;
            settings->bad_expects = variables[variable].expects;
        }
    }
    find_contradiction(settings, values);
    /* Quiet as an audit is, a setting that makes no sense is never ignored. */
    if (settings->bad_variable && settings->audit) {
        settings->allow_on_error = false;
        settings->log_level = LOG_CONFLICTS;
    }
    return !settings->bad_variable;
}

/* ---- the process's settings ----------------------------------------------------------------------------- */

struct settings policy_process;
_Atomic int policy_state = POLICY_UNREAD;

const struct settings *policy_read(void)
{
    /* Before libc has initialised itself there is no environment yet; only a library that is linked with -z initfirst
     * can open a file then.  It gets the defaults, and the next call asks again. */
    static struct settings defaults;
    static const struct settings off = {.off = true};
    /* Whoever starts a set-user-ID program chooses its environment. */
    if (getauxval(AT_SECURE)) return &off;
    if (!environ) {
        policy_parse(NULL, &defaults, false);
        return &defaults;
    }
    /* Two threads, or a thread and its signal handler, may both come here first.  Each parses on its own
     * stack; one publishes.  A handler that interrupts the publisher must not wait for it, so it returns its
     * own parse: equal content, in storage that is never freed. */
    int expected = POLICY_UNREAD;
    if (atomic_compare_exchange_strong(&policy_state, &expected, POLICY_READING)) {
        policy_parse(environ, &policy_process, true);
        policy_process.force_share = arguments_force_share();
        atomic_store(&policy_state, POLICY_READ);
        return &policy_process;
    }
    if (expected == POLICY_READ) return &policy_process;
    struct settings *own = sys_mmap(sizeof *own);
    if (!own) return &policy_process;
    policy_parse(environ, own, true);
    own->force_share = arguments_force_share();
    return own;
}

/* ---- questions about one open --------------------------------------------------------------------------- */

/* The mode that IMGLOCK_RULES gives this path, else IMGLOCK_MODE. */
static enum open_mode mode_for(const struct settings *settings, const char *real_path)
{
    for (const char *at = settings->rules; at && *at;) {
        const char *end = entry_end(at);
        const char *separator = rule_separator(at, end);
        int mode;
        if (separator && text_glob(at, separator, real_path) &&
            choose(modes, separator + 1, (size_t)(end - separator - 1), &mode))
            return (enum open_mode)mode;
        at = *end ? end + 1 : end;
    }
    return settings->mode;
}

bool policy_ignores(const struct settings *settings, const char *real_path)
{
    return mode_for(settings, real_path) == MODE_NOLOCK;
}

struct policy_decision policy_decide(const struct settings *settings, const char *real_path, int flags, bool existing)
{
    bool reads = (flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC);
    switch (mode_for(settings, real_path)) {
    case MODE_SHARED:
        return (struct policy_decision){.locked = true, .mode = LOCK_SHARED};
    case MODE_EXCLUSIVE:
        return (struct policy_decision){.locked = true, .mode = LOCK_EXCLUSIVE, .insists = true};
    case MODE_NOLOCK:
        return (struct policy_decision){0};
    case MODE_FORCE_SHARE:
        return (struct policy_decision){.locked = true,
                                        .mode = LOCK_FORCE_SHARE,
                                        .refusal = reads ? NULL : "mode force-share is for reading beside a writer"};
    case MODE_INACTIVE:
        return (struct policy_decision){
            .locked = true,
            .mode = LOCK_INACTIVE,
            .refusal = flags & O_TRUNC && existing ? "this process is inactive and holds no lock" : NULL};
    case MODE_AUTO:
        break;
    }
    enum lock_mode reading = settings->force_share ? LOCK_FORCE_SHARE : LOCK_SHARED;
    return (struct policy_decision){.locked = true, .mode = reads ? reading : LOCK_EXCLUSIVE};
}

bool policy_may_degrade(const struct settings *settings, int flags)
{
    return settings->on_conflict == CONFLICT_READ_ONLY && (flags & O_ACCMODE) == O_RDWR &&
           !(flags & (O_TRUNC | O_APPEND | O_EXCL));
}

int policy_names_image(const struct settings *settings, const char *real_path)
{
    int answer = 0;
    for (const char *at = settings->images; at && *at;) {
        const char *end = entry_end(at);
        if (text_glob(at + 1, end, real_path)) answer = *at == '+' ? 1 : -1;
        at = *end ? end + 1 : end;
    }
    return answer;
}

const char *policy_mode_name(enum lock_mode mode)
{
    static const char *const names[] = {[LOCK_NONE] = "none",
                                        [LOCK_FORCE_SHARE] = "force-share",
                                        [LOCK_INACTIVE] = "inactive",
                                        [LOCK_SHARED] = "shared",
                                        [LOCK_EXCLUSIVE] = "exclusive"};
    return names[mode];
}

const char *policy_operation_name(enum operation operation)
{
    return operations[operation].name;
}
