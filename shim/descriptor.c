#include "descriptor.h"

#include <errno.h>
#include <stdatomic.h>

#include "sys.h"

/* The kernel's table grows with the highest number in use, to a power of two, and fork copies all of it: 512 numbers
 * are 4 KiB, with room for 64 images from here on, and a million are 8 MiB.  RLIMIT_NOFILE is 1,073,741,816 in some
 * containers, and 1,024 nearly everywhere else. */
enum { HIGHEST_BASE = 448 };

/* The number above which the last private descriptor found room; 0 before the first. */
static _Atomic int base;

int descriptor_copy_above(int descriptor, int lowest)
{
    return sys_fcntl(descriptor, F_DUPFD_CLOEXEC, lowest);
}

/* base_for_limit at the start. */
static int first_base;

int descriptor_lowest(void)
{
    int lowest = atomic_load_explicit(&base, memory_order_relaxed);
    return lowest ? lowest : first_base;
}

static int base_for_limit(void)
{
    struct rlimit limit;
    if (sys_nofile_limit(&limit) < 0) return 192;
    return limit.rlim_cur > HIGHEST_BASE / 3 * 4 ? HIGHEST_BASE : (int)(limit.rlim_cur - limit.rlim_cur / 4);
}

int descriptor_move_high(int descriptor, bool through_exec)
{
    int command = through_exec ? F_DUPFD : F_DUPFD_CLOEXEC;
    int lowest = atomic_load_explicit(&base, memory_order_relaxed);
    int high = lowest ? sys_fcntl(descriptor, command, lowest) : -EINVAL;
    if (high < 0) {
        /* The first time, or the program has lowered its limit or used up the numbers above. */
        for (lowest = base_for_limit(); lowest > descriptor; lowest -= lowest / 4 + 1) {
            high = sys_fcntl(descriptor, command, lowest);
            if (high >= 0) break;
        }
        if (high < 0) {
            if (through_exec) sys_fcntl(descriptor, F_SETFD, 0);
            return descriptor;
        }
        atomic_store_explicit(&base, lowest, memory_order_relaxed);
    }
    sys_close(descriptor);
    return high;
}

void descriptor_start(void)
{
    /* Any open descriptor will do but one of a file that can be locked: to close its copy drops F_SETLK locks that came
     * through exec.  Where there is no other, a handle is made for it. */
    struct stat status;
    int any = 0;
    while (any < 3 && (sys_fstat(any, &status) < 0 || S_ISREG(status.st_mode) || S_ISBLK(status.st_mode))) any++;
    int made = any == 3 ? sys_openat(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0) : -1;
    first_base = base_for_limit();
    int high = descriptor_copy_above(any == 3 ? made : any, first_base);
    if (high >= 0) sys_close(high);
    if (made >= 0) sys_close(made);
}
