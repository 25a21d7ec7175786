/* distant.h: file systems whose locks another machine or another process keeps.
 *
 * Their locks exclude other hosts; the kernel's events (inotify) tell of this host alone, its lists of locks leave out
 * what others have, and FUSE leaves out all.  Each answer takes one statfs.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_DISTANT_H
#define IMGLOCK_DISTANT_H

#include <stdbool.h>

/* The name of a file system of this type (f_type of statfs(2)) by which people know it; NULL: it is this host's own. */
const char *distant_name(long type);

/* Does the file that this descriptor is open on lie on one? */
bool distant_is(int descriptor);

/* Do /proc/PID/fdinfo and /proc/locks show the locks on the file?  A FUSE server that keeps locks leaves no row behind.
 */
bool distant_shows_rows(int descriptor);

#endif
