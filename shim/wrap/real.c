#include "real.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

static const char *const names[REAL_COUNT] = {
#define X(name) [REAL_##name] = #name,
    REAL_SYMBOLS(X)
#undef X
};
_Atomic(void *) real_addresses[REAL_COUNT];

/* For a symbol that this libc lacks: nothing can call its wrapper except by dlsym, and gets what a system
 * without the call gives. */
static long not_there(void)
{
    errno = ENOSYS;
    return -1;
}

void *real_resolve(enum real_symbol symbol)
{
    int saved = errno;
    void *address = dlsym(RTLD_NEXT, names[symbol]);
    if (!address) {
        dlerror();
        address = (void *)not_there;
    }
    atomic_store_explicit(&real_addresses[symbol], address, memory_order_release);
    errno = saved;
    return address;
}

void real_resolve_all(void)
{
    for (int symbol = 0; symbol < REAL_COUNT; symbol++) real_resolve((enum real_symbol)symbol);
}
