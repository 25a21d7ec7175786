/* outside.h: has somebody outside imglock the image open for writing, who takes no notice of its lock?
 *
 * Asked at a process's first open of an image, once it has the lock: the kernel's count (count.h) says whether, and
 * /proc (outsiders.h) who.  Where it has to be asked through a description for reading, the program's own, which nobody
 * has seen yet, gives way to one meanwhile, under the same number. */
#ifndef IMGLOCK_OUTSIDE_H
#define IMGLOCK_OUTSIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "../lock_name.h"
#include "../outsiders.h"
#include "../settings.h"
#include "../track.h"

struct outside_request {
    const struct settings *settings;
    const char *path;          /* real */
    const struct stat *status; /* of the image */
    const struct lock_name *name;
    bool family;      /* the lock let us past a relative's */
    int64_t deadline; /* of waiting, CLOCK_MONOTONIC in ns */
    struct outside_place *place;
};

/* The description of an image that is asked through: the program's, not yet returned, or one that is open likewise.  A
 * regular file, on which the program has no record locks: to close a descriptor would drop them. */
struct outside_place {
    struct track_request *request; /* its descriptor is request->mark; access and lease are for what stands there */
    int close_on_exec;             /* O_CLOEXEC or 0 */
    int replaced; /* the status flags of the description for writing, which one for reading stands for; -1: none */
};

/* Puts a description for reading in the place of one for writing, so that a process that waits for the lock is none
 * that has the image open for writing.  Not so where the program's description could not be had back.  held: its marks
 * move to the other one. */
void outside_step_back(struct outside_place *place, bool held);

/* The program's description, as it was.  0 or -errno: the file may not be opened any more as it was. */
int outside_step_forth(struct outside_place *place, bool held);

/* Who is it that the count has found?  Steps forth, too.  1: *outsider has it, and had it until the deadline.  0:
 * nobody, or it cannot be told.  -EINTR: a signal handler ran while it waited.  Another -errno: the file may not be
 * opened any more as the program's descriptor was.  A cancellation point when it waits, and the descriptor is the
 * caller's to close then. */
int outside_ask(const struct outside_request *request, struct outsider *outsider);

#endif
