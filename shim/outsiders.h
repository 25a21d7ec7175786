/* outsiders.h: who has a file open for writing, outside imglock?
 *
 * Asked when the kernel's count (count.h) says that somebody has.  Looked at are the loop devices and what /proc shows
 * of each process: its descriptors and its mappings.  Some do not count:
 *   - this process and its ancestors, and descendants of those with what they got from them;
 *   - who has a lock in the image's lock file: it has decided about him;
 *   - who has the library loaded: in mode nolock, inactive or force-share, or about to be refused;
 *   - who has but the byte locked by which libvirt's virtlockd keeps an image, and does not write to it.
 * Each of these is the kernel's word.  Takes a millisecond or more, and at most five seconds.  Async-signal-safe; errno
 * is left alone. */
#ifndef IMGLOCK_OUTSIDERS_H
#define IMGLOCK_OUTSIDERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "text.h"

struct outsiders_question {
    dev_t device; /* the image */
    ino_t inode;
    const char *path;    /* its real path: mappings show a number of the device that may be another */
    int lock_descriptor; /* open on its lock file; -1: none */
    int skipped;         /* this process's descriptor of the image that is in question itself; -1: none */
    bool ancestors;      /* IMGLOCK_FAMILY=on */
    bool marked;         /* somebody has marks: a mapping of a program with the library counts, too */
    bool readers;        /* and a loop device that only reads */
};

enum outsider_kind {
    OUTSIDER_UNSEEN,  /* the kernel says that there is one, and /proc does not show it */
    OUTSIDER_PROCESS, /* has it open */
    OUTSIDER_MAPPING, /* has it mapped */
    OUTSIDER_LOOP,    /* a loop device */
};

struct outsider {
    enum outsider_kind kind;
    pid_t pid;      /* of a process, in /proc's numbers */
    uint64_t start; /* and its start time: clock ticks since boot */
    unsigned loop;  /* the number of a loop device */
    bool reads;     /* which only reads */
    bool library;   /* of a mapping: the program has the library */
};

enum outsiders_found {
    OUTSIDERS_NOBODY, /* nobody was found who has it open for writing */
    OUTSIDERS_INSIDE, /* some have, and none of them counts */
    OUTSIDERS_FOUND   /* *outsider has */
};

/* Has this process, or an ancestor that has the library, it open for writing?  Then that one has asked.  Takes a tenth
 * of outsiders_find. */
bool outsiders_is_own(const struct outsiders_question *question);

enum outsiders_found outsiders_find(const struct outsiders_question *question, struct outsider *outsider);

/* What it has of the image, in words: "has it mapped, outside imglock". */
void outsider_append_has(struct text *text, const struct outsider *outsider);

/* Are both the same one? */
bool outsiders_same(const struct outsider *one, const struct outsider *other);

/* Where a loop device, or a partition of it, is mounted in this process's mount namespace; false: nowhere. */
bool outsiders_append_mount(struct text *text, unsigned loop);

#endif
