/* fdinfo.h: the locks that an open file description holds, as /proc/PID/fdinfo/FD tells them.
 *
 * A row is "lock:<tab>1: OFDLCK ADVISORY  WRITE -1 fe:00:131 0 1": number, kind, whether it is advisory, type, pid,
 * device and inode, first byte, last byte or EOF (lock_get_status() in fs/locks.c of the kernel).  FUSE shows none. */
#ifndef IMGLOCK_FDINFO_H
#define IMGLOCK_FDINFO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct fdinfo_lock {
    bool by_description; /* F_OFD_SETLK; else F_SETLK, which belongs to the process */
    bool exclusive;
    uint64_t first, last; /* bytes; UINT64_MAX: to the end */
};

/* Does this byte lie in the lock? */
static inline bool fdinfo_covers(const struct fdinfo_lock *lock, uint64_t byte)
{
    return lock->first <= byte && byte <= lock->last;
}

/* Reads one line.  False: it tells of no fcntl lock. */
bool fdinfo_parse_lock(const char *line, struct fdinfo_lock *lock);

/* The next lock in the text of an fdinfo file, and *text moves past its line.  False: there is no more. */
bool fdinfo_next_lock(const char **text, struct fdinfo_lock *lock);

/* Does this text, the fdinfo of an inotify descriptor, tell of a watch on the file of this inode?  Rows are "inotify
 * wd:1 ino:ab4257 sdev:fe00000 mask:...", numbers in hexadecimal (fs/notify/fdinfo.c of the kernel). */
bool fdinfo_watches(const char *text, uint64_t inode);

#endif
