#include "count.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdatomic.h>

#include "realpath.h"
#include "sys.h"
#include "threads.h"

/* ---- where it can be asked ------------------------------------------------------------------------------ */

enum { ZFS_MAGIC = 0x2fc12fc1 }; /* <linux/magic.h> has no name for it */

static bool counts_itself(int descriptor)
{
    struct statfs about;
    if (sys_fstatfs(descriptor, &about) < 0) return false;
    switch ((uint32_t)about.f_type) {
    case EXT4_SUPER_MAGIC: /* and of ext2 and ext3 */
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case ZFS_MAGIC:
    case TMPFS_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
        return true;
    default:
        return false;
    }
}

/* The device that was found to count last, in place of a call at each image. */
bool count_is_possible(int descriptor, dev_t device)
{
    static _Atomic uint64_t known;
    if (device && known == device) return true;
    if (!counts_itself(descriptor)) return false;
    known = device;
    return true;
}

/* ---- asking --------------------------------------------------------------------------------------------- */

/* Takes the signal of a broken lease off again, and none else.  Where one of that number was pending before, the kernel
 * has added none. */
static void take_signal(int descriptor, pid_t thread)
{
    static const sys_signals urgent = (sys_signals)1 << (SIGURG - 1);
    siginfo_t signal;
    if (sys_sigtake(&urgent, &signal) < 0) return;
    if (signal.si_code > 0 && signal.si_code < SI_KERNEL && signal.si_fd == descriptor) return;
    take_signal(descriptor, thread);
    if (signal.si_code == SI_TKILL)
        sys_call(SYS_rt_tgsigqueueinfo, sys_getpid(), thread, SIGURG, (long)&signal, 0, 0);
    else /* to the thread's process */
        sys_call(SYS_rt_sigqueueinfo, thread, SIGURG, (long)&signal, 0, 0, 0);
}

/* What is set once can be set back; but a filter of system calls may have its own mind, and a lease that stays holds up
 * every other open for as long as /proc/sys/fs/lease-break-time says. */
static void set(int descriptor, int command, long argument)
{
    if (sys_fcntl(descriptor, command, argument) < 0) sys_fcntl(descriptor, command, argument);
}

static void set_owner(int descriptor, pid_t thread)
{
    struct f_owner_ex owner = {F_OWNER_TID, thread};
    set(descriptor, F_SETOWN_EX, (long)&owner);
}

static int ask_for_lease(int descriptor, short type, pid_t thread)
{
    int result = sys_fcntl(descriptor, F_SETSIG, SIGURG);
    if (result < 0) return result;
    /* With the lease the kernel sets the process, where there is no owner: of one thread that is the same. */
    const bool owned = !threads_none();
    if (owned) set_owner(descriptor, thread);
    result = sys_fcntl(descriptor, F_SETLEASE, type);
    if (result == 0) {
        set(descriptor, F_SETLEASE, F_UNLCK);
        take_signal(descriptor, thread);
    }
    set(descriptor, F_SETSIG, 0);
    if (owned || result == 0) set_owner(descriptor, 0);
    return result;
}

enum count_answer count_ask_unsignalled(int descriptor, short type, dev_t device, pid_t thread)
{
    if (!count_is_possible(descriptor, device)) return COUNT_UNKNOWN;
    const int result = ask_for_lease(descriptor, type, thread);
    return result == 0 ? COUNT_NOBODY : result == -EAGAIN ? COUNT_SOMEBODY : COUNT_UNKNOWN;
}

enum count_answer count_ask(int descriptor, short type, dev_t device)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_signals before;
    sys_sigmask(SIG_BLOCK, &all, &before);
    const enum count_answer answer = count_ask_unsignalled(descriptor, type, device, sys_gettid());
    sys_sigmask(SIG_SETMASK, &before, NULL);
    return answer;
}

/* ---- another description -------------------------------------------------------------------------------- */

/* Who asks for a lease may lose the processor in between. */
static int open_in_a_moment(const char *path, int flags)
{
    enum { MOMENT_NS = 100 * 1000 * 1000 };
    int64_t deadline = 0;
    for (;;) {
        const int opened = sys_openat(AT_FDCWD, path, flags | O_CLOEXEC, 0);
        if (opened != -EAGAIN) return opened;
        if (!deadline) deadline = sys_monotonic() + MOMENT_NS;
        if (!sys_pause(deadline)) return opened;
    }
}

int count_reopen(int descriptor, int flags)
{
    char link[32];
    realpath_descriptor_link(descriptor, link);
    return open_in_a_moment(link, flags);
}

int count_open(const char *path, int access)
{
    int opened;
    do {
        opened = open_in_a_moment(path, access | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    } while (opened == -EINTR);
    return opened;
}
