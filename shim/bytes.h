/* bytes.h: locks on ranges of a file's bytes, by open file description (F_OFD_SETLK, fcntl(2)).
 *
 * The only place that builds a struct flock.  A range of length 0 goes to the end of the file and beyond.  Types are
 * F_RDLCK and F_WRLCK.  Each call is one system call, repeated when a signal comes in between; none waits for a lock.
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_BYTES_H
#define IMGLOCK_BYTES_H

#include <stdbool.h>
#include <sys/types.h>

#include "protocol.h"

/* A lock of somebody else. */
struct bytes_found {
    short type; /* F_RDLCK or F_WRLCK */
    off_t start;
    off_t length; /* 0: to the end */
    pid_t pid;    /* of a lock by F_SETLK, where this PID namespace sees the process; else 0 or -1 */
};

/* Locks a range, or converts what this description has of it.  0; -EAGAIN: others are in the way, and nothing has
 * changed; or -errno: -EBADF where the descriptor was not opened for it, -ENOLCK, ... */
int bytes_lock(int descriptor, short type, off_t start, off_t length);

/* Gives a range back.  Only on a description that no other process can have: it would lose its lock, too.  0 or -errno:
 * a range in the middle of a lock takes memory. */
int bytes_unlock(int descriptor, off_t start, off_t length);

/* Does anybody else have a lock in this range that excludes one of this type?  1: *found, which may be NULL, is one of
 * them, any one; 0: nobody; or -errno. */
int bytes_held(int descriptor, short type, off_t start, off_t length, struct bytes_found *found);

/* What lock has this very open file description in the range?  1: *found is one of them; 0: none; -EINVAL before Linux
 * 6.6, or -errno. */
int bytes_own(int descriptor, off_t start, off_t length, struct bytes_found *found);

/* The type of lock that a mode takes. */
short bytes_type(enum lock_mode mode);

#endif
