/* policy.h: the environment's settings, and what they say about one open.
 *
 * Settings come from IMGLOCK_* alone (DESIGN section 4).  They are copied out of the environment once, since
 * programs overwrite, clear and free their environment later. */
#ifndef IMGLOCK_POLICY_H
#define IMGLOCK_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum open_mode { /* IMGLOCK_MODE and the right-hand side of IMGLOCK_RULES */
                 MODE_AUTO,
                 MODE_SHARED,
                 MODE_EXCLUSIVE,
                 MODE_NOLOCK,
};

enum lock_mode { LOCK_NONE, LOCK_SHARED, LOCK_EXCLUSIVE };

enum { GUARD_TRUNCATE = 1, GUARD_UNLINK = 2, GUARD_RENAME = 4 };

enum conflict_answer { CONFLICT_DENY, CONFLICT_WARN };

enum log_level { LOG_QUIET, LOG_CONFLICTS, LOG_DEBUG };
enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FILE };

#define WAIT_FOREVER INT64_MAX

struct settings {
    enum open_mode mode;
    enum conflict_answer on_conflict;
    int64_t wait_ns;     /* 0: refuse at once; WAIT_FOREVER */
    int refusal_errno;   /* what a refused open returns */
    unsigned guard;      /* GUARD_* */
    bool allow_on_error; /* IMGLOCK_ON_ERROR=allow */
    bool magic;          /* look at headers */
    bool key_inode;      /* a second lock by device and inode */
    bool family;         /* descendants are let past */
    enum log_level log_level;
    enum log_target log_target;
    const char *log_file;  /* for LOG_TO_FILE */
    const char *directory; /* of the lock files, absolute, without a trailing slash */
    const char *rules;     /* IMGLOCK_RULES as written, or NULL */
    const char *images;    /* IMGLOCK_IMAGES as written, or NULL */
    const char *audit;     /* the audit log, absolute, or NULL */
    /* The first value that makes no sense: image opens are refused, with these in the message. */
    const char *bad_variable;
    const char *bad_value;
    const char *bad_expects;
};

/* The process's settings, read from environ at the first call.  Never NULL.  Async-signal-safe. */
const struct settings *policy_settings(void);

/* Parses the given environment into *settings.  Strings point into storage that is mapped once and never
 * freed (or into environment when copy is false).  Returns false when a value made no sense; settings->bad_*
 * tell which. */
bool policy_parse(char *const *environment, struct settings *settings, bool copy);

/* The lock mode for an image at real_path opened with these open(2) flags. */
enum lock_mode policy_lock_mode(const struct settings *settings, const char *real_path, int flags);

/* What IMGLOCK_IMAGES says of this path: 1 an image, -1 none, 0 nothing. */
int policy_names_image(const struct settings *settings, const char *real_path);

/* "shared", "exclusive": a lock mode's name in messages and records. */
const char *policy_mode_name(enum lock_mode mode);

#endif
