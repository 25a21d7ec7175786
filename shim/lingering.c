#include "lingering.h"

#include <errno.h>
#include <signal.h>

#include "distant.h"
#include "fdinfo.h"
#include "holders.h"
#include "proc.h"
#include "process.h"
#include "protocol.h"
#include "sys.h"

struct slot {
    uint64_t inode;
    off_t byte;
    bool found;
};

static bool is_slot(const struct fdinfo_lock *lock, void *argument)
{
    struct slot *slot = argument;
    slot->found = lock->owner == FDINFO_DESCRIPTION && lock->inode == slot->inode && lock->start == slot->byte;
    return !slot->found;
}

/* /proc may be mounted so that others' processes are not in it, hidepid in proc(5). */
static bool is_hidden(pid_t pid)
{
    return sys_call(SYS_kill, pid, 0, 0, 0, 0, 0) != -ESRCH;
}

/* Has the process that a record names the slot by the descriptor that it names?  Who may not look takes it for granted.
 */
static bool has_slot(const struct holder *holder, uint64_t inode)
{
    char name[PROC_NAME_SIZE];
    struct slot slot = {.inode = inode, .byte = SLOT_BYTE + holder->slot};
    const int process = proc_open((uint64_t)holder->process.pid, "");
    if (process < 0) return is_hidden(holder->process.pid);
    proc_name(name, "fdinfo/", (uint64_t)holder->descriptor);
    const int result = fdinfo_each_lock(process, name, is_slot, &slot);
    sys_close(process);
    return slot.found || (result < 0 && result != -ENOENT && result != -ESRCH);
}

/* From the first slot on: a lock has few holders, and one hostile user may have 4,096. */
enum { LOOKED_AT = 64 };

static bool look(int lock_descriptor)
{
    struct stat file;
    struct holder holder;
    if (!distant_shows_rows(lock_descriptor) || sys_fstat(lock_descriptor, &file) < 0) return false;
    struct holders_walk walk = holders_begin(lock_descriptor);
    while (walk.seen < LOOKED_AT && holders_walk(&walk, &holder))
        if (!holder.recorded || (process_is_of_here(&holder.process) && !has_slot(&holder, file.st_ino))) return true;
    return false;
}

bool lingering_is_there(int lock_descriptor)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_signals before;
    /* A handler that jumps away would leave descriptors behind. */
    sys_sigmask(SIG_BLOCK, &all, &before);
    const bool lingers = look(lock_descriptor);
    sys_sigmask(SIG_SETMASK, &before, NULL);
    return lingers;
}
