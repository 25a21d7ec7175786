/* markers.h: who has announced something on an image (mark.h): the kernel's word, /proc/PID/fdinfo.
 *
 * Looked for only after a conflict.  Some of those who are found are no strangers: ancestors, whoever has a description
 * from this process, and who holds the lock of the very lock file that this process holds: between these the lock
 * has decided.  That no stranger hides behind them is seen by counting all locks there are, /proc/locks; where that is
 * hidden, whoever is found is a stranger.
 *
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_MARKERS_H
#define IMGLOCK_MARKERS_H

#include <stdbool.h>
#include <sys/types.h>

#include "markers_question.h"
#include "text.h"

/* A stranger, as far as it can be seen. */
struct marker {
    pid_t pid;      /* its number in /proc; 0: nobody whom this process can see */
    int descriptor; /* its own number for the image */
    bool imglock;   /* marked by imglock, which locks it by another name */
    bool posix;     /* F_SETLK */
    bool exclusive; /* a write lock, of other bytes than those of QEMU */
    bool qemu;      /* QEMU's bytes; then: */
    bool writes, shares;
    off_t start, end; /* a lock of it that is in the way; INT64_MAX: to the end */
    bool excludes;    /* that is a write lock */
    bool outside;     /* the process has not got the library: IMGLOCK_OUTSIDERS says what it does */
    const char *use;  /* nobody's mark but the kernel's own use of a block device, in words; NULL: not that */
};

/* What a stranger has of the image, in words: "QEMU's own lock: writes, shares nothing". */
void marker_append_has(struct text *text, const struct marker *marker);

enum markers_answer { MARKERS_STRANGERS, MARKERS_NO_STRANGERS };

/* everybody: looks at every process, which takes many milliseconds, and where somebody is there who cannot be seen,
 * again and again for an eighth of a second, or half a second beside those who open and close the image all the time;
 * else at those alone who may be no strangers, which takes less than one millisecond, or, beside such and where the
 * list of all locks is long, two, some of it asleep (HACKING.md, the section); and then *stranger is mostly not known.
 */
enum markers_answer markers_look(const struct markers_question *question, bool everybody, struct marker *stranger);

#endif
