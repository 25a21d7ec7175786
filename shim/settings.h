/* settings.h: IMGLOCK_* from the environment, as values.
 *
 * Settings come from the environment alone, libimglock(7).  They are copied out of it once, since programs overwrite,
 * clear and free their environment later.  The table is settings.def.  Everything here is async-signal-safe and leaves
 * errno alone. */
#ifndef IMGLOCK_SETTINGS_H
#define IMGLOCK_SETTINGS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arguments.h"
#include "protocol.h"

enum open_mode { /* IMGLOCK_MODE and the right-hand side of IMGLOCK_RULES */
                 MODE_AUTO,
                 MODE_SHARED,
                 MODE_EXCLUSIVE,
                 MODE_NOLOCK,
                 MODE_FORCE_SHARE,
                 MODE_INACTIVE,
};

enum conflict_answer { CONFLICT_DENY, CONFLICT_READ_ONLY, CONFLICT_WARN };
enum outsiders_answer { OUTSIDERS_DENY, OUTSIDERS_WARN, OUTSIDERS_IGNORE };
enum io_uring_answer { IO_URING_RESTRICT, IO_URING_OFF, IO_URING_ALLOW };

enum log_level { LOG_QUIET, LOG_CONFLICTS, LOG_DEBUG };
/* LOG_TO_DESKTOP: standard error, of which the command, never the library, makes notifications besides. */
enum log_target { LOG_TO_STDERR, LOG_TO_DESKTOP, LOG_TO_SYSLOG, LOG_TO_FILE };

#define WAIT_FOREVER INT64_MAX

struct settings {
    bool off; /* the process is set-user-ID or the like (AT_SECURE): every call is passed on */
    enum open_mode mode;
    enum conflict_answer on_conflict;
    enum outsiders_answer outsiders; /* what a process outside imglock that has the image open means */
    enum io_uring_answer io_uring;   /* what a program may do by io_uring */
    int64_t wait_ns;                 /* 0: refuse at once; WAIT_FOREVER */
    int refusal_errno;               /* what a refused open returns */
    unsigned guard;                  /* 1 << enum operation, each: what counts as writing */
    bool allow_on_error;             /* IMGLOCK_ON_ERROR=allow */
    bool fail_on_lost;               /* IMGLOCK_ON_LOST=fail */
    bool magic;                      /* look at headers */
    bool key_inode;                  /* a second lock by device and inode */
    bool family;                     /* descendants are let past */
    enum arguments_sharing sharing;  /* what the program's own arguments say: reads go through beside a writer */
    unsigned block;     /* 1 << enum operation, each: what others may not do to the images that this process holds */
    const char *reason; /* why, in the user's words; or NULL */
    enum log_level log_level;
    enum log_target log_target;
    const char *log_file;  /* for LOG_TO_FILE */
    const char *directory; /* of the lock files, absolute */
    const char *rules;     /* IMGLOCK_RULES as written, or NULL */
    const char *images;    /* IMGLOCK_IMAGES as written, or NULL */
    const char *audit;     /* the audit log, absolute, or NULL */
    /* The first value that makes no sense: image opens are refused, with these in the message. */
    const char *bad_variable;
    const char *bad_value;
    const char *bad_expects;
};

/* The process's settings once they are read; for settings_get and for wrappers that cannot afford the call. */
enum settings_state { SETTINGS_UNREAD, SETTINGS_READING, SETTINGS_READ };
extern struct settings settings_of_process;
extern _Atomic int settings_state;
const struct settings *settings_get_first(void);

/* The process's settings, read from environ at the first call.  Never NULL. */
static inline const struct settings *settings_get(void)
{
    return __builtin_expect(atomic_load_explicit(&settings_state, memory_order_acquire) == SETTINGS_READ, 1)
               ? &settings_of_process
               : settings_get_first();
}

/* Parses an environment, or NULL for the defaults.  Strings point into storage that is mapped once and never freed (or
 * into environment when copy is false).  Returns false when a value made no sense; settings->bad_* tell which. */
bool settings_parse(char *const *environment, struct settings *settings, bool copy);

/* One entry of IMGLOCK_RULES: a glob, and the mode of what it matches. */
struct rule {
    const char *glob, *glob_end;
    enum open_mode mode;
};

/* Goes through settings->rules: *at is where the next one starts, or NULL.  False at the end, and at an entry that is
 * no rule. */
bool settings_next_rule(const char **at, struct rule *rule);

/* One entry of IMGLOCK_IMAGES. */
struct image_name {
    const char *glob, *glob_end;
    bool is_image; /* + or - */
};

/* The same for settings->images. */
bool settings_next_image_name(const char **at, struct image_name *name);

/* Operations by name, separated by commas, into 1 << enum operation, each.  False when one is unknown. */
bool settings_parse_operations(const char *value, unsigned *operations);

/* "write", "resize": an operation's name there. */
const char *settings_operation_name(enum operation operation);

#endif
