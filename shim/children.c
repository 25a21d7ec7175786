#include "children.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include "bytes.h"
#include "section.h"
#include "sys.h"

/* The lower half: how many were made or begun; the upper half: how many are being made. */
static _Atomic uint64_t children;
#define ONE_IN_THE_MAKING (UINT64_C(1) << 32)

children_moment children_now(void)
{
    return atomic_load(&children);
}

bool children_may_have(children_moment before)
{
    return before >= ONE_IN_THE_MAKING || (uint32_t)before != (uint32_t)atomic_load(&children);
}

/* The lower half wraps around without a carry into the upper one. */
static void add(uint64_t making)
{
    uint64_t was = atomic_load(&children);
    while (
        !atomic_compare_exchange_weak(&children, &was, ((was & ~(uint64_t)UINT32_MAX) + making) | (uint32_t)(was + 1)))
        continue;
}

void children_begin(void)
{
    add(ONE_IN_THE_MAKING);
}

void children_note(void)
{
    add(0);
}

void children_end(void)
{
    uint64_t was = atomic_load(&children);
    while (was >= ONE_IN_THE_MAKING && !atomic_compare_exchange_weak(&children, &was, was - ONE_IN_THE_MAKING))
        continue;
}

/* ---- descriptions that were closed here ------------------------------------------------------------------ */

/* A process that opens and closes an image while it makes children has given one description to each.  The oldest makes
 * room.  Pages that are never needed cost nothing. */
enum { KEPT = 4096 };
static struct kept {
    struct lock_name name;
    struct relatives_given given;
} kept[KEPT];
static unsigned kept_count;

void children_keep(const struct lock_name *name, int number)
{
    uint64_t chance;
    SECTION_ASSERT();
    if (sys_call(SYS_getrandom, (long)&chance, sizeof chance, GRND_NONBLOCK, 0, 0, 0) != sizeof chance) return;
    const int64_t token = TOKEN_BYTE + (int64_t)(chance % (uint64_t)TOKENS);
    if (bytes_lock(number, F_RDLCK, token, 1) < 0) return;
    kept[kept_count++ % KEPT] = (struct kept){*name, {number, token}};
}

void children_given(const struct lock_name *name, struct relatives_known *known)
{
    static struct relatives_given given[KEPT];
    SECTION_ASSERT();
    known->given = given;
    known->given_count = 0;
    for (unsigned age = 1; age <= KEPT && age <= kept_count; age++) {
        const struct kept *one = &kept[(kept_count - age) % KEPT];
        if (memcmp(one->name.hex, name->hex, sizeof name->hex) == 0) given[known->given_count++] = one->given;
    }
}

void children_forget(void)
{
    if (atomic_load(&children) != 0) atomic_store(&children, 0);
    kept_count = 0;
}
