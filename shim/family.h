/* family.h: the ancestors and the descendants of this process, by /proc.
 *
 * Numbers are those in /proc.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_FAMILY_H
#define IMGLOCK_FAMILY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { FAMILY_ANCESTORS = 128, FAMILY_MEMBERS = 1024 };

/* Zeros at first.  Too large for a handler's stack. */
struct family {
    pid_t self; /* 0: not told */
    pid_t ancestors[FAMILY_ANCESTORS];
    int ancestor_count;
    pid_t members[FAMILY_MEMBERS]; /* this process, its descendants, its ancestors, and who is added; each once */
    int count;
};

/* Finds this process and its ancestors. */
void family_find(struct family *family);

bool family_is_ancestor(const struct family *family, pid_t pid);

/* Asks the kernel, since a descendant may be younger than all that was found. */
bool family_is_descendant(const struct family *family, pid_t pid);

/* Fills the members, as far as there is room and until the deadline, on CLOCK_MONOTONIC in ns. */
void family_gather(struct family *family, int64_t deadline);

/* One more member, if there is room. */
void family_add(struct family *family, pid_t pid);

#endif
