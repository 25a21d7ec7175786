/* own_mappings.h: marks that no descriptor shows: are they of mappings that this process and its ancestors have?
 *
 * A mapping keeps its description, and that its marks, when the descriptor is closed: then nothing in /proc shows whose
 * they are (mappings.h).  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_OWN_MAPPINGS_H
#define IMGLOCK_OWN_MAPPINGS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "family.h"
#include "proc.h"

/* Zeros but for what is asked.  Too large for a handler's stack. */
struct own_mappings {
    int descriptor; /* that asks, open on the image */
    dev_t device;   /* of the image */
    ino_t inode;
    dev_t mapped_device; /* the same as the kernel's rows have it, where that is known */
    const struct family *family;
    bool ancestors;   /* theirs count as well: IMGLOCK_FAMILY=on */
    int64_t deadline; /* CLOCK_MONOTONIC, ns */
    bool stranger;    /* found: somebody else has a mapping */
    bool unread;      /* found: there are processes whose mappings may not be read */
    char path[PATH_MAX], line[PROC_LINE_SIZE];
};

/* May the marks of so many descriptions, which no descriptor shows, be those of mappings that this process and its
 * ancestors have, and nobody else who can be seen?  A description may have many mappings, so with the marks of more
 * than one it has to be seen that nobody else has a mapping.  What an earlier call has found stays. */
bool own_mappings_explain(struct own_mappings *own, int unseen);

#endif
