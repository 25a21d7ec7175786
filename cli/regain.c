/* regain.c: what a program asks for at each open and close (asking.h), done for it: one that neither opens nor closes
 * anything would not know for hours.
 *
 * A record says what its description had, and text may be anybody's.  So nothing is done where anybody holds the lock:
 * no lock is lowered or raised, only had again; and by a descriptor that the process has open on this very file. */
#include "regain.h"

#include <fcntl.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "distant.h"
#include "holders.h"
#include "lock.h"
#include "process.h"
#include "sys.h"

static bool is_there(const struct holder *holder)
{
    uint64_t start;
    pid_t parent;
    return holder->recorded && process_is_of_here(&holder->process) &&
           process_read_stat(holder->process.pid, &start, &parent, NULL) && start == holder->process.start;
}

/* Is it of the same descriptor, and a later state of it? */
static bool replaces(const struct holder *later, const struct holder *holder)
{
    return later->recorded && later->slot != holder->slot && later->process.pid == holder->process.pid &&
           later->process.start == holder->process.start && later->descriptor == holder->descriptor &&
           later->since_ms >= holder->since_ms;
}

static bool is_last(int lock_file, int slots, const struct holder *holder)
{
    struct holder other;
    for (int slot = 0; slot < slots; slot++)
        if (holders_read(lock_file, slot, &other) && replaces(&other, holder)) return false;
    return true;
}

/* A duplicate of the holder's own descriptor of the lock file, or -1. */
static int reach(const struct holder *holder, const struct stat *file)
{
    struct stat status;
    const int process = pidfd_open(holder->process.pid, 0);
    if (process < 0) return -1;
    int descriptor = is_there(holder) ? (int)sys_call(SYS_pidfd_getfd, process, holder->descriptor, 0, 0, 0, 0) : -1;
    close(process);
    if (descriptor >= 0 &&
        (fstat(descriptor, &status) < 0 || status.st_dev != file->st_dev || status.st_ino != file->st_ino)) {
        close(descriptor);
        descriptor = -1;
    }
    return descriptor;
}

void regain_locks(int lock_file)
{
    struct stat file;
    struct holder holder;
    if (distant_shows_rows(lock_file) || bytes_held(lock_file, F_WRLCK, LOCK_BYTE, LOCK_BYTES, NULL) != 0 ||
        fstat(lock_file, &file) < 0)
        return;
    int slots = (int)((file.st_size - RECORD_OFFSET + RECORD_SIZE - 1) / RECORD_SIZE);
    if (slots > SLOTS) slots = SLOTS;
    for (int slot = 0; slot < slots; slot++) {
        if (!holders_read(lock_file, slot, &holder) || holder.mode < LOCK_SHARED || holder.beside ||
            !is_there(&holder) || !is_last(lock_file, slots, &holder))
            continue;
        struct lock lock = {.descriptor = reach(&holder, &file), .slot = slot, .mode = holder.mode, .start = LOCK_BYTE};
        if (lock.descriptor < 0) continue;
        lock.block = holder.block;
        lock_ask_again(&lock, LOCK_AGAIN_SLOT);
        close(lock.descriptor);
    }
}
