/* watcher.h: the inotify instance that a wait has left, for the next one.
 *
 * To close an instance that had a watch lately waits for a grace period of the kernel's, 7 to 15 ms, so one is parked
 * at a number as private as a lock's descriptor is.  Its watch is taken off when an image is released: until then its
 * events pile up, and to take it off at once would cost 16 us of a hand-over.
 *
 * Everything here is for the section; the table's entry of a parked one is that of a private descriptor of image 0,
 * which is none. */
#ifndef IMGLOCK_WATCHER_H
#define IMGLOCK_WATCHER_H

#include <stdbool.h>

/* The parked instance, unwatched, which is the caller's now; -1: none. */
int watcher_take(void);

/* Is one parked? */
bool watcher_is_there(void);

/* Is this its number? */
bool watcher_is(int descriptor);

/* Parks an instance, which has its number and its entry already, with this watch; -1: none.  Or, in place of the one
 * that is parked, the same under another number, -1: its number is another's now. */
void watcher_park(int inotify, int watch);
void watcher_move(int inotify);

/* An image was released: nobody waits for us. */
void watcher_unwatch(void);

/* In a fork child: the parked instance is the parent's. */
void watcher_abandon(void);

#endif
