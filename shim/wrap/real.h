/* real.h: the next definition of every symbol that we interpose: libc's, or another preload's; and of what we call
 * rarely.  The table is symbols.def.
 *
 * Looked up once each, at the first call (lookup.h), for a third of what the dynamic linker takes. */
#ifndef IMGLOCK_REAL_H
#define IMGLOCK_REAL_H

#include <stdatomic.h>

enum real_symbol {
#define WRAPPED(name, family, since) REAL_##name,
#define CALLED(name, since) REAL_##name,
#include "symbols.def"
    REAL_COUNT
};

/* The addresses of the next definitions; NULL: not looked up yet. */
extern _Atomic(void *) real_addresses[REAL_COUNT];

/* Looks one up.  Leaves errno alone. */
void *real_resolve(enum real_symbol symbol);

static inline void *real_symbol(enum real_symbol symbol)
{
    void *address = atomic_load_explicit(&real_addresses[symbol], memory_order_relaxed);
    return __builtin_expect(address != 0, 1) ? address : real_resolve(symbol);
}

/* From the constructor. */
void real_start(void);

#define REAL(name) ((__typeof__(&name))real_symbol(REAL_##name))

/* What is defined with this is what the library exports; everything else stays inside. */
#define EXPORT __attribute__((visibility("default")))

#endif
