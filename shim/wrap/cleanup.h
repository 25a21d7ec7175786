/* cleanup.h: undoing a step when the program's own call does not come back.
 *
 * open and close are cancellation points, and a signal handler may siglongjmp out of them.  Handlers that are
 * registered the old way, on a list that glibc keeps for each thread, run in both cases (__pthread_cleanup_upto
 * and unwind_stop in nptl); the way of <pthread.h>'s macros runs only at cancellation, and needs -fexceptions and
 * libgcc for the rest.  No system call; safe in a signal handler.
 *
 * These two are our own, and find libc's (cleanup.c): before glibc 2.34 they are in libpthread, which a program without
 * threads has not loaded, and needs not. */
#ifndef IMGLOCK_CLEANUP_H
#define IMGLOCK_CLEANUP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

typedef void cleanup_push_function(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *), void *argument);
typedef void cleanup_pop_function(struct _pthread_cleanup_buffer *buffer, int execute);
extern _Atomic(void *) cleanup_push_address, cleanup_pop_address;

/* Looks one up; NULL: there is none, so far. */
void *cleanup_find(_Atomic(void *) *known, const char *name);

static inline void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *),
                                         void *argument)
{
    void *push = atomic_load_explicit(&cleanup_push_address, memory_order_relaxed);
    if (__builtin_expect(!push, 0)) push = cleanup_find(&cleanup_push_address, "_pthread_cleanup_push");
    buffer->__routine = NULL; /* not pushed */
    if (__builtin_expect(push != NULL, 1)) ((cleanup_push_function *)push)(buffer, routine, argument);
}

static inline void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int execute)
{
    void *pop = atomic_load_explicit(&cleanup_pop_address, memory_order_relaxed);
    if (!buffer->__routine) return;
    if (__builtin_expect(!pop, 0)) pop = cleanup_find(&cleanup_pop_address, "_pthread_cleanup_pop");
    ((cleanup_pop_function *)pop)(buffer, execute);
}

#endif
