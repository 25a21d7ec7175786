/* guard.h: operations that take an image away from its holder, or change it under him.
 *
 * Truncate, unlink and rename count as writing (IMGLOCK_GUARD): the name is locked for the time of the operation where
 * its lock file exists.  And whoever holds the image may block operations: their bytes are held as long. */
#ifndef IMGLOCK_GUARD_H
#define IMGLOCK_GUARD_H

#include <stdbool.h>

#include "../policy.h"
#include "../sys.h"
#include "cleanup.h"

struct guard {
    int descriptors[2]; /* one for each name, with what is locked for the time of the operation */
    int opened;         /* a lock file that is being asked */
    bool entered;       /* signals are blocked; the program's: */
    sys_signals signals;
    bool begun; /* the handler that gives all back when the program jumps away is registered: */
    struct _pthread_cleanup_buffer cleanup;
};

/* Before an operation on a name.  0: go on, and call guard_end; -1: refused, errno is EBUSY, or ENOLCK where the lock
 * cannot be evaluated (IMGLOCK_ON_ERROR). */
int guard_begin(struct guard *guard, enum operation operation, int directory, const char *path, bool follow);

/* Adds a second name to a guard that has begun: rename's other end.  On refusal the guard has ended. */
int guard_also(struct guard *guard, enum operation operation, int directory, const char *path);

/* Before an operation on an image that is open, where holders may block it.  As guard_begin. */
int guard_descriptor(struct guard *guard, enum operation operation, int descriptor);

/* The same for the image at this real path.  0, or that errno; errno itself stays. */
int guard_image(struct guard *guard, const struct settings *settings, enum operation operation, const char *path);

void guard_end(struct guard *guard);

#endif
