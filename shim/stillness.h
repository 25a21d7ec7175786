/* stillness.h: has anybody closed a file while it was looked at?  inotify(7).
 *
 * Who has a file is read from /proc, one process after the other, and how many locks there are from another list.  A
 * relative that has it at the one moment and not at the other hides a stranger.  Where nobody closed anything between
 * the first look and the last, all who were seen are there still: the kernel tells of a close before it takes the locks
 * away (fs/file_table.c, __fput()).  Of a lock that is given back without a close it does not tell.
 *
 * A child that another thread makes meanwhile, and that executes nothing, keeps the watch.  Async-signal-safe; errno is
 * left alone. */
#ifndef IMGLOCK_STILLNESS_H
#define IMGLOCK_STILLNESS_H

enum stillness {
    STILLNESS_UNKNOWN, /* it cannot be told: this user has as many watches as he may have, or may have none */
    STILLNESS_CHANGED, /* somebody has */
    STILLNESS_STILL,
};

/* Begins to watch the file that the descriptor is open on.  The result is for the others. */
int stillness_begin(int descriptor);

/* Since the last question, or the beginning. */
enum stillness stillness_ask(int watch);

/* Takes a tenth of a millisecond on an idle machine, one or two on a busy one. */
void stillness_end(int watch);

#endif
