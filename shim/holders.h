/* holders.h: who holds a lock: slots and records in the lock file.
 *
 * A holder claims slot i by locking byte 1024+i and writes its record, readable text, at 4096+256*i.  A record
 * counts only while its byte is locked: liveness comes from the kernel, never from the pid in the text.  And it
 * is text that any user may have written: nothing here trusts it further than its checksum, and whoever prints
 * it escapes it. */
#ifndef IMGLOCK_HOLDERS_H
#define IMGLOCK_HOLDERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy.h"

struct holder {
    int slot;
    bool recorded; /* the slot's record is whole; else all below is unknown */
    pid_t pid;
    uint64_t start;      /* the process's start, clock ticks since boot, /proc/PID/stat field 22 */
    uint64_t boot;       /* first 64 bits of the boot id */
    uint64_t pid_space;  /* inode of the pid namespace */
    uid_t uid;           /* that it had then: see holders_user */
    enum lock_mode mode; /* below LOCK_SHARED: has the image open, and no lock */
    int family;          /* 0, or which pair of the descendants' bytes it holds */
    int64_t since_ms;    /* wall clock, milliseconds since 1970 */
    int descriptor;      /* the private descriptor in that process */
    unsigned block;      /* 1 << enum operation, each: what it forbids others */
    char host[33];       /* escaped text, as all strings here */
    char command[49];
    char reason[RECORD_SIZE]; /* why, or empty */
};

/* What a holder says of itself in its record, beside what is known of the process. */
struct holder_note {
    enum lock_mode mode;
    int family;
    unsigned block;
    const char *reason; /* or NULL; cut to what fits, some 40 bytes at the least, mostly 100 */
    int64_t since_ms;   /* wall clock, milliseconds since 1970; 0: now */
    pid_t process;      /* this process, where the caller knows it and has blocked all signals; else 0 */
};

/* The wall clock, milliseconds since 1970. */
int64_t holders_now(void);

/* This process, as its records tell of it.  Reads /proc at the first call in a process; where there is no /proc
 * the fields stay 0.  From any thread. */
const struct holder *holders_self(void);

/* This process is a fork child: what is remembered is the parent's, whose pid it may have as well, in a PID namespace
 * of its own. */
void holders_forget_self(void);

/* Claims a free slot of the lock file for this process and writes its record.  Returns the slot, or -1 when
 * there is none or it cannot be written: the lock holds all the same. */
int holders_claim(int lock_descriptor, const struct holder_note *note);

/* Writes the slot's record anew, after a conversion. */
void holders_rewrite(int lock_descriptor, int slot, const struct holder_note *note);

/* Writes another process's record anew, as it was but for the mode, which is from now on.  lock_descriptor is that
 * process's own. */
void holders_rewrite_for(int lock_descriptor, const struct holder *holder, enum lock_mode mode);

/* Reads the record of one slot, whether or not its byte is locked.  False when it is not whole. */
bool holders_read(int lock_descriptor, int slot, struct holder *holder);

/* Finds the record that goes with this very open file description, whichever process wrote it: a descriptor that came
 * through fork and exec tells nothing else of its lock. */
bool holders_find_own(int lock_descriptor, struct holder *holder);

/* Finds the lowest claimed slot >= from.  False when there is none.  Claims of this very open file description
 * are not seen, since a lock never conflicts with itself. */
bool holders_next(int lock_descriptor, int from, struct holder *holder);

/* Writes the lock file's header, which names the image: the way from the sha1 back to a path. */
void holders_write_header(int lock_descriptor, const char *image_path);

/* Does the file begin as a lock file of ours does? */
bool holders_has_header(int lock_descriptor);

/* Reads the image's path from the header into path[PATH_MAX].  False when there is none. */
bool holders_read_header(int lock_descriptor, char *path);

/* The effective user of the holder's process, as it is now; of one that cannot be seen from here, what its record says.
 */
uid_t holders_user(const struct holder *holder);

/* Start time and parent of the process with this number in /proc, from /proc/PID/stat; 0: of this process.  command may
 * be NULL, else 17 bytes.  False when the process is gone or /proc is not there.  The numbers, the parent's too, are
 * pids only where /proc belongs to this process's PID namespace: unshare -p without --mount-proc leaves another's. */
bool holders_look_up(pid_t number, uint64_t *start, pid_t *parent, char *command);

/* How many PID namespaces from that of /proc to its own the process with this number in /proc has a pid in, and the
 * last of these; 0: not told. */
int holders_space_pids(pid_t number, uint64_t *innermost);

/* Is the process with this number in /proc the one that has this pid in the PID namespace of this process? */
bool holders_is_process(pid_t pid, pid_t number);

#endif
