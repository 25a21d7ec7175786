/* fault.c: makes the library's n-th fallible system call fail.
 *
 * FAULT_AT=n and FAULT_ERRNO=number in the environment.  Calls that cannot fail (getpid, the signal mask, the clock)
 * are not counted.  A close that fails has closed, as on Linux. */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "images.h"
#include "sys.h"
#include "wrap/real.h"

static atomic_long count;

/* For the scenario, which finds it with dlsym. */
__attribute__((visibility("default"))) long imglock_fault_count(void);
long imglock_fault_count(void)
{
    return atomic_load(&count);
}

/* What has to be called in the critical section, called outside of it: for the test of that assertion. */
__attribute__((visibility("default"))) void imglock_fault_outside_section(void);
void imglock_fault_outside_section(void)
{
    images_count(0, LOCK_SHARED);
}

static long number_from(const char *variable)
{
    const char *value = getenv(variable);
    return value ? strtol(value, NULL, 10) : 0;
}

long sys_fault(long number, long a)
{
    switch (number) {
    case SYS_getpid:
    case SYS_gettid:
    case SYS_geteuid:
    case SYS_rt_sigprocmask:
    case SYS_rt_sigpending:
    case SYS_rt_sigtimedwait:
    case SYS_sched_yield:
    case SYS_clock_gettime:
    case SYS_tkill:
    case SYS_munmap:
    case SYS_write:
        return 0;
    default:
        break;
    }
    long at = atomic_fetch_add(&count, 1) + 1;
    if (at != number_from("FAULT_AT")) return 0;
    if (number == SYS_close) REAL(close)((int)a);
    return -number_from("FAULT_ERRNO");
}
