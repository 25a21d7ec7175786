/* device.h: a block device whose lock is held: may it be used beside what else has its storage?
 *
 * A whole disk and its partitions have locks of their own.  Each takes its own, and then looks at those of the others:
 * of two who come at once at least one sees the other. */
#ifndef IMGLOCK_DEVICE_H
#define IMGLOCK_DEVICE_H

#include <stdbool.h>
#include <sys/types.h>

#include "lock.h"
#include "settings.h"

struct device_question {
    const struct settings *settings;
    dev_t device;
    int descriptor;      /* open on it; -1: none, and of its uses only mounts are seen */
    enum lock_mode mode; /* that is held */
    bool writes; /* it is going to be written, and the kernel has not yet said that nobody else has it: O_EXCL */
    bool family; /* it is held beside a relative's */
    bool (*is_own)(const struct lock_name *name); /* does the asker itself hold this lock? */
};

struct device_taken {
    int lock_descriptor; /* the lock file of the whole disk, or of a partition, that somebody holds; for the caller to
                            close; -1: that is not it, and use says who has it */
    char use[160];       /* "mounted on /mnt" */
    struct lock_problem problem; /* of DEVICE_UNKNOWN */
};

enum device_answer { DEVICE_FREE, DEVICE_TAKEN, DEVICE_UNKNOWN };

/* Async-signal-safe. */
enum device_answer device_ask(const struct device_question *question, struct device_taken *taken);

#endif
