/* lock_transfer.h: an image's lock in the hands of a third: the processes that have the image open are reached through
 * duplicates of their private descriptors, pidfd_getfd(2), and what is done to a duplicate's lock is done to theirs.
 *
 * What a process holds is read from the kernel, never from its record.  The owner is who holds byte 0 of the lock, or,
 * while nobody does, byte 1.  Every other opener needs both bytes at once, so the lock goes from hand to hand without a
 * moment in which a stranger could take it: the source gives up byte 1, the destination takes byte 1, the source gives
 * up byte 0, the destination takes byte 0.  Cut short anywhere, this leaves one owner, and can be gone on with. */
#ifndef IMGLOCK_LOCK_TRANSFER_H
#define IMGLOCK_LOCK_TRANSFER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "holders.h"
#include "lock.h"
#include "party.h"
#include "policy.h"

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

/* Passes the locks from the source, which may be nobody, to the target, and writes the records. */
int transfer_move(struct transfer *transfer);

/* Takes the locks from the source, for nobody. */
int transfer_give_up(struct transfer *transfer);

/* Does the target hold everything already, and do the records say so? */
bool transfer_is_complete(const struct transfer *transfer);

/* "PATH: ACTION: WHY; OWNER" on standard error.  Gives everything back first, and returns the status. */
int transfer_refuse(struct transfer *transfer, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void transfer_end(struct transfer *transfer);

#endif
