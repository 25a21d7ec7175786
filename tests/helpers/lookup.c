// link: -shared -fPIC build/shim/wrap/lookup.o
/* lookup.c: a library to preload.  Of every symbol that imglock interposes, it compares what imglock's own lookup finds
 * behind this library with what dlsym finds, and says how many there were. */
#include <dlfcn.h>
#include <stdio.h>

#include "../../shim/wrap/lookup.h"
#include "../../shim/wrap/real.h"
#include "symbols.h"

/* Before glibc 2.36 dlsym(RTLD_NEXT) finds the oldest version (bug 14932), be it one for programs of long ago: two of
 * libc's functions and chosen.c's have more than one, and libpthread has some that moved to libc. */
static void *newest(const char *name, void *found)
{
    Dl_info where;
    if (!found || !dladdr(found, &where)) return found;
    return dlsym(dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD), name);
}

__attribute__((constructor)) static void compare(void)
{
    static const char *const names[] = {
#define WRAPPED(name, family, since) #name,
#define CALLED(name, since) #name,
#include "../../shim/wrap/symbols.def"
    };
    int same = 0, missing = 0;
    const bool old = atoi(strchr(gnu_get_libc_version(), '.') + 1) < 36;
    for (int i = 0; i < REAL_COUNT; i++) {
        void *found = lookup_next(names[i]) ?: lookup_anywhere(names[i]), *expected = dlsym(RTLD_NEXT, names[i]);
        if (old) expected = newest(names[i], expected);
        if (found != expected) dprintf(1, "%s: found %p, dlsym %p\n", names[i], found, expected);
        same += found == expected;
        missing += !found && libc_has(names[i]);
    }
    if (lookup_next("no such symbol")) dprintf(1, "found what is not there\n");
    dprintf(1, "%s, %d missing\n", same == REAL_COUNT ? "all the same" : "not the same", missing);
}
