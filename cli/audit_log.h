/* audit_log.h: which file is the log of an audit, and is it fit for one? */
#ifndef IMGLOCK_AUDIT_LOG_H
#define IMGLOCK_AUDIT_LOG_H

#include <stdbool.h>

struct audit_log {
    char *path;     /* absolute; the caller frees it */
    int descriptor; /* for reading, at the log's end */
};

/* Creates or opens the log of this name; NULL: one that is not there yet, imglock-audit.jsonl in the current directory,
 * or imglock-audit-2.jsonl and so on.  False after a complaint: what is no regular file cannot be watched. */
bool audit_log_open(struct audit_log *log, const char *name);

/* The latest log that audit_log_open() named itself in the current directory; the caller frees it.  NULL: none. */
char *audit_log_latest(void);

/* The absolute path of a log; the caller frees it.  NULL and errno. */
char *audit_log_path(const char *name);

/* "PATH: cannot write: WHY", with what log_file_open() has against it. */
int audit_log_complain(const char *path, const char *what, int error);

#endif
