/* track_private.h: imglock's own descriptors in the program's table: whose they are, and how they get out of the way.
 *
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_TRACK_PRIVATE_H
#define IMGLOCK_TRACK_PRIVATE_H

#include <stdbool.h>

#include "sys.h"
#include "table.h"

/* The private descriptors that keep this descriptor's image locked: one, with IMGLOCK_KEY=inode two, or none.  Returns
 * how many. */
enum { TRACK_PRIVATES = 8 };
int track_privates(int descriptor, int privates[TRACK_PRIVATES]);

/* May this descriptor have been one of them until lately, and is nothing now?  A listing that was read before still
 * has it. */
bool track_was_private(int descriptor);

/* The program's call is about to take the number of a private descriptor: moves it aside.  False when there is no other
 * number left. */
bool track_move_private(int descriptor);

/* Before a call that takes a number, whatever it is: where another thread may be about to give it to a private
 * descriptor, which then would be closed, and written to as a lock file as the program's, none is made until
 * track_thaw. The only real call that is made in the section: dup2(2) onto a high number that nobody has, with threads;
 * so it closes nothing.  False: that cannot be. */
bool track_freeze(int descriptor, sys_signals *before);
void track_thaw(const sys_signals *before);

/* The inotify instance that a wait has left, for the next one; -1: none.  Parked, it is as private as a lock's
 * descriptor is, and its watch is taken off when an image is released; a second instance is closed. */
int track_take_watcher(void);
void track_park_watcher(int inotify, int watch);

#endif
