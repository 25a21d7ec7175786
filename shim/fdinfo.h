/* fdinfo.h: the kernel's list of the locks that an open file description has, /proc/PID/fdinfo/FD, proc_pid_fdinfo(5).
 *
 * It names the locks of that very description, whoever set them, so it is the kernel's own word on who holds what.
 * File systems that keep locks on a server, such as FUSE, show none.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_FDINFO_H
#define IMGLOCK_FDINFO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One row, of fdinfo or of /proc/locks, which has the same words (fs/locks.c, lock_get_status()). */
struct fdinfo_lock {
    enum { FDINFO_DESCRIPTION, FDINFO_PROCESS, FDINFO_OTHER } owner; /* F_OFD_SETLK, F_SETLK, flock or a lease */
    bool exclusive;
    bool waits;            /* "->" in /proc/locks: it has not got the lock yet */
    pid_t pid;             /* by F_SETLK: whose it is; else -1 */
    unsigned major, minor; /* of the file system's device, which is not always that of stat(2) */
    uint64_t inode;
    off_t start, end; /* inclusive; INT64_MAX: to the end */
};

/* Reads a row, with or without "lock:" before it.  False where it is something else. */
bool fdinfo_parse_lock(const char *line, struct fdinfo_lock *lock);

/* The name of a descriptor's file in this process's own /proc, "/proc/self/fdinfo/12". */
enum { FDINFO_OWN_SIZE = 40 };
void fdinfo_own(char name[FDINFO_OWN_SIZE], int descriptor);

/* Has this process's parent the very open file description of a descriptor, too, under whatever number?  Where the
 * kernel does not compare them, kcmp(2), the same number for the same file is taken for that. */
bool fdinfo_parent_has(int descriptor);

/* Calls visit for each row of the file name, seen from directory.  Visit returns false to end it.  0, or -errno: the
 * file cannot be read. */
int fdinfo_each_lock(int directory, const char *name, bool (*visit)(const struct fdinfo_lock *lock, void *argument),
                     void *argument);

/* The same for the whole rows among the first length bytes; bytes has one more, for the end of a string.  What is left
 * of the last row is moved to the front: how long that is, or -1 once visit has ended it. */
ssize_t fdinfo_each_row(char *bytes, size_t length, bool (*visit)(const struct fdinfo_lock *lock, void *argument),
                        void *argument);

#endif
