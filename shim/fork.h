/* fork.h: handlers that run around fork(3). */
#ifndef IMGLOCK_FORK_H
#define IMGLOCK_FORK_H

#include <stddef.h>

/* What pthread_atfork(3) calls.  That is a function of each library's own, from libc_nonshared.a, and would be on a
 * page that nothing else needs at the start.  In the library it is our own, and finds libc's (wrap/fork.c): musl has
 * none of that name. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library);

/* As pthread_atfork; each may be NULL.  The handlers stay: we are never unloaded (-z nodelete). */
static inline void fork_handlers(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    __register_atfork(prepare, parent, child, NULL);
}

#endif
