/* table.h: the descriptor table: what each descriptor of the program is to us.
 *
 * An entry says that a descriptor is one of an image, which then needs it shared or exclusive, or that it is one of
 * imglock's own; 0: neither, as nearly all are.  Entries are read without a lock, so that a descriptor that is no image
 * costs one load.  They are written in the section, but for the mark of a descriptor that is about to be closed. */
#ifndef IMGLOCK_TABLE_H
#define IMGLOCK_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

enum table_kind { TABLE_NONE, TABLE_SHARED, TABLE_EXCLUSIVE, TABLE_PRIVATE };

#define TABLE_CLOSE_ON_EXEC UINT64_C(4)
#define TABLE_CLOSING UINT64_C(8) /* a call that closes the descriptor is on its way */

/* From the lowest bit: the kind, the two flags, the image, and a number that tells an entry from the next one that the
 * same descriptor gets for the same image. */
enum { TABLE_IMAGE_BIT = 4, TABLE_IMAGE_BITS = 28, TABLE_NUMBER_BIT = TABLE_IMAGE_BIT + TABLE_IMAGE_BITS };

static inline uint64_t table_make(enum table_kind kind, bool close_on_exec, uint32_t image)
{
    return (uint64_t)image << TABLE_IMAGE_BIT | (close_on_exec ? TABLE_CLOSE_ON_EXEC : 0) | kind;
}

static inline enum table_kind table_kind(uint64_t entry)
{
    return (enum table_kind)(entry & 3);
}

static inline uint32_t table_image(uint64_t entry)
{
    return (uint32_t)(entry >> TABLE_IMAGE_BIT) & ((1u << TABLE_IMAGE_BITS) - 1);
}

/* Has this entry a hold? */
static inline bool table_is_hold(uint64_t entry)
{
    return table_kind(entry) == TABLE_SHARED || table_kind(entry) == TABLE_EXCLUSIVE;
}

static inline enum lock_mode table_mode(uint64_t entry)
{
    return table_kind(entry) == TABLE_EXCLUSIVE ? LOCK_EXCLUSIVE : LOCK_SHARED;
}

/* The numbers that have their entries here: the program's, and those of private descriptors, which begin at 448 at the
 * most.  Untouched pages cost nothing. */
enum { TABLE_NEAR = 4096 };
extern _Atomic uint64_t table_near[TABLE_NEAR];
uint64_t table_far_entry(unsigned descriptor);

/* What the table says of a descriptor; 0: nothing.  Any number may be asked for, negative ones too. */
static inline uint64_t table_entry(int descriptor)
{
    unsigned number = (unsigned)descriptor;
    return __builtin_expect(number < TABLE_NEAR, 1) ? atomic_load_explicit(&table_near[number], memory_order_relaxed)
                                                    : table_far_entry(number);
}

static inline bool table_is_private(int descriptor)
{
    return table_kind(table_entry(descriptor)) == TABLE_PRIVATE;
}

/* Where a descriptor's entry is, made if need be; NULL without memory.  In the section, or where it is there already.
 */
_Atomic uint64_t *table_slot(unsigned descriptor);

/* False without memory, which cannot be where there was an entry before.  In the section. */
bool table_set(int descriptor, uint64_t entry);

/* The lowest descriptor in [first, last] that has an entry, or -1. */
int64_t table_next(unsigned first, unsigned last);

#endif
