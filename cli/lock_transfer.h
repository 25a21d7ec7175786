/* lock_transfer.h: a hand-over: an image's lock in the hands of a third, which is neither of the processes that it goes
 * from and to.  What a process holds is read from the kernel, never from its record. */
#ifndef IMGLOCK_LOCK_TRANSFER_H
#define IMGLOCK_LOCK_TRANSFER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "party.h"
#include "protocol.h"
#include "settings.h"

struct transfer {
    struct settings settings;
    const char *action; /* "cannot hand over", for messages */
    char path[PATH_MAX];
    struct lock_files files;
    struct stat image; /* its number is 0 where it is not there */
    struct party source, target;
    enum lock_mode source_was, target_was; /* in their records, for the way back */
    struct step {
        int descriptor;
        short before; /* how it was locked before, for the way back */
        off_t start, length;
    } done[4 * TRANSFER_LOCKS];
    size_t done_count;
};

/* Each returns 0, or the exit status after one line that says why, and who owns the lock. */

/* Opens the image's lock files, and keeps others of its kind out meanwhile. */
int transfer_open(struct transfer *transfer, const char *image, const char *action);

/* Reaches the process that is to get the lock: one that is inactive on the image, or was to get it already when
 * something cut that short. */
int transfer_reach_target(struct transfer *transfer, pid_t pid);

/* Reaches the holder: the process given, or with 0 the one that the records and the kernel tell.  needed: without one
 * it is refused; else there may be none. */
int transfer_reach_source(struct transfer *transfer, pid_t pid, bool needed);

/* Does the target hold everything already, and do the records say so? */
bool transfer_is_complete(const struct transfer *transfer);

/* "PATH: ACTION: WHY; OWNER" on standard error.  Gives everything back first, and returns the status. */
int transfer_refuse(struct transfer *transfer, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void transfer_end(struct transfer *transfer);

#endif
