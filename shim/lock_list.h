/* lock_list.h: the kernel's list of all locks of this host, /proc/locks, proc_locks(5), and how many of them count.
 *
 * The kernel gives the list a page at a time, some seventy rows.  A page is of one moment.  Between two pages locks
 * come and go, and so a row that stays is missed or comes twice (fs/seq_file.c goes on by a row's number): five rows of
 * a list of 200 beside sixty locks that come and go without pause were missed in 14 of 1,000 readings and one came
 * twice in 60.  So a list of less than half a page is believed at once, and with more of them a count only when it has
 * been read four times.  Async-signal-safe, for children of vfork too; errno is left alone. */
#ifndef IMGLOCK_LOCK_LIST_H
#define IMGLOCK_LOCK_LIST_H

#include <stdbool.h>

#include "fdinfo.h"

/* A caller counts up to three kinds of rows in one go.  The first has all that the others have, so that no row can be
 * missed without it. */
enum { LOCK_LIST_KINDS = 3 };
struct lock_counts {
    int of[LOCK_LIST_KINDS];
};

/* Is there a list to be seen? */
bool lock_list_is_there(void);

enum lock_list_answer {
    LOCK_LIST_UNREAD,   /* the list cannot be read */
    LOCK_LIST_CHANGING, /* it gave other counts each time */
    LOCK_LIST_TOLD,
};

/* Counts rows: visit adds to counts what a row counts for. */
enum lock_list_answer lock_list_count(void (*visit)(const struct fdinfo_lock *lock, void *argument,
                                                    struct lock_counts *counts),
                                      void *argument, struct lock_counts *counts);

/* The same by one reading, for a caller that compares several itself.  LOCK_LIST_CHANGING: it was not of one moment,
 * and the counts are what it had. */
enum lock_list_answer lock_list_read(void (*visit)(const struct fdinfo_lock *lock, void *argument,
                                                   struct lock_counts *counts),
                                     void *argument, struct lock_counts *counts);

/* Between two readings.  Each slows every lock of the host for a moment; and whoever locks and unlocks without pause
 * waits for each page to be read, and goes on in step with the readings, which then miss the same locks each time. */
void lock_list_pause(void);

#endif
