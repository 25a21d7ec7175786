/* record.h: the text by which a holder says who it is, and the header that names the image.
 *
 * Both are text that any user may have written: nothing here trusts it further than its checksum, nothing decides by
 * it, and whoever prints it escapes it.  A record is written once and never again; who has something new to say claims
 * another slot (holders.h). */
#ifndef IMGLOCK_RECORD_H
#define IMGLOCK_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "process.h"
#include "protocol.h"

struct holder {
    int slot;
    bool recorded; /* the slot's record is whole; else all below is unknown */
    struct process_identity process;
    uid_t uid;                /* that it had then: see record_user */
    enum lock_mode mode;      /* below LOCK_SHARED: has the image open, and no lock */
    bool beside;              /* holds a byte of the relatives' range, beside a relative's lock */
    int64_t since_ms;         /* wall clock, milliseconds since 1970 */
    int descriptor;           /* the private descriptor in that process */
    unsigned block;           /* 1 << enum operation, each: what it forbids others */
    char reason[RECORD_SIZE]; /* why, or empty; escaped text, as all strings here */
};

/* What a holder says of itself in its record, beside what is known of the process. */
struct holder_note {
    enum lock_mode mode;
    bool beside;
    unsigned block;
    const char *reason; /* or NULL; cut to what fits, some 40 bytes at the least, mostly 100 */
    int64_t since_ms;   /* wall clock, milliseconds since 1970; 0: now */
    pid_t section;      /* this process's pid, where the caller is in track's section with all signals blocked: then the
                           text of its last record is used again; else 0 */
};

/* The wall clock, milliseconds since 1970. */
int64_t record_now(void);

/* This process is a fork child: the text of the last record is its parent's. */
void record_forget(void);

/* Writes the record of a slot that this process has claimed. */
void record_write(int lock_descriptor, int slot, const struct holder_note *note);

/* Writes the record of a slot for another process, as *holder has it.  lock_descriptor is that process's own. */
void record_write_for(int lock_descriptor, int slot, const struct holder *holder);

/* Reads the record of holder->slot, whether or not its byte is locked: fills the rest. */
void record_read(int lock_descriptor, struct holder *holder);

/* The effective user of the holder's process, as it is now; of one that cannot be seen from here, what its record says.
 */
uid_t record_user(const struct holder *holder);

/* Writes the lock file's header, which names the image: the way from the sha1 back to a path. */
void record_write_header(int lock_descriptor, const char *image_path);

/* Does the file begin as a lock file of ours does? */
bool record_has_header(int lock_descriptor);

/* Reads the image's path from the header into path[PATH_MAX].  False when there is none. */
bool record_read_header(int lock_descriptor, char *path);

#endif
