/* threads.h: has this process ever had a second thread? */
#ifndef IMGLOCK_THREADS_H
#define IMGLOCK_THREADS_H

#include <stdatomic.h>
#include <stdbool.h>

/* <sys/single_threaded.h>'s variable, which glibc has since 2.32: looked up when the library starts, so that it loads
 * into older ones and into musl.  NULL: there is none, or it is too early. */
extern _Atomic(const char *) threads_single;

/* True: this thread is the only one, surely. */
static inline bool threads_none(void)
{
    const char *single = atomic_load_explicit(&threads_single, memory_order_relaxed);
    return single && *single;
}

#endif
