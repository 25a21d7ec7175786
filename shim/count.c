#include "count.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdatomic.h>

#include "realpath.h"
#include "sys.h"

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
static bool is_counted(int descriptor, dev_t device)
{
    static _Atomic uint64_t known;
    if (device && known == device) return true;
    if (!counts_itself(descriptor)) return false;
    known = device;
    return true;
}

/* ---- asking --------------------------------------------------------------------------------------------- */

/* Where one was pending before, the kernel has added none. */
static void take_signal(const sys_signals *pending)
{
    static const sys_signals urgent = (sys_signals)1 << (SIGURG - 1);
    if (!(*pending & urgent)) sys_sigtake(&urgent);
}

static int ask_for_lease(int descriptor, short type)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    struct f_owner_ex owner = {F_OWNER_TID, sys_gettid()};
    sys_signals before, pending = 0;
    sys_sigmask(SIG_BLOCK, &all, &before);
    int result = sys_fcntl(descriptor, F_SETOWN_EX, (long)&owner);
    if (result == 0) result = sys_fcntl(descriptor, F_SETSIG, SIGURG);
    if (result == 0) {
        sys_sigpending(&pending);
        result = sys_fcntl(descriptor, F_SETLEASE, type);
        if (result == 0) {
            sys_fcntl(descriptor, F_SETLEASE, F_UNLCK);
            take_signal(&pending);
        }
    }
    sys_fcntl(descriptor, F_SETSIG, 0);
    owner.pid = 0;
    sys_fcntl(descriptor, F_SETOWN_EX, (long)&owner);
    sys_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

enum count_answer count_ask(int descriptor, bool writing, dev_t device)
{
    if (!is_counted(descriptor, device)) return COUNT_UNKNOWN;
    const int result = ask_for_lease(descriptor, writing ? F_WRLCK : F_RDLCK);
    return result == 0 ? COUNT_NOBODY : result == -EAGAIN ? COUNT_SOMEBODY : COUNT_UNKNOWN;
}

/* ---- another description -------------------------------------------------------------------------------- */

/* Who asks for a lease may lose the processor in between. */
enum { MOMENT_NS = 100 * 1000 * 1000 };

int count_reopen(int descriptor, int flags)
{
    char link[32];
    int64_t deadline = 0;
    realpath_descriptor_link(descriptor, link);
    for (;;) {
        const int opened = sys_openat(AT_FDCWD, link, flags | O_CLOEXEC, 0);
        if (opened != -EAGAIN) return opened;
        if (!deadline) deadline = sys_monotonic() + MOMENT_NS;
        if (!sys_pause(deadline)) return opened;
    }
}
