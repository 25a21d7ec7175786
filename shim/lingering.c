#include "lingering.h"

#include <errno.h>
#include <signal.h>

#include "bytes.h"
#include "distant.h"
#include "fdinfo.h"
#include "holders.h"
#include "proc.h"
#include "process.h"
#include "protocol.h"
#include "sys.h"

/* What is looked for among the locks of one descriptor of a process. */
struct sought {
    const struct lingering_question *question;
    uint64_t inode; /* of the lock file */
    off_t byte;     /* of the slot */
    bool slot, lock;
};

static bool is_in_the_way(const struct fdinfo_lock *lock, enum lock_mode mode)
{
    const bool front = lock->start < LOCK_BYTE + LOCK_BYTES;
    const bool beside = lock->start < RELATIVES_BYTE + (off_t)RELATIVES && lock->end >= RELATIVES_BYTE;
    return (front || beside) && (lock->exclusive || mode == LOCK_EXCLUSIVE);
}

static bool note_lock(const struct fdinfo_lock *lock, void *argument)
{
    struct sought *sought = argument;
    if (lock->owner != FDINFO_DESCRIPTION || lock->inode != sought->inode) return true;
    sought->slot |= lock->start == sought->byte && lock->end == sought->byte;
    sought->lock |= is_in_the_way(lock, sought->question->mode);
    return !sought->slot || !sought->lock;
}

/* /proc may be mounted so that others' processes are not in it, hidepid in proc(5). */
static bool is_hidden(pid_t pid)
{
    return sys_call(SYS_kill, pid, 0, 0, 0, 0, 0) != -ESRCH;
}

/* Has the process that a record names the slot by the descriptor that it names, and a lock that is in the way?  Who may
 * not look takes the record's word for it. */
static bool has_lock(const struct lingering_question *question, const struct holder *holder, uint64_t inode)
{
    char name[PROC_NAME_SIZE];
    struct sought sought = {.question = question, .inode = inode, .byte = SLOT_BYTE + holder->slot};
    const bool says =
        holder->mode == LOCK_EXCLUSIVE || (holder->mode == LOCK_SHARED && question->mode == LOCK_EXCLUSIVE);
    if (!process_is_of_here(&holder->process)) return says;
    const int process = proc_open((uint64_t)holder->process.pid, "");
    if (process < 0) return says && is_hidden(holder->process.pid);
    proc_name(name, "fdinfo/", (uint64_t)holder->descriptor);
    const int result = fdinfo_each_lock(process, name, note_lock, &sought);
    sys_close(process);
    if (result == 0) return sought.slot && sought.lock;
    return says && result != -ENOENT && result != -ESRCH;
}

/* A lock by F_SETLK ends with the close, whoever looks at the descriptor.  And who has locked the whole file, as
 * flock --fcntl does, has no record. */
static bool is_of_other_kind(const struct lingering_question *question)
{
    struct bytes_found found;
    return bytes_held(question->lock_descriptor, bytes_type(question->mode), LOCK_BYTE, LOCK_BYTES, &found) > 0 &&
           (found.pid >= 0 || found.length == 0);
}

/* From the first slot on: a lock has few holders, and one hostile user may have 4,096. */
enum { LOOKED_AT = 64 };

static bool is_anybody_seen(const struct lingering_question *question, uint64_t inode)
{
    struct holder holder;
    struct holders_walk walk = holders_begin(question->lock_descriptor);
    while (walk.seen < LOOKED_AT && holders_walk(&walk, &holder))
        if (holder.recorded && !question->is_relative(holder.slot, question->argument) &&
            has_lock(question, &holder, inode))
            return true;
    return is_of_other_kind(question);
}

bool lingering_may_be(const struct lingering_question *question)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_signals before;
    struct stat file;
    if (!distant_shows_rows(question->lock_descriptor) || sys_fstat(question->lock_descriptor, &file) < 0) return false;
    /* A handler that jumps away would leave descriptors behind. */
    sys_sigmask(SIG_BLOCK, &all, &before);
    const bool seen = is_anybody_seen(question, file.st_ino);
    sys_sigmask(SIG_SETMASK, &before, NULL);
    return !seen;
}
