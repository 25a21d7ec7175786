#include "cleanup.h"

#include <stdatomic.h>
#include <stddef.h>

#include "lookup.h"

typedef void push_function(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *), void *argument);
typedef void pop_function(struct _pthread_cleanup_buffer *buffer, int execute);

static _Atomic(void *) push, pop;

/* NULL: a glibc before 2.34, and no libpthread so far.  It may be loaded with a library at any time, before the first
 * thread, so that is asked again. */
static void *find(_Atomic(void *) *known, const char *name)
{
    void *address = atomic_load_explicit(known, memory_order_relaxed);
    if (address) return address;
    address = lookup_next(name);
    if (!address) address = lookup_anywhere(name);
    atomic_store_explicit(known, address, memory_order_relaxed);
    return address;
}

void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *), void *argument)
{
    push_function *function = (push_function *)find(&push, "_pthread_cleanup_push");
    buffer->__routine = NULL; /* not pushed */
    if (function) function(buffer, routine, argument);
}

void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int execute)
{
    if (!buffer->__routine) return;
    pop_function *function = (pop_function *)find(&pop, "_pthread_cleanup_pop");
    function(buffer, execute);
}
