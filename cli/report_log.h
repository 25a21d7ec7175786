/* report_log.h: audit logs, read: every line that is one becomes an event, on one time line.
 *
 * Logs are read twice.  The first time tells which lines are events, and when; the second time hands them out in order.
 * So a log of any order needs sixteen bytes for each line in memory, and never a whole event. */
#ifndef IMGLOCK_REPORT_LOG_H
#define IMGLOCK_REPORT_LOG_H

#include <stdio.h>
#include <sys/types.h>

#include "policy.h"
#include "report_memory.h"

enum event_kind {
    EVENT_OPEN,
    EVENT_ACQUIRE,
    EVENT_CONVERT,
    EVENT_CONFLICT,
    EVENT_WAIT,
    EVENT_RELEASE,
    EVENT_GUARD,
    EVENT_LOST,
    EVENT_ERROR,
    EVENT_UNWATCHED,
    EVENT_EXIT,
};

/* Who is in the way, as a line names it. */
struct opponent {
    pid_t pid;
    uint64_t start; /* 0: not told */
    int64_t uid;    /* -1: not told, as everywhere here */
    enum lock_mode mode;
    int64_t since; /* ns since 1970; 0: not told */
    const struct report_name *comm;
    const struct report_name *host;
    const struct report_name *has; /* of one that is not on record: what it has of the image, in words; or NULL */
};

struct event {
    int64_t time; /* ns since 1970, never going back within a boot */
    int64_t wall; /* as written */
    int64_t monotonic;
    unsigned boot; /* of which machine does not matter: times of two boots have nothing to do with each other */
    enum event_kind kind;
    pid_t pid, tid, parent, about_pid;
    uint64_t start, about_start, inode;
    int64_t uid, held;
    enum lock_mode mode, from;
    bool unlocked, regained, family;
    /* NULL where the line has none. */
    const struct report_name *boot_id, *comm, *cmdline, *image, *lock, *device, *flags, *result, *error, *what;
    struct opponent *opponents; /* lasts until the next event */
    size_t opponent_count;
};

/* NULL: *event is what the line says, in which its opponents are to be freed.  Else why it is no line of an audit log.
 */
const char *event_read(const char *line, size_t length, struct event *event);

struct log_file {
    const char *path;
    FILE *stream;
    off_t start;    /* of the stream, where its first line is */
    off_t first;    /* the same among all files' bytes */
    off_t position; /* of the stream, among all files' bytes */
    size_t lines, skipped;
};

struct log {
    /* Where the events are, in their order once the log is arranged. */
    struct place {
        int64_t monotonic;
        uint64_t where; /* its offset among all files' bytes, then the number of its stretch */
    } * places;
    size_t count, room;
    struct log_file *files;
    size_t file_count, file_room;
    off_t bytes; /* of all files */
    /* Lines of one boot: those that name it, or, where they do not, those between which the monotonic clock did not
     * start anew.  With the range of wall minus monotonic time. */
    struct stretch {
        const struct report_name *boot_id; /* NULL: not named */
        int64_t least_offset, greatest_offset, latest;
        unsigned number, boot;
    } * *stretches;
    size_t stretch_count, stretch_room;
    /* The event that was handed out last. */
    struct event last;
    char *line;
    size_t line_size;
};

/* Adds a file's lines; "-" is standard input.  Lines that are none of an audit log are counted, and told on standard
 * error.  False, after a complaint, when it cannot be read. */
bool log_read(struct log *log, const char *path);

/* Orders the events of all files: boot by boot, those that began earlier first; in a boot by the monotonic clock. */
void log_arrange(struct log *log);

/* The event of this number, each to be asked for after the one before it.  Lasts until the next.  NULL after a
 * complaint when the line is not there any more. */
const struct event *log_event(struct log *log, size_t number);

/* Gives back what the reading needed. */
void log_close(struct log *log);

#endif
