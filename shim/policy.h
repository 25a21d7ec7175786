/* policy.h: the environment's settings, and what they say about one open.
 *
 * Settings come from IMGLOCK_* alone, libimglock(7).  They are copied out of the environment once, since
 * programs overwrite, clear and free their environment later. */
#ifndef IMGLOCK_POLICY_H
#define IMGLOCK_POLICY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

enum log_level { LOG_QUIET, LOG_CONFLICTS, LOG_DEBUG };
enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FILE };

#define WAIT_FOREVER INT64_MAX

struct settings {
    enum open_mode mode;
    enum conflict_answer on_conflict;
    bool off;            /* the process is set-user-ID or the like (AT_SECURE): every call is passed on */
    int64_t wait_ns;     /* 0: refuse at once; WAIT_FOREVER */
    int refusal_errno;   /* what a refused open returns */
    unsigned guard;      /* 1 << enum operation, each: what counts as writing */
    bool allow_on_error; /* IMGLOCK_ON_ERROR=allow */
    bool magic;          /* look at headers */
    bool key_inode;      /* a second lock by device and inode */
    bool family;         /* descendants are let past */
    bool force_share;    /* the program's own arguments ask for it: reads go through beside a writer */
    unsigned block;      /* 1 << enum operation, each: what others may not do to the images that this process holds */
    const char *reason;  /* why, in the user's words; or NULL */
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

/* For policy_settings alone, which every open calls. */
enum { POLICY_UNREAD, POLICY_READING, POLICY_READ };
extern struct settings policy_process;
extern _Atomic int policy_state;
const struct settings *policy_read(void);

/* The process's settings, read from environ at the first call.  Never NULL.  Async-signal-safe. */
static inline const struct settings *policy_settings(void)
{
    return __builtin_expect(atomic_load_explicit(&policy_state, memory_order_acquire) == POLICY_READ, 1)
               ? &policy_process
               : policy_read();
}

/* Parses the given environment into *settings.  Strings point into storage that is mapped once and never
 * freed (or into environment when copy is false).  Returns false when a value made no sense; settings->bad_*
 * tell which. */
bool policy_parse(char *const *environment, struct settings *settings, bool copy);

/* What an open of an image needs, and why it may not be. */
struct policy_decision {
    bool locked;         /* false: nolock, none of imglock's business */
    enum lock_mode mode; /* to be taken, or, below LOCK_SHARED, to be recorded */
    bool insists;        /* on that lock: a shared one will not do, not even for reading alone */
    const char *refusal; /* the mode does not allow this open at all; or NULL */
};

/* The decision for an image at real_path opened with these open(2) flags.  existing: it is there already. */
struct policy_decision policy_decide(const struct settings *settings, const char *real_path, int flags, bool existing);

/* Does IMGLOCK_MODE, or a rule, leave this path alone altogether? */
bool policy_ignores(const struct settings *settings, const char *real_path);

/* Would this open, when it cannot have its lock, do as one for reading (IMGLOCK_ON_CONFLICT=read-only)? */
bool policy_may_degrade(const struct settings *settings, int flags);

/* What IMGLOCK_IMAGES says of this path: 1 an image, -1 none, 0 nothing. */
int policy_names_image(const struct settings *settings, const char *real_path);

/* "shared", "exclusive": a lock mode's name in messages and records. */
const char *policy_mode_name(enum lock_mode mode);

/* "write", "resize": an operation's name. */
const char *policy_operation_name(enum operation operation);

/* Operations by name, separated by commas, into 1 << enum operation.  False when one is unknown. */
bool policy_parse_operations(const char *value, unsigned *operations);

#endif
