/* report_log.h: audit logs, read: every line that is one becomes an event, on one time line. */
#ifndef IMGLOCK_REPORT_LOG_H
#define IMGLOCK_REPORT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy.h"

/* A string of the logs.  Equal strings are one object, so pointers compare. */
struct name {
    const char *bytes; /* NUL-terminated, and may be of any bytes */
    size_t length;
    const char *shown; /* the bytes with what could drive a terminal escaped: valid UTF-8, one line */
};

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
    EVENT_EXIT,
};

/* Who is in the way, as a line names it. */
struct blocker {
    pid_t pid;
    uint64_t start; /* 0: not told */
    int64_t uid;    /* -1: not told, as everywhere here */
    enum lock_mode mode;
    int64_t since; /* ns since 1970; 0: not told */
    const struct name *comm;
    const struct name *host;
};

struct event {
    int64_t time; /* ns since 1970, never going back within a boot */
    int64_t wall; /* as written */
    int64_t monotonic;
    size_t sequence; /* in the order read */
    unsigned stretch;
    unsigned boot; /* of which machine does not matter: times of two boots have nothing to do with each other */
    enum event_kind kind;
    pid_t pid, tid, parent, about_pid;
    uint64_t start, about_start, inode;
    int64_t uid, held;
    enum lock_mode mode, from;
    bool unlocked, regained, family;
    /* NULL where the line has none. */
    const struct name *boot_id, *comm, *cmdline, *image, *lock, *device, *flags, *result, *error, *what;
    struct blocker *blockers;
    size_t blocker_count;
};

struct log_file {
    const char *path;
    size_t lines, skipped;
};

struct log {
    struct event *events;
    size_t count, room;
    struct log_file *files;
    size_t file_count, file_room;
    /* Lines of one boot: those that name it, or, where they do not, those between which the monotonic clock did not
     * start anew.  With the range of wall minus monotonic time. */
    struct stretch {
        const struct name *boot_id; /* NULL: not named */
        int64_t least_offset, greatest_offset, latest;
        unsigned number, boot;
    } * *stretches;
    size_t stretch_count, stretch_room;
};

/* The one object for this string. */
const struct name *name_of(const char *bytes, size_t length);

/* Makes room for one more in an array that has count, and returns it.  Ends the program without memory. */
void *grown(void *array, size_t count, size_t *room, size_t size);

/* A zeroed object.  Ends the program without memory. */
void *zeroed(size_t size);

/* Adds a file's lines; "-" is standard input.  Lines that are none of an audit log are counted, and told on standard
 * error.  False, after a complaint, when it cannot be read. */
bool log_read(struct log *log, const char *path);

/* Orders the events of all files: boot by boot, those that began earlier first; in a boot by the monotonic clock. */
void log_arrange(struct log *log);

#endif
