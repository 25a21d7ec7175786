/* relatives.h: who is let past a lock, since the holder works on its image through it.
 *
 * syslinux runs mtools on the image that it holds, lima and mkosi run qemu-img; a shell opens an image for its command;
 * a process opens an image again that its fork child has inherited.  A conflicting lock lets a process past if every
 * one of its holders is
 *   - an ancestor, whose /proc/PID/fdinfo shows the lock, or
 *   - whoever shares an open file description with this process: one that it inherited, or that a child of it did, with
 *     whatever else that child has locked.
 * A child that opened the image by itself is none: it may be any program that this one has started.
 * Each of these is the kernel's word.  What cannot be asked, a stranger has.  Async-signal-safe; errno is left alone.
 */
#ifndef IMGLOCK_RELATIVES_H
#define IMGLOCK_RELATIVES_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

/* What this process knows of its own open file descriptions of one lock file. */
struct relatives_given {
    int number;    /* of the private descriptor */
    int64_t token; /* the byte that its description has locked, TOKEN_BYTE and up */
};
struct relatives_known {
    int descriptor; /* one that this process has open on the lock file: inherited, or its own; -1: none */
    const struct relatives_given *given; /* taken by this process and closed, while a child of it may have them */
    int given_count;
};

struct relatives_question {
    int lock_descriptor;                 /* its own locks are in nobody's way */
    enum lock_mode mode;                 /* that is wanted */
    bool ancestors;                      /* IMGLOCK_FAMILY=on */
    bool reads;                          /* lock_descriptor's description has bytes 0-1 shared already */
    bool once;                           /* one look has to do: the asker has bytes that others may stumble over */
    bool waits;                          /* the asker asks again later: one look is enough to tell of a stranger */
    const struct relatives_known *known; /* or NULL */
};

enum relatives_answer {
    RELATIVES_STRANGERS, /* somebody in the way is none, or cannot be asked */
    RELATIVES_NOBODY,    /* nobody is in the way */
    RELATIVES_ALL        /* all who are in the way are relatives */
};

/* Who is in the way of the mode, on bytes 0-1 and in the relatives' range? */
enum relatives_answer relatives_in_the_way(const struct relatives_question *question);

/* Has any relative a lock there, whether or not it is in the way? */
bool relatives_hold_any(const struct relatives_question *question);

#endif
