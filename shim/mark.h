/* mark.h: the mark on an image's own open file description: locks on the bytes that QEMU (2.10 and later) uses.
 *
 * libimglock(7) says what each byte means.  A description announces what it does, then looks whether others announce
 * what does not go with it; whoever comes second sees the first, and of two who come at once at least one sees the
 * other.  The kernel keeps the marks as long as it has the description: through dup, fork, exec, a socket, a mapping, a
 * loop device.
 *
 * Everything here is about one descriptor of the program.  Errors but EAGAIN say that the file system has no locks;
 * then there are no marks.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_MARK_H
#define IMGLOCK_MARK_H

#include <stdbool.h>
#include <sys/types.h>

#include "bytes.h"
#include "fdinfo.h"
#include "protocol.h"

/* Who keeps the marks on this file system? */
enum mark_place {
    MARK_NOWHERE, /* none are set: on CIFS, whose locks are mandatory, nobody could write those bytes */
    MARK_HERE,    /* this host's kernel */
    MARK_DISTANT, /* a server, which may lose them */
};
enum mark_place mark_place(int descriptor, dev_t device);

/* Are there marks at all? */
static inline bool mark_is_possible(int descriptor, dev_t device)
{
    return mark_place(descriptor, device) != MARK_NOWHERE;
}

/* Announces what a description does: opened with this access (O_ACCMODE), for this mode.  0, or -EAGAIN: a part of it
 * excludes what somebody else has announced, and the rest is set. */
int mark_set(int descriptor, enum lock_mode mode, int access);

/* Takes it all back, of a description that no other process has or that the program is about to lock itself. */
void mark_clear(int descriptor);

/* Announces on a description that is open for reading that imglock hold has this lock, and takes that back.  By bytes
 * of their own, which imglock alone asks about.  0 or -errno. */
int mark_hold(int descriptor, enum lock_mode mode);
void mark_unhold(int descriptor);

/* Announces what mark_set does on another description, opened with this access, that is about to take the place of one.
 * Whoever looks meanwhile sees that somebody writes, at the least. */
void mark_move(int from, int to, enum lock_mode mode, int access);

/* A range in which a lock that excludes one of this type is in the way. */
struct mark_range {
    short type; /* F_RDLCK or F_WRLCK */
    off_t start, length;
};
enum { MARK_RANGES = 2 };

/* What must not be announced by others beside a description of this mode and access.  Returns how many. */
int mark_ranges(enum lock_mode mode, int access, struct mark_range ranges[MARK_RANGES]);

/* Is this a plain read lock of the whole file, with which reading goes together? */
bool mark_is_plain_reader(bool exclusive, off_t start, bool to_the_end);

/* Does this lock say that its owner reads, and no more, as qemu-img -U does?  That goes together with everything. */
bool mark_only_reads(bool exclusive, off_t start, off_t length);

/* The two parts of a range beside the byte that says so, which is in it. */
void mark_ranges_beside(const struct mark_range *range, struct mark_range beside[2]);

/* Does another description announce what does not go with this one?  *found, which may be NULL, is one of those. */
bool mark_is_in_the_way(int descriptor, enum lock_mode mode, int access, struct bytes_found *found);

/* Is this lock of somebody one that could not have come beside marks: of QEMU's bytes alone, or an exclusive one of
 * those?  Others may lock the file for reading at any time. */
bool mark_contradicts(const struct bytes_found *found);

/* The same of a file that has no descriptor here, by functions that do what bytes_lock and bytes_held do. */
struct mark_means {
    int (*lock)(void *file, short type, off_t start, off_t length);
    int (*held)(void *file, short type, off_t start, off_t length, struct bytes_found *found);
};
int mark_set_by(const struct mark_means *means, void *file, enum lock_mode mode, int access);
void mark_clear_by(const struct mark_means *means, void *file);
bool mark_is_in_the_way_by(const struct mark_means *means, void *file, enum lock_mode mode, int access);

/* Is this row of fdinfo one that mark_set leaves, or may be? */
bool mark_is_row(const struct fdinfo_lock *lock);

/* Is this the lock by which libvirt's virtlockd keeps an image for a machine (src/locking/lock_driver_lockd.c)?  It is
 * on byte 0, by F_SETLK, and virtlockd does not write to the image. */
bool mark_is_keepers(const struct fdinfo_lock *lock);

/* What the locks of one description, or of several, say.  All false: there are none. */
struct mark_meaning {
    enum {
        MARK_SAYS_READS = 1,
        MARK_SAYS_WRITES = 2,
        MARK_SAYS_UNSHARED = 4,
        MARK_SAYS_EXCLUSIVE = 8,
        MARK_SAYS_HELD = 16,
        MARK_SAYS_OTHER = 32
    } bytes;
    bool qemu;             /* QEMU's bytes are among them, which say: */
    bool writes, unshares; /* it writes; others must not write, or not at all */
    bool exclusive;        /* one is a write lock */
    bool posix;            /* one is by F_SETLK */
    bool keeper;           /* all are virtlockd's */
};

/* Adds what a row says. */
void mark_note(struct mark_meaning *meaning, const struct fdinfo_lock *lock);

/* Is that what mark_set leaves, and nothing else? */
bool mark_is_imglocks(const struct mark_meaning *meaning);

/* Has this very description marks? */
bool mark_is_there(int descriptor);

/* Has a description that came from elsewhere locks of another kind, by F_OFD_SETLK? */
bool mark_is_locked_otherwise(int descriptor);

#endif
