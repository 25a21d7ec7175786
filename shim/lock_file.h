/* lock_file.h: the lock file: opening it, making it, telling whether it still is the one.
 *
 * It lies in a directory that anybody may write to.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_LOCK_FILE_H
#define IMGLOCK_LOCK_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lock_name.h"

/* Why a lock could not be evaluated. */
struct lock_problem {
    int error;        /* errno of the call that failed; 0: the lock file is not fit to be one */
    const char *what; /* "cannot open the lock file", ... */
    uid_t owner;      /* of the lock file, where that is the reason; else (uid_t)-1 */
    int blocked;      /* after LOCK_BUSY: 1 + the operation that a holder blocks; 0: the lock itself is in the way */
    bool given;       /* after LOCK_BUSY: it may be a child that has what this process has closed: ask again soon */
};

/* Fills *problem; error as the kernel returns it, 0 or negative. */
void lock_problem_set(struct lock_problem *problem, int error, const char *what);

/* A lock file that is made and deleted again and again under our hands is followed for that long; and what the kernel
 * asks back, a lease on the lock file, is waited for. */
enum { LOCK_FILE_LEASE_NS = 100 * 1000 * 1000 };
#define LOCK_FILE_CHANGING_NS (INT64_C(5) * 1000 * 1000 * 1000)

/* Opens the lock file, for reading and writing where this user may, else for reading.  A lease that somebody has on it
 * is waited for until the deadline (CLOCK_MONOTONIC, ns).  A descriptor; -ENOENT and no problem: it is not there and
 * not to be created; else -errno and *problem. */
int lock_file_open(const char *path, bool create, int64_t deadline, struct lock_problem *problem);

/* Is the open file what the name stands for, and fit to be a lock file?  1 yes, 0 no longer: open it again, -1 it is
 * not fit, and *problem says why. */
int lock_file_check(int descriptor, const char *path, struct stat *status, struct lock_problem *problem);

#endif
