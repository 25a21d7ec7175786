/* looked_locks.h: what the lock files tell, to every user: which images they are of, whether they are locked, and whose
 * records lie in them.  Who truly holds them, processes tell. */
#ifndef IMGLOCK_LOOKED_LOCKS_H
#define IMGLOCK_LOOKED_LOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "process_scan.h"
#include "protocol.h"
#include "record.h"
#include "usage.h"

/* A slot whose byte is locked. */
struct looked_slot {
    struct holder holder;
    bool doubtful; /* the lock covers more than this byte, so the record may be an old one */
};

struct looked_lock {
    struct lock_name name;
    size_t image; /* index + 1; 0: unknown */
    size_t file;  /* number in the scan */
    bool held;
    enum lock_mode mode;
    pid_t process_lock_pid; /* who holds bytes 0-1 with F_SETLK, or 0 */
    unsigned blocked;       /* 1 << enum operation, each: whose bytes are locked */
    bool whole;             /* somebody has locked more than the bytes of the protocol, as flock --fcntl does */
    bool rows;              /* the kernel's lists show who has locked what */
    struct looked_slot *slots;
    size_t slot_count, slot_room;
};

enum { LOCKS_OF_IMAGE = 2 }; /* by path, by inode */

struct looked_image {
    char *path;
    struct lock_name name; /* of the lock by its path */
    bool exists;
    size_t file;                  /* number in the scan */
    size_t locks[LOCKS_OF_IMAGE]; /* index + 1; 0: none */
};

/* Looks at the lock files that are asked for: fills in the list's locks and images, and has the scan look for them.
 * Complains of what cannot be looked at. */
void locks_look_at_all(const struct question *question, struct usage_list *list, struct process_scan *scan);

/* The operations that are blocked in the lock file: 1 << enum operation, each. */
unsigned lock_find_blocked(int descriptor);

#endif
