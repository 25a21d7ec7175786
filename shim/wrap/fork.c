/* fork.c: the function behind pthread_atfork(3), found as the wrapped functions are. */
#include "../fork.h"

#include "lookup.h"

typedef int register_function(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library);

int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library)
{
    register_function *function = (register_function *)lookup_next("__register_atfork");
    /* musl's takes the first three. */
    if (!function) function = (register_function *)lookup_next("pthread_atfork");
    return function ? function(prepare, parent, child, library) : -1;
}
