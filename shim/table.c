#include "table.h"

#include "section.h"
#include "sys.h"

/* The near numbers, and three levels of 1,024.
 *
 * Numbers go up to 2^30 (fs.nr_open), and RLIMIT_NOFILE says nothing about those in use.  The near numbers are ours
 * from the start; the rest is mapped when first needed and never freed: readers use no lock. */
enum { LEVEL = 1024 };
typedef _Atomic uint64_t table_leaf[LEVEL];
typedef _Atomic(table_leaf *) table_branch[LEVEL];
typedef _Atomic(table_branch *) table_trunk[LEVEL];
/* The first touch of a page takes 2 us, as long as ten system calls that have nothing to do: what a process with one
 * image needs lies close together, and this comes after it. */
_Atomic uint64_t table_near[TABLE_NEAR];
/* Above the highest near number that ever had an entry.  Whoever goes through all of them need not touch the pages
 * behind it: a process's first closefrom would take 11 us in place of 4. */
static _Atomic unsigned near_end;
static _Atomic(table_trunk *) trunk;

/* NULL where nothing is mapped yet. */
static table_branch *branch_for(unsigned number)
{
    table_trunk *level_one = atomic_load_explicit(&trunk, memory_order_acquire);
    return level_one ? atomic_load_explicit(&(*level_one)[number >> 20], memory_order_acquire) : NULL;
}

static _Atomic uint64_t *far_slot(unsigned number)
{
    if (number >= 1u << 30) return NULL;
    table_branch *branch = branch_for(number);
    if (!branch) return NULL;
    table_leaf *leaf = atomic_load_explicit(&(*branch)[number >> 10 & 1023], memory_order_acquire);
    return leaf ? &(*leaf)[number & 1023] : NULL;
}

uint64_t table_far_entry(unsigned number)
{
    _Atomic uint64_t *slot = far_slot(number);
    return slot ? atomic_load_explicit(slot, memory_order_relaxed) : 0;
}

_Atomic uint64_t *table_slot(unsigned number)
{
    if (number < TABLE_NEAR) {
        if (number >= atomic_load_explicit(&near_end, memory_order_relaxed)) atomic_store(&near_end, number + 1);
        return &table_near[number];
    }
    if (number >= 1u << 30) return NULL;
    if (!trunk) atomic_store_explicit(&trunk, sys_mmap(sizeof(table_trunk)), memory_order_release);
    if (!trunk) return NULL;
    _Atomic(table_branch *) *branch = &(*trunk)[number >> 20];
    if (!*branch) atomic_store_explicit(branch, sys_mmap(sizeof(table_branch)), memory_order_release);
    if (!*branch) return NULL;
    _Atomic(table_leaf *) *leaf = &(**branch)[number >> 10 & 1023];
    if (!*leaf) atomic_store_explicit(leaf, sys_mmap(sizeof(table_leaf)), memory_order_release);
    return *leaf ? &(**leaf)[number & 1023] : NULL;
}

bool table_set(int descriptor, uint64_t entry)
{
    SECTION_ASSERT();
    _Atomic uint64_t *slot = table_slot((unsigned)descriptor);
    if (slot) atomic_store_explicit(slot, entry, memory_order_release);
    return slot;
}

int64_t table_next(unsigned first, unsigned last)
{
    for (uint64_t number = first; number <= last && number < 1u << 30;) {
        if (number < TABLE_NEAR && number >= atomic_load(&near_end)) {
            number = TABLE_NEAR;
            continue;
        }
        if (number >= TABLE_NEAR) {
            /* Step over what was never mapped. */
            table_branch *branch = branch_for((unsigned)number);
            if (!branch) {
                number = (number | 0xfffff) + 1;
                continue;
            }
            if (!atomic_load_explicit(&(*branch)[number >> 10 & 1023], memory_order_acquire)) {
                number = (number | 0x3ff) + 1;
                continue;
            }
        }
        if (table_entry((int)number)) return (int64_t)number;
        number++;
    }
    return -1;
}
