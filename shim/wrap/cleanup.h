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

extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buffer, void (*routine)(void *), void *argument);
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buffer, int execute);

#endif
