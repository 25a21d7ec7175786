/* joining.h: what the lock files tell and what processes hold, while they are put together in one list. */
#ifndef IMGLOCK_JOINING_H
#define IMGLOCK_JOINING_H

#include <stdbool.h>
#include <stddef.h>

#include "process.h"
#include "process_scan.h"
#include "usage.h"

struct joining {
    const struct question *question;
    struct usage_list *list;
    struct process_scan *scan;
    const struct process_identity *self;
    size_t first;      /* the lock's first usage in the list */
    bool last_attempt; /* what changed meanwhile is told as far as it is known */
    bool changed;      /* holders changed between the look at the lock file and that at the processes */
};

/* Adds a copy of the usage to the list, and returns that. */
struct usage *joining_add(struct usage_list *list, const struct usage *usage);

/* Fills in what is known of a process of this host. */
void joining_tell_process(const struct joining *joining, struct usage *usage, const struct process_facts *process);

/* As process_look_up, of a process that a finding is of: one that is there and cannot be looked at is not left out in
 * silence. */
bool joining_look_up(const struct joining *joining, pid_t pid, struct process_facts *process);

#endif
