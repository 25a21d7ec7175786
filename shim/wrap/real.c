#include "real.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

static const char *const names[REAL_COUNT] = {
#define X(name) [REAL_##name] = #name,
    REAL_SYMBOLS(X)
#undef X
};
static _Atomic(void *) addresses[REAL_COUNT];

/* For a symbol that this libc lacks: nothing can call its wrapper except by dlsym, and gets what a system
 * without the call gives. */
static long not_there(void)
{
    errno = ENOSYS;
    return -1;
}

static void *resolve(enum real_symbol symbol)
{
    int saved = errno;
    void *address = dlsym(RTLD_NEXT, names[symbol]);
    if (!address) {
        dlerror();
        address = (void *)not_there;
    }
    atomic_store_explicit(&addresses[symbol], address, memory_order_release);
    errno = saved;
    return address;
}

void *real_symbol(enum real_symbol symbol)
{
    void *address = atomic_load_explicit(&addresses[symbol], memory_order_relaxed);
    return __builtin_expect(address != 0, 1) ? address : resolve(symbol);
}

void real_resolve_all(void)
{
    for (int symbol = 0; symbol < REAL_COUNT; symbol++) resolve((enum real_symbol)symbol);
}
