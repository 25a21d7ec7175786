/* stillness.h: has anybody closed a file while it was looked at?  inotify(7).
 *
 * Who has a file is read from /proc, one process after the other, and how many locks there are from another list.  A
 * relative that has it at the one moment and not at the other hides a stranger.  Where nobody closed anything between
 * the first look and the last, all who were seen are there still: the kernel tells of a close before it takes the locks
 * away (fs/file_table.c, __fput()).
 *
 * Of a lock that is given back without a close it does not tell.  Whoever asks has to look twice, and to count twice,
 * and to find the same (markers.c).
 *
 * A child that another thread makes meanwhile, and that executes nothing, keeps the watch.  Async-signal-safe; errno is
 * left alone. */
#ifndef IMGLOCK_STILLNESS_H
#define IMGLOCK_STILLNESS_H

#include <stdbool.h>

struct stillness {
    int descriptor; /* open on the file */
    int watches;    /* inotify's descriptor; -1: this user has as many as he may have, or may have none */
    bool begun;
};

enum stillness_answer {
    STILLNESS_UNKNOWN, /* it cannot be told */
    STILLNESS_CHANGED, /* somebody has */
    STILLNESS_STILL,
};

/* A watch of the file that the descriptor is open on. */
struct stillness stillness_of(int descriptor);

/* From now on.  What was before is forgotten. */
void stillness_begin(struct stillness *stillness);

/* Since stillness_begin. */
enum stillness_answer stillness_ask(const struct stillness *stillness);

/* Takes a tenth of a millisecond on an idle machine, one or two on a busy one. */
void stillness_end(const struct stillness *stillness);

#endif
