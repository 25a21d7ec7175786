#include "cleanup.h"

#include "lookup.h"

_Atomic(void *) cleanup_push_address = NULL, cleanup_pop_address = NULL;

/* libpthread may be loaded with a library at any time, before the first thread: what is not found is asked for again.
 */
void *cleanup_find(_Atomic(void *) *known, const char *name)
{
    void *address = lookup_next(name);
    if (!address) address = lookup_anywhere(name);
    atomic_store_explicit(known, address, memory_order_relaxed);
    return address;
}
