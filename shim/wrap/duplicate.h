/* duplicate.h: what dup.c does for its own symbols and for syscall(). */
#ifndef IMGLOCK_DUPLICATE_H
#define IMGLOCK_DUPLICATE_H

#include <stdbool.h>

#include "../track.h"
#include "cleanup.h"

/* dup2 or dup3: the real call, and what it needs. */
struct duplication {
    int (*real)(const struct duplication *call, int old, int new);
    const void *function;
    int flags;
};

int duplicate_onto(const struct duplication *call, int old, int new, bool close_on_exec);

/* fcntl by that function. */
typedef int fcntl_function(int descriptor, int command, ...);
int control_by(fcntl_function *real, int descriptor, int command, void *argument);

/* What the program sees at this number: a private descriptor is none of its own, and for it the number is not open. */
int seen_by_program(int descriptor);

/* A copy of a descriptor in the making.  Its hold is taken before the copy exists; copy_end binds it to the new
 * descriptor or, where there is none, drops it, and returns what the program gets.  If the call between the two does
 * not come back, the hold is dropped. */
struct copy {
    struct track_hold hold;
    struct _pthread_cleanup_buffer cleanup;
};
void copy_begin(struct copy *copy, int descriptor);
int copy_end(struct copy *copy, int descriptor, bool close_on_exec);

#endif
