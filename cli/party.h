/* party.h: a process in a hand-over: what it has of the lock, and how it is reached: through duplicates of its private
 * descriptors, pidfd_getfd(2).  What is done to a duplicate's lock is done to the process's. */
#ifndef IMGLOCK_PARTY_H
#define IMGLOCK_PARTY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "record.h"

enum { TRANSFER_LOCKS = 2 }; /* of one image: by path, by inode */

/* An image's lock files. */
struct lock_files {
    const char *directory;
    struct {
        int descriptor;
        struct stat status;
    } open[TRANSFER_LOCKS];
    size_t count;
};

/* What one process has of one lock. */
struct share {
    int descriptor; /* a duplicate of its private descriptor; -1: it has none */
    int number;     /* that one's, in the process */
    struct holder holder;
};

struct party {
    pid_t pid;
    int process; /* pidfd; -1: nobody */
    char name[48];
    struct share shares[TRANSFER_LOCKS];
};

extern const struct party party_nobody;

bool party_is_there(const struct party *party);

/* FIRST_BYTE and SECOND_BYTE (owned.h): what it holds of one of the locks. */
unsigned party_bytes(const struct party *party, size_t lock);

/* Reaches a process.  hint: the number of its private descriptor that a record tells, or -1.  0; -ENOENT: it does not
 * have the image open under imglock; or -errno, and then the party is nobody but for its name. */
int party_reach(const struct lock_files *files, pid_t pid, int hint, struct party *party);

/* The exit status, and the reason, for an error of party_reach. */
int party_explain(const struct lock_files *files, const struct party *party, int error, char *why, size_t size);

/* Is the process still there, with the image open and both bytes held?  What its duplicates here hold alone ends with
 * this program. */
bool party_keeps_all(const struct lock_files *files, const struct party *party);

/* Gives the duplicates back: each keeps the lock alive. */
void party_leave(struct party *party);

#endif
