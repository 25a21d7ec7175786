/* fault.c: makes the library's fallible system calls fail, each in its turn.
 *
 * By number: FAULT_AT=n and FAULT_ERRNO=number in the environment, for the n-th call of the process.  By place: a
 * program (tests/helpers/fault_places.c) records the places that an operation comes through, and then has one of them
 * fail at a time.  A place is a call with all the library's functions that led to it.
 *
 * Calls that cannot fail (getpid, the signal mask, the clock) are not counted.  A close that fails has closed, as on
 * Linux. */
#include "fault.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
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

static struct fault_plan *plan;

__attribute__((visibility("default"))) void imglock_fault_plan(struct fault_plan *given);
void imglock_fault_plan(struct fault_plan *given)
{
    plan = given;
}

/* The library's functions that led here, by their return addresses: these objects have frame pointers. */
static __attribute__((noinline)) unsigned long place_of(long number, long b, unsigned long at[2])
{
    extern const char __ehdr_start[], etext[];
    const unsigned long start = (unsigned long)__ehdr_start, end = (unsigned long)etext;
    /* What a fcntl does tells its command. */
    unsigned long hash = (unsigned long)number * 31 + (number == SYS_WIDE_FCNTL ? (unsigned long)b : 0);
    unsigned long *const *frame = __builtin_frame_address(0);
    for (int depth = 0; depth < 24; depth++) {
        const unsigned long back = (unsigned long)frame[1];
        if (back < start || back >= end) break;
        hash = (hash ^ (back - start)) * 0x9e3779b97f4a7c15;
        /* The first two are in this file. */
        if (depth == 2 || depth == 3) at[depth - 2] = back - start - 1;
        frame = (unsigned long *const *)frame[0];
    }
    return hash;
}

static __attribute__((noinline)) long fail_by_place(long number, long a, long b, long c)
{
    unsigned long calls[2] = {0};
    const unsigned long place = place_of(number, b, calls);
    struct fault_place *at = plan->places;
    while (at < plan->places + plan->count && at->place != place) at++;
    if (at == plan->places + plan->count) {
        if (!plan->records || plan->count == FAULT_PLACES) return 0;
        static const char link[] = "/proc/self/fd/";
        *at = (struct fault_place){
            .place = place,
            .number = number,
            .at = {calls[0], calls[1]},
            .quiet = number == SYS_WIDE_FSTAT && a == 2,
            .reopens = number == SYS_openat &&
                       (*(const char *)b != '/' || strncmp((const char *)b, link, sizeof link - 1) == 0),
            .looks_up = number == SYS_readlinkat && strncmp((const char *)b, "/proc/", 6) != 0,
            .unlocks = number == SYS_WIDE_FCNTL && b == F_OFD_SETLK && ((const struct flock *)c)->l_type == F_UNLCK};
        plan->count++;
    }
    if (plan->records) at->times++;
    if (at != plan->chosen || ++plan->passed != plan->turn) return 0;
    plan->failed = 1;
    return -plan->error;
}

static long number_from(const char *variable)
{
    const char *value = getenv(variable);
    return value ? strtol(value, NULL, 10) : 0;
}

long sys_fault(long number, long a, long b, long c)
{
    switch (number) {
    case SYS_getpid:
    case SYS_getppid:
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
    case SYS_nanosleep:
        return 0;
    default:
        break;
    }
    long at = atomic_fetch_add(&count, 1) + 1;
    long fault = plan                            ? fail_by_place(number, a, b, c)
                 : at == number_from("FAULT_AT") ? -number_from("FAULT_ERRNO")
                                                 : 0;
    if (fault && number == SYS_close) REAL(close)((int)a);
    return fault;
}
