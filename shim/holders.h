/* holders.h: who holds a lock: slots in the lock file.
 *
 * A holder claims slot i by locking byte SLOT_BYTE+i, writes its record there (record.h), and keeps the byte shared.  A
 * record counts only while its byte is locked that way: liveness comes from the kernel, never from the pid in the text.
 * One description claims one slot; a new state is a new slot. */
#ifndef IMGLOCK_HOLDERS_H
#define IMGLOCK_HOLDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"

/* Claims a free slot of the lock file for this process and writes its record.  former: the slot that the description
 * has already, which the kernel would give it once more, or -1.  Returns the slot, or -1 when there is none or it
 * cannot be written: the lock holds all the same.  Somebody who has locked thousands of slots costs it some tries, no
 * more. */
int holders_claim(int lock_descriptor, int former, const struct holder_note *note);

/* Claims a slot through another process's descriptor, for that process, whose former slot is holder->slot.  Returns the
 * slot, or -1. */
int holders_claim_for(int lock_descriptor, const struct holder *holder);

/* Gives a slot back.  Only on a description that no other process can have. */
void holders_leave(int lock_descriptor, int slot);

/* Reads the record of one slot, whether or not its byte is locked.  False when it is not whole. */
bool holders_read(int lock_descriptor, int slot, struct holder *holder);

/* Finds the lowest claimed slot >= from.  False when there is none.  Claims of this very open file description
 * are not seen, since a lock never conflicts with itself. */
bool holders_next(int lock_descriptor, int from, struct holder *holder);

/* Going through all slots: 4,096 of them, locked by one hostile user, take a second.  Names are a service, so whoever
 * looks for names stops at a deadline and says that there may be more. */
struct holders_walk {
    int lock_descriptor; /* -1: nobody is found */
    int64_t deadline;    /* of this thread's processor time, ns: a machine with much to do cuts nothing short */
    int next, seen;
    bool unfinished; /* result: the deadline came first */
};
enum { HOLDERS_WALK_NS = 50 * 1000 * 1000 };
struct holders_walk holders_begin(int lock_descriptor);
bool holders_walk(struct holders_walk *walk, struct holder *holder);

#endif
