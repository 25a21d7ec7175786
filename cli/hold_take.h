/* hold_take.h: the locks of imglock hold: which, and how all of them are taken, with waiting. */
#ifndef IMGLOCK_HOLD_TAKE_H
#define IMGLOCK_HOLD_TAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "held_image.h"
#include "lock.h"
#include "settings.h"

struct wanted {
    struct lock_name name;
    const char *image; /* its real path */
    dev_t device;      /* of a block device; 0: it is none */
    struct lock lock;
    struct held_image own; /* of a file's lock by path: the file itself; path NULL: none */
    bool left_out;         /* IMGLOCK_ON_CONFLICT=warn, IMGLOCK_ON_ERROR=allow */
    bool lost;             /* a server has lost it, and others have it: told */
};

struct hold {
    struct settings settings;
    enum lock_mode mode; /* LOCK_NONE: operations are blocked, and nothing is locked */
    unsigned block;      /* 1 << enum operation, each */
    const char *reason;  /* or NULL */
    int64_t deadline;    /* CLOCK_MONOTONIC, ns; 0: no waiting; WAIT_FOREVER */
    struct wanted *wanted;
    size_t count;
};

/* Adds the locks of an image to those that are wanted; there is room for two.  False, after a complaint. */
bool hold_take_want(struct hold *hold, const char *image);

/* In one order everywhere, and each once: two names of one image are one lock, which would exclude itself. */
void hold_take_sort(struct hold *hold);

/* What is asked for to take one of them. */
struct lock_request hold_take_request(const struct hold *hold, const struct wanted *wanted, int64_t deadline);

enum { HOLD_TAKEN = -1 };

/* Takes all, waiting where that is allowed.  HOLD_TAKEN, or the exit status. */
int hold_take_all(struct hold *hold, int conflict_status);

#endif
