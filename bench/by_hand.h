/* by_hand.h: the lock of an image by hand: the system calls that the protocol takes, in the best order that we know,
 * and nothing else.  What no library can be faster than. */
#ifndef IMGLOCK_BENCH_BY_HAND_H
#define IMGLOCK_BENCH_BY_HAND_H

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "../shim/sys.h"

/* How much of it: the lock's own calls; with what has to be asked about the image; with the lock's descriptor at a high
 * number, as the contract has it, so that the program's next open gets the number that it gets without us. */
enum extent { LOCK_ALONE, LOW_NUMBER, WHOLE };

/* Where the lock's descriptor goes. */
enum { BY_HAND_HIGH = 448 };

static inline int by_hand_byte(int descriptor, int command, short type, long start, long length)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return sys_fcntl(descriptor, command, (long)&range);
}

/* A slot that nobody has, at or below this one, or -1. */
static inline long by_hand_free_slot(const char *lock_path, long slot)
{
    int lock = sys_openat(AT_FDCWD, lock_path, O_RDWR | O_CLOEXEC, 0);
    for (; slot >= 0; slot--) {
        struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1024 + slot, .l_len = 1};
        if (sys_fcntl(lock, F_OFD_GETLK, (long)&range) < 0 || range.l_type == F_UNLCK) break;
    }
    sys_close(lock);
    return slot;
}

/* Announces on the image itself what is done to it.  0, or -errno. */
static inline int by_hand_announce(int image, bool writing)
{
    int result = by_hand_byte(image, F_OFD_SETLK, F_RDLCK, 100, writing ? 4 : 1);
    return result < 0 ? result : by_hand_byte(image, F_OFD_SETLK, F_RDLCK, 201, 3);
}

/* The same, and asks whether somebody announces what does not go with it.  0, or -errno. */
static inline int by_hand_mark(int image, bool writing)
{
    int result;
    if ((result = by_hand_announce(image, writing)) < 0) return result;
    struct flock all = {.l_type = writing ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET, .l_start = 1};
    struct flock use = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 100};
    if ((result = sys_fcntl(image, F_OFD_GETLK, (long)&all)) < 0) return result;
    if (!writing && (result = sys_fcntl(image, F_OFD_GETLK, (long)&use)) < 0) return result;
    return all.l_type == F_UNLCK && (writing || use.l_type == F_UNLCK) ? 0 : -EAGAIN;
}

/* Asks the kernel whether anybody else has it open for writing: a lease, and back, whose signal would hurt nobody.
 * 0, or -errno. */
static inline int by_hand_count(int image, bool writing)
{
    const sys_signals urgent = (sys_signals)1 << (SIGURG - 1);
    const struct f_owner_ex nobody = {F_OWNER_TID, 0};
    siginfo_t signal;
    int result;
    sys_fcntl(image, F_SETSIG, SIGURG);
    if ((result = sys_fcntl(image, F_SETLEASE, writing ? F_WRLCK : F_RDLCK)) < 0) return result;
    sys_fcntl(image, F_SETLEASE, F_UNLCK);
    sys_sigtake(&urgent, &signal);
    sys_fcntl(image, F_SETSIG, 0);
    return sys_fcntl(image, F_SETOWN_EX, (long)&nobody);
}

/* Asks the server once more for what an image's only writer has: five questions.  A record is read, since who had the
 * lock meanwhile may have written one there. */
static inline void by_hand_ask(int image, int lock, long slot)
{
    char record[256];
    by_hand_byte(lock, F_OFD_SETLK, F_WRLCK, 0, 2);
    by_hand_byte(lock, F_OFD_SETLK, F_RDLCK, 1024 + slot, 1);
    sys_pread(lock, record, sizeof record, 4096 + slot * 256);
    by_hand_mark(image, true);
}

/* Locks the image that was opened as this descriptor.  The lock's descriptor, or -errno. */
static inline int by_hand_lock(int image, const char *lock_path, bool writing, long slot, const char record[256],
                               enum extent extent)
{
    const bool whole = extent != LOCK_ALONE;
    char link[32], path[PATH_MAX];
    struct stat image_status, lock_status, named;
    const short type = writing ? F_WRLCK : F_RDLCK;
    int result;
    if (whole) {
        /* Regular or a block device; its device and inode, for the comparison below. */
        sys_fstat(image, &image_status);
        /* The real path names the lock.  One call where realpath(3) makes one a component. */
        snprintf(link, sizeof link, "/proc/self/fd/%d", image);
        ssize_t length = sys_readlinkat(AT_FDCWD, link, path, sizeof path - 1);
        if (length < 0) return (int)length;
        path[length] = '\0';
    }
    /* The directory is world-writable: no symbolic link, no FIFO, no terminal. */
    int lock = sys_openat(AT_FDCWD, lock_path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    if (lock < 0) return lock;
    /* The lock. */
    if ((result = by_hand_byte(lock, F_OFD_SETLK, type, 0, 2)) < 0) return result;
    /* A holder's descendants lock these bytes; every other opener looks whether there are any. */
    if (whole) by_hand_byte(lock, F_OFD_GETLK, type, 4, 12);
    /* Is what was locked still what the name stands for?  Else two processes lock two files. */
    sys_fstat(lock, &lock_status);
    if ((result = sys_fstatat(AT_FDCWD, lock_path, &named, AT_SYMLINK_NOFOLLOW)) < 0) return result;
    if (named.st_ino != lock_status.st_ino) return -ESTALE;
    if (extent == WHOLE) {
        int low = lock;
        lock = sys_fcntl(low, F_DUPFD_CLOEXEC, BY_HAND_HIGH);
        sys_close(low);
        if (lock < 0) return lock;
    }
    /* Claimed exclusively, so that the old record does not count; the record; then shared: from here on it counts. */
    if ((result = by_hand_byte(lock, F_OFD_SETLK, F_WRLCK, 1024 + slot, 1)) < 0) return result;
    sys_pwrite(lock, record, 256, 4096 + slot * 256);
    by_hand_byte(lock, F_OFD_SETLK, F_RDLCK, 1024 + slot, 1);
    /* Cleaners delete what is older than 30 days: the record has renewed the times of change, and the time of access is
     * renewed when it is an hour old. */
    /* Has the image been renamed or replaced since its open?  Then another path's lock is held. */
    if (whole) {
        if ((result = sys_fstatat(AT_FDCWD, path, &named, AT_SYMLINK_NOFOLLOW)) < 0) return result;
        if (named.st_ino != image_status.st_ino) return -ESTALE;
        if ((result = by_hand_mark(image, writing)) < 0) return result;
        if ((result = by_hand_count(image, writing)) < 0) return result;
    }
    return lock;
}

#endif
