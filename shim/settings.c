#include "settings.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>

#include "sys.h"
#include "text.h"

extern char **environ;

/* ---- words ---------------------------------------------------------------------------------------------- */

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

/* The words of each row that takes one: words_MODE and so on. */
#define FIRST(word, value) {word, value},
#define NEXT(word, value) {word, value},
#define LAST(word, value) {word, value},
#define WORD(name, field, words, meaning) static const struct choice words_##name[] = {words{0}};
#include "settings.def"

static const struct choice levels[] = {{"conflicts", LOG_CONFLICTS}, {"quiet", LOG_QUIET}, {"debug", LOG_DEBUG}, {0}};
static const struct choice targets[] = {
    {"stderr", LOG_TO_STDERR}, {"notify", LOG_TO_DESKTOP}, {"syslog", LOG_TO_SYSLOG}, {0}};
static const struct choice guards[] = {
    {"truncate", OPERATION_TRUNCATE}, {"unlink", OPERATION_UNLINK}, {"rename", OPERATION_RENAME}, {0}};
static const struct choice operations[] = {{"write", OPERATION_WRITE},   {"truncate", OPERATION_TRUNCATE},
                                           {"resize", OPERATION_RESIZE}, {"rename", OPERATION_RENAME},
                                           {"unlink", OPERATION_UNLINK}, {0}};

/* ---- values --------------------------------------------------------------------------------------------- */

/* Seconds with an optional fraction of up to nine digits, or "forever", into nanoseconds. */
static bool parse_wait(const char *value, struct settings *settings)
{
    if (strcmp(value, "forever") == 0) {
        settings->wait_ns = WAIT_FOREVER;
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
    settings->wait_ns = (int64_t)(seconds * 1000000000 + fraction);
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

bool settings_parse_operations(const char *value, unsigned *chosen)
{
    return choose_several(operations, value, chosen);
}

const char *settings_operation_name(enum operation operation)
{
    return operations[operation].name;
}

static bool parse_block(const char *value, struct settings *settings)
{
    return settings_parse_operations(value, &settings->block);
}

static bool parse_guard(const char *value, struct settings *settings)
{
    settings->guard = 0;
    return strcmp(value, "none") == 0 || choose_several(guards, value, &settings->guard);
}

/* The longest directory leaves room for "/.qemu-", 40 digits and ".lock" in a path. */
static bool parse_directory(const char *value, struct settings *settings)
{
    enum { DIRECTORY_MAX = 3072 };
    if (value[0] != '/' || strlen(value) > DIRECTORY_MAX) return false;
    settings->directory = value;
    return true;
}

static bool parse_reason(const char *value, struct settings *settings)
{
    settings->reason = value;
    return true;
}

static bool parse_audit(const char *value, struct settings *settings)
{
    if (value[0] != '/') return false;
    settings->audit = value;
    return true;
}

/* conflicts|quiet|debug and stderr|notify|syslog|/file, in any order, separated by a comma; a file name may hold
 * further commas.  A value that makes no sense changes nothing: the refusal is told where lines go by default. */
static bool parse_log(const char *value, struct settings *settings)
{
    int level = (int)settings->log_level, target = (int)settings->log_target;
    const char *file = NULL;
    bool level_given = false;
    for (const char *at = value, *end; !file; at = end + 1) {
        end = at + strcspn(at, ",");
        size_t length = (size_t)(end - at);
        if (*at == '/')
            file = at;
        else if (!level_given && choose(levels, at, length, &level))
            level_given = true;
        else if (!choose(targets, at, length, &target))
            return false;
        if (!*end) break;
    }
    settings->log_level = (enum log_level)level;
    settings->log_target = file ? LOG_TO_FILE : (enum log_target)target;
    settings->log_file = file;
    return true;
}

/* ---- rules and names of images -------------------------------------------------------------------------- */

/* The end of a rule or image entry: the next colon that no backslash quotes, and that is not the one of gluster://. */
static const char *entry_end(const char *at)
{
    while (*at && (*at != ':' || (at[1] == '/' && at[2] == '/'))) at += *at == '\\' && at[1] ? 2 : 1;
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

bool settings_next_rule(const char **at, struct rule *rule)
{
    if (!*at) return false;
    const char *end = entry_end(*at);
    const char *separator = rule_separator(*at, end);
    int mode;
    if (!separator || separator == *at || !choose(words_MODE, separator + 1, (size_t)(end - separator - 1), &mode))
        return false;
    *rule = (struct rule){*at, separator, (enum open_mode)mode};
    *at = *end ? end + 1 : NULL;
    return true;
}

bool settings_next_image_name(const char **at, struct image_name *name)
{
    if (!*at) return false;
    const char *end = entry_end(*at);
    if ((**at != '+' && **at != '-') || end == *at + 1) return false;
    *name = (struct image_name){*at + 1, end, **at == '+'};
    *at = *end ? end + 1 : NULL;
    return true;
}

static bool parse_rules(const char *value, struct settings *settings)
{
    struct rule rule;
    const char *at = value;
    while (settings_next_rule(&at, &rule))
        if (contradicted(rule.glob, rule.glob_end, entry_end(rule.glob_end))) return false;
    settings->rules = at ? NULL : value;
    return !at;
}

static bool parse_images(const char *value, struct settings *settings)
{
    struct image_name name;
    const char *at = value;
    while (settings_next_image_name(&at, &name)) continue;
    settings->images = at ? NULL : value;
    return !at;
}

/* ---- one setting ---------------------------------------------------------------------------------------- */

enum setting {
#define WORD(name, field, words, meaning) SETTING_##name,
#define VALUE(name, parse, takes, values, meaning) SETTING_##name,
#include "settings.def"
    SETTINGS
};

static const struct {
    const char *name;
    const char *takes;
} table[SETTINGS] = {
#define FIRST(word, value) word
#define NEXT(word, value) ", " word
#define LAST(word, value) " or " word
#define WORD(name, field, words, meaning) {"IMGLOCK_" #name, words},
#define VALUE(name, parse, takes, values, meaning) {"IMGLOCK_" #name, takes},
#include "settings.def"
};

static void set_defaults(struct settings *settings)
{
    *settings = (struct settings){
#define FIRST(word, value) value
#define NEXT(word, value)
#define LAST(word, value)
#define WORD(name, field, words, meaning) .field = words,
#include "settings.def"
        .guard = 1u << OPERATION_TRUNCATE | 1u << OPERATION_UNLINK | 1u << OPERATION_RENAME,
        .log_level = LOG_CONFLICTS,
        .log_target = LOG_TO_STDERR,
        .directory = "/var/tmp",
    };
}

/* An audit refuses nothing and says nothing unless it is told to. */
static void set_audit_defaults(struct settings *settings)
{
    settings->on_conflict = CONFLICT_WARN;
    settings->outsiders = OUTSIDERS_WARN;
    settings->allow_on_error = true;
    settings->log_level = LOG_QUIET;
}

/* Takes one value in; false when it makes no sense. */
static bool take(enum setting setting, const char *value, struct settings *settings)
{
    int chosen;
    switch (setting) {
#define WORD(name, member, words, meaning)                                      \
    case SETTING_##name:                                                        \
        if (!choose(words_##name, value, strlen(value), &chosen)) return false; \
        settings->member = (__typeof__(settings->member))chosen;                \
        return true;
#define VALUE(name, parse, takes, values, meaning) \
    case SETTING_##name:                           \
        return parse(value, settings);
#include "settings.def"
    case SETTINGS:
        break;
    }
    return false;
}

/* ---- all of them ---------------------------------------------------------------------------------------- */

/* Which setting an environment entry gives, and where its value starts.  Names that are not in the table are somebody
 * else's, or ours from a later version: a preset may name them. */
static enum setting setting_of(const char *entry, const char **value)
{
    /* The letter first: of every variable of every process this is asked. */
    if (*entry != 'I' || strncmp(entry, "IMGLOCK_", 8) != 0) return SETTINGS;
    for (unsigned i = 0; i < SETTINGS; i++) {
        size_t length = strlen(table[i].name);
        if (strncmp(entry, table[i].name, length) == 0 && entry[length] == '=') {
            *value = entry + length + 1;
            return (enum setting)i;
        }
    }
    return SETTINGS;
}

/* The values, NULL where there is none; of two the first counts, as for getenv(3).  An empty one is an unset one, as
 * for most programs: "IMGLOCK_RULES= imglock ...".  Returns what a copy of them takes. */
static size_t find_values(char *const *environment, const char *values[SETTINGS])
{
    size_t size = 0;
    const char *value;
    for (char *const *entry = environment; entry && *entry; entry++) {
        enum setting setting = setting_of(*entry, &value);
        if (setting == SETTINGS || values[setting]) continue;
        values[setting] = value;
        if (*value) size += strlen(value) + 1;
    }
    for (unsigned i = 0; i < SETTINGS; i++)
        if (values[i] && !*values[i]) values[i] = NULL;
    return size;
}

/* Those of the process, of which there is one, seldom need a page of their own. */
static bool copy_values(const char *values[SETTINGS], size_t size, const struct settings *settings)
{
    static char of_process[512];
    char *room = settings == &settings_of_process && size <= sizeof of_process ? of_process : sys_mmap(size);
    if (!room) return false;
    for (unsigned i = 0; i < SETTINGS; i++) {
        if (!values[i]) continue;
        size_t length = strlen(values[i]) + 1;
        values[i] = memcpy(room, values[i], length);
        room += length;
    }
    return true;
}

/* The first that makes no sense is the one that is told. */
static void note_bad(struct settings *settings, const char *variable, const char *value, const char *expects)
{
    if (settings->bad_variable) return;
    settings->bad_variable = variable;
    settings->bad_value = value;
    settings->bad_expects = expects;
}

/* Settings that make sense alone and none together.  The line names the one that gives way to the mode. */
static void find_contradiction(struct settings *settings, const char *const values[SETTINGS])
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
    enum setting setting = expects ? SETTING_ON_CONFLICT : SETTING_BLOCK;
    if (!expects && settings->block) expects = with_block[settings->mode];
    if (expects) note_bad(settings, table[setting].name, values[setting], expects);
}

bool settings_parse(char *const *environment, struct settings *settings, bool copy)
{
    const char *values[SETTINGS] = {0};
    size_t size = find_values(environment, values);
    bool audit = values[SETTING_AUDIT];
    set_defaults(settings);
    if (!size) return true;
    if (copy && !copy_values(values, size, settings)) {
        note_bad(settings, "IMGLOCK_*", "", "memory for a copy of the settings, and there is none");
        return false;
    }
    if (audit) set_audit_defaults(settings);
    for (unsigned i = 0; i < SETTINGS; i++)
        if (values[i] && !take((enum setting)i, values[i], settings))
            note_bad(settings, table[i].name, values[i], table[i].takes);
    find_contradiction(settings, values);
    if (!settings->bad_variable) return true;
    /* Quiet as an audit is by default, a setting that makes no sense is not ignored. */
    if (audit && !values[SETTING_ON_ERROR]) settings->allow_on_error = false;
    if (audit && !values[SETTING_LOG]) settings->log_level = LOG_CONFLICTS;
    return false;
}

/* ---- the process's settings ----------------------------------------------------------------------------- */

struct settings settings_of_process;
_Atomic int settings_state = SETTINGS_UNREAD;

const struct settings *settings_get_first(void)
{
    /* Before libc has initialised itself there is no environment yet; only a library that is linked with -z initfirst
     * can open a file then.  It gets the defaults, and the next call asks again. */
    static struct settings defaults;
    static const struct settings off = {.off = true};
    /* Whoever starts a set-user-ID program chooses its environment. */
    if (getauxval(AT_SECURE)) return &off;
    if (!environ) {
        settings_parse(NULL, &defaults, false);
        return &defaults;
    }
    /* Two threads, or a thread and its signal handler, may both come here first.  Each parses on its own
     * stack; one publishes.  A handler that interrupts the publisher must not wait for it, so it returns its
     * own parse: equal content, in storage that is never freed. */
    int expected = SETTINGS_UNREAD;
    if (atomic_compare_exchange_strong(&settings_state, &expected, SETTINGS_READING)) {
        settings_parse(environ, &settings_of_process, true);
        settings_of_process.sharing = arguments_sharing();
        atomic_store(&settings_state, SETTINGS_READ);
        return &settings_of_process;
    }
    if (expected == SETTINGS_READ) return &settings_of_process;
    struct settings *own = sys_mmap(sizeof *own);
    if (!own) return &settings_of_process;
    settings_parse(environ, own, true);
    own->sharing = arguments_sharing();
    return own;
}
