/* owned.h: what an open file description holds of a lock file, by the kernel's word and never by a record's. */
#ifndef IMGLOCK_OWNED_H
#define IMGLOCK_OWNED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { FIRST_BYTE = 1 << 0, SECOND_BYTE = 1 << 1, BOTH_BYTES = FIRST_BYTE | SECOND_BYTE };

struct owned {
    unsigned bytes; /* FIRST_BYTE and SECOND_BYTE, held in whatever way */
    bool shared;    /* holds them shared */
    bool beside;    /* holds a byte of the relatives' range */
    int slots[8];   /* more than one: what changed its record was cut short */
    size_t slot_count;
    bool writing; /* holds a slot exclusively: its record was being written when that was cut short */
};

/* -1: nothing.  The kernel's own word on a duplicate is its word on the process's descriptor: both are one open file
 * description. */
struct owned owned_by(int descriptor);

/* What others than this open file description lock in a range: F_UNLCK, F_RDLCK or F_WRLCK. */
short owned_by_others(int descriptor, off_t start, off_t length);

/* Do others hold a byte of the relatives' range? */
bool owned_by_descendants(int descriptor);

#endif
