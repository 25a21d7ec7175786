/* count.h: does anybody else have this file open for writing?
 *
 * The kernel counts the opens of a file, those of static programs, of loop devices and of mappings included, and tells
 * when it is asked for a lease (F_SETLEASE, fcntl(2)): one for writing is given where nobody else has the file open at
 * all, one for reading where nobody has it open for writing.  It is given back in the same moment.  Whoever opens the
 * file in between breaks the lease: he waits until it is given back, or has EWOULDBLOCK with O_NONBLOCK, and we get a
 * signal.  By default that is SIGIO, which ends a program with threads; so it is SIGURG, for this thread alone, which
 * has all signals blocked, and takes it off again.
 *
 * Asked can be only by the file's owner or with CAP_LEASE, on file systems that count the opens themselves: on NFS and
 * CIFS a lease is a delegation.
 *
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_COUNT_H
#define IMGLOCK_COUNT_H

#include <stdbool.h>
#include <sys/types.h>

enum count_answer {
    COUNT_UNKNOWN,  /* it cannot be asked */
    COUNT_NOBODY,   /* nobody else has it open for writing */
    COUNT_SOMEBODY, /* somebody has; or, asked through a descriptor for writing, may only be reading */
};

/* Is the file of this descriptor, which may be one with O_PATH, on a file system that counts opens?  Those are the ones
 * that keep files, on this machine. */
bool count_is_possible(int descriptor, dev_t device);

/* Asks through a descriptor of a regular file, which nobody else uses meanwhile.  Its owner and its signal, F_SETOWN
 * and F_SETSIG, are none afterwards.  type: of the lease, F_WRLCK through one that is open for writing, else F_RDLCK.
 * device: of the file. */
enum count_answer count_ask(int descriptor, short type, dev_t device);

/* The same where this thread has all signals blocked already. */
enum count_answer count_ask_unsignalled(int descriptor, short type, dev_t device, pid_t thread);

/* Opens the file of a descriptor once more, by no name, with other flags.  Waits for a moment where somebody asks for a
 * lease just now.  A descriptor, or -errno. */
int count_reopen(int descriptor, int flags);

/* Opens a file by its name, which is no link, to ask who else has it.  Waits likewise. */
int count_open(const char *path, int access);

#endif
