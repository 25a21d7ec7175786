/* marker_rows.h: the rows of an image's locks that are in the way and were seen with those who are no strangers, and
 * whether these are all there are.
 *
 * A row is what /proc/PID/fdinfo shows of one lock of a description; /proc/locks has all of them, and names nobody.
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_MARKER_ROWS_H
#define IMGLOCK_MARKER_ROWS_H

#include <stdbool.h>
#include <sys/types.h>

#include "fdinfo.h"
#include "markers_question.h"

struct marker_row {
    off_t start, end;
    bool exclusive;
    pid_t pid;  /* of the process that shows it, 0: this one */
    int number; /* of its descriptor */
};

enum { MARKER_ROWS = 1024, MARKER_KINDS = 2 };

/* Zeros but for what is asked.  Too large for a handler's stack. */
struct marker_rows {
    const struct markers_question *question;
    ino_t inode;                         /* of the image */
    unsigned major, minor;               /* of its device, as the kernel's rows have them; both 0: not known */
    pid_t self;                          /* the number of this process in /proc */
    struct marker_row list[MARKER_ROWS]; /* each description's once */
    int count;
    struct marker_row remembered[MARKER_ROWS];
    int remembered_count;
};

static inline bool marker_rows_is_of_image(const struct marker_rows *rows, const struct fdinfo_lock *lock)
{
    return lock->inode == rows->inode &&
           ((!rows->major && !rows->minor) || (lock->major == rows->major && lock->minor == rows->minor));
}

static inline struct marker_row marker_row_of(const struct fdinfo_lock *lock, pid_t pid, int number)
{
    return (struct marker_row){lock->start, lock->end, lock->exclusive, pid, number};
}

/* Do they show the same, whoever has them? */
static inline bool marker_row_is(const struct marker_row *one, const struct marker_row *other)
{
    return one->start == other->start && one->end == other->end && one->exclusive == other->exclusive;
}

/* One more row, if there is room. */
void marker_rows_add(struct marker_rows *rows, const struct marker_row *row);

/* Keeps of the rows from there on what is no other's already. */
void marker_rows_keep(struct marker_rows *rows, int from);

/* Were these same rows there, of the same descriptors, when they were remembered? */
void marker_rows_remember(struct marker_rows *rows);
bool marker_rows_are_as_remembered(const struct marker_rows *rows);

/* How many rows that are in the way the kernel has. */
struct marker_counts {
    int all;                 /* -1: not told */
    int marks[MARKER_KINDS]; /* of them such as imglock sets: of use, and of what is not shared */
    bool whole;              /* no row can have been missed */
};

/* All there are, whoever has them, by one reading of the kernel's list. */
struct marker_counts marker_rows_count(struct marker_rows *rows);

/* Of how many descriptions at least are the marks that were counted and that nobody has who was looked at?  One has one
 * of each kind.  *others: how many of the other locks nobody has. */
int marker_rows_unseen(const struct marker_rows *rows, const struct marker_counts *counted, int *others);

/* Has each lock that the kernel names been seen with somebody who is no stranger?  /proc/locks leaves out what other
 * hosts have locked, and what those outside this PID namespace have by F_SETLK.  It names one lock in a range, and the
 * first of a reader's is the byte that is in nobody's way.  mapped: marks that no descriptor shows are of mappings of
 * no strangers. */
bool marker_rows_explain(const struct marker_rows *rows, bool mapped);

#endif
