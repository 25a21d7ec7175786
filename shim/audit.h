/* audit.h: what happens to images, as JSON Lines in the file that IMGLOCK_AUDIT names.
 *
 * One event is one line is one write(2) on a descriptor opened with O_APPEND for it, so many processes can write one
 * log. A log that cannot be written costs lines, never an open.  Nothing here allocates from the program's heap, sets
 * errno or is unsafe in a signal handler; without IMGLOCK_AUDIT every function returns at once.
 *
 * The lines: v, time, mono_ns, event, the process (pid, tid, ppid, start, boot, uid, comm, exe, cmdline), the image
 * (image, lock, dev, ino), and what the event has to say.  boot is the beginning of the boot id: mono_ns and start of
 * two boots, or of two machines, are not to be compared.  A string that is no UTF-8 has U+FFFD for its bad bytes, and
 * its bytes as an array under its name with _raw. */
#ifndef IMGLOCK_AUDIT_H
#define IMGLOCK_AUDIT_H

#include "lock.h"
#include "markers.h"
#include "outsiders.h"
#include "policy.h"

struct audit_image {
    const char *path; /* real; NULL: look it up in the header of the lock file lock_descriptor */
    const struct lock_name *name;
    int lock_descriptor; /* open on the lock file, whose records name the holders; -1: none */
    dev_t device;        /* both 0: not known yet */
    ino_t inode;
    const struct marker *marker;     /* who is in the way without a record: by what it has announced on the image, */
    const struct outsider *outsider; /* or as the kernel counts it; NULL: nobody */
};

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t audit_now(void);

void audit_open(const struct settings *settings, const struct audit_image *image, int descriptor, int flags,
                enum lock_mode mode);
/* family: let past the lock of an ancestor. */
void audit_acquire(const struct settings *settings, const struct audit_image *image, enum lock_mode mode,
                   int64_t wait_ns, bool family);
void audit_convert(const struct settings *settings, const struct audit_image *image, enum lock_mode from,
                   enum lock_mode to);
void audit_wait(const struct settings *settings, const struct audit_image *image, enum lock_mode mode);

/* error: what the refused open returned, 0: it was let through. */
void audit_conflict(const struct settings *settings, const struct audit_image *image, int flags, enum lock_mode wanted,
                    int error);
void audit_guard(const struct settings *settings, const struct audit_image *image, const char *operation, int error);
void audit_problem(const struct settings *settings, const struct audit_image *image, const char *what, int cause,
                   int error);

/* mode LOCK_NONE: the image was open without a lock. */
void audit_release(const struct settings *settings, const struct audit_image *image, enum lock_mode mode,
                   int64_t since);
void audit_lost(const struct settings *settings, const struct audit_image *image, enum lock_mode mode, bool regained);

/* imglock audit names memory by this variable, as a path, in which every process below it notes which programs have a
 * line: AUDIT_TOLD_MAGIC and then numbers of files, 0 where there is room. */
#define AUDIT_TOLD_VARIABLE "IMGLOCK_AUDIT_TOLD"
#define AUDIT_TOLD_MAGIC UINT64_C(0x696d676c6f636b31)
enum { AUDIT_TOLD_SIZE = 4096 };

/* The process executes a program into which the library does not get; why: "static", "set-user-ID", "foreign", "Go",
 * "environment". */
void audit_unwatched(const struct settings *settings, const char *program, const char *why);

/* The process that had this pid, and started then, is over: written by who watches it, for it cannot. */
void audit_exit(const char *log, pid_t pid, uint64_t start);

#endif
