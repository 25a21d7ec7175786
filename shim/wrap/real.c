#include "real.h"

#include <errno.h>
#include <stdatomic.h>

#include "../fork.h"
#include "../threads.h"
#include "lookup.h"

/* In rows of the same length, since pointers to them would have to be relocated when the library is loaded. */
union longest {
#define WRAPPED(name, family, since) char of_##name[sizeof #name];
#define CALLED(name, since) char of_##name[sizeof #name];
#include "symbols.def"
};
static const char names[REAL_COUNT][sizeof(union longest)] = {
#define WRAPPED(name, family, since) #name,
#define CALLED(name, since) #name,
#include "symbols.def"
};
AT_START _Atomic(void *) real_addresses[REAL_COUNT];

/* For a symbol that nothing here has: nothing can call its wrapper except by dlsym, and gets what a system
 * without the call gives. */
static long not_there(void)
{
    errno = ENOSYS;
    return -1;
}

/* The same for those that return an error and leave errno alone. */
static int spawn_not_there(void)
{
    return ENOSYS;
}

void *real_resolve(enum real_symbol symbol)
{
    void *address = lookup_next(names[symbol]);
    /* What this libc lacks a library behind it may have, as libbsd has closefrom. */
    if (!address) address = lookup_anywhere(names[symbol]);
    if (!address && (symbol == REAL_pidfd_spawn || symbol == REAL_pidfd_spawnp)) address = (void *)spawn_not_there;
    if (!address) address = (void *)not_there;
    atomic_store_explicit(&real_addresses[symbol], address, memory_order_relaxed);
    return address;
}

/* What a fork child calls first is looked up before the first fork: each child would look it up anew, on pages of the
 * libraries that fork does not hand down, for five times as much. */
static void look_up_for_child(void)
{
    if (real_addresses[REAL_execve]) return;
    static const enum real_symbol symbols[] = {REAL_open, REAL_close, REAL_dup2, REAL_execv, REAL_execvp, REAL_execve};
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) real_resolve(symbols[i]);
}

void real_start(void)
{
    fork_handlers(look_up_for_child, NULL, NULL);
    lookup_start();
    atomic_store_explicit(&threads_single, lookup_anywhere("__libc_single_threaded"), memory_order_relaxed);
}
