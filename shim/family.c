#include "family.h"

#include <string.h>

#include "bytes.h"
#include "holders.h"
#include "lock.h"
#include "sys.h"
#include "text.h"

static bool is_family(const struct holder *holder, bool ancestors)
{
    const struct holder *self = holders_self();
    if (!holder->recorded || holder->boot != self->boot || holder->pid_space != self->pid_space) return false;
    if (holder->pid == self->pid) return holder->start == self->start;
    if (!ancestors) return false;
    uint64_t start;
    pid_t number;
    if (!holders_look_up(0, &start, &number, NULL)) return false;
    /* Deeper than any real family; ends the walk should pids be reused in a circle meanwhile.  /proc may count other
     * than our namespace does, and who has a number there is somebody else's ancestor. */
    for (int generations = 0; generations < 1000 && number > 0; generations++) {
        pid_t parent;
        if (!holders_look_up(number, &start, &parent, NULL)) return false;
        if (start == holder->start && holders_is_process(holder->pid, number)) return true;
        number = parent;
    }
    return false;
}

/* How many open file description and process locks lie on bytes 0-1 and on the descendants' bytes of this lock file. -1
 * when /proc/locks does not tell.  Reading it slows every lock of the host for a moment: only after a conflict with an
 * ancestor, when a shared lock hides who else holds one (GETLK names one holder alone). */
static int count_locks(int lock_descriptor)
{
    struct stat status;
    if (sys_fstat(lock_descriptor, &status) < 0) return -1;
    int descriptor = sys_openat(AT_FDCWD, "/proc/locks", O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return -1;
    /* "1: OFDLCK ADVISORY  WRITE -1 08:02:1234 0 1": the last three words but the range are the file. */
    char wanted[24];
    struct text inode = text_in(wanted, sizeof wanted);
    text_append(&inode, ":");
    text_append_number(&inode, (long long)status.st_ino);
    text_append(&inode, " ");
    char bytes[1024];
    size_t have = 0;
    int count = 0;
    for (;;) {
        ssize_t got = sys_read(descriptor, bytes + have, sizeof bytes - 1 - have);
        if (got <= 0) break;
        have += (size_t)got;
        bytes[have] = '\0';
        char *line = bytes;
        for (char *end; (end = strchr(line, '\n')); line = end + 1) {
            *end = '\0';
            const char *at = strstr(line, wanted);
            uint64_t start;
            /* "->" marks one that waits. */
            if (!at || strstr(line, "->")) continue;
            at += inode.length;
            if (text_parse_number(&at, &start) && start != GATE_BYTE && start != TRANSFER_BYTE &&
                start < FAMILY_BYTE + FAMILY_PAIRS * LOCK_BYTES)
                count++;
        }
        have -= (size_t)(line - bytes);
        memmove(bytes, line, have);
        if (have == sizeof bytes - 1) have = 0;
    }
    sys_close(descriptor);
    return count;
}

/* How many pairs of bytes others hold exclusively: one holder each.  -1 when one is held shared, by who knows how many.
 */
static int count_exclusive(int lock_descriptor, enum lock_mode mode)
{
    int count = 0;
    for (int pair = 0; pair <= FAMILY_PAIRS; pair++) {
        struct bytes_found found;
        const int start = pair ? FAMILY_BYTE + (pair - 1) * LOCK_BYTES : LOCK_BYTE;
        int held = bytes_held(lock_descriptor, bytes_type(mode), start, LOCK_BYTES, &found);
        if (held < 0 || (held && found.type == F_RDLCK)) return -1;
        count += held;
    }
    return count;
}

bool family_holds(int lock_descriptor, enum lock_mode mode, bool ancestors, int own)
{
    int relatives = 0;
    struct holder holder;
    for (int slot = 0; holders_next(lock_descriptor, slot, &holder); slot = holder.slot + 1) {
        if (holder.recorded && holder.mode < LOCK_SHARED) continue;
        if (holder.recorded && mode == LOCK_SHARED && holder.mode == LOCK_SHARED) continue;
        if (!is_family(&holder, ancestors)) return false;
        relatives++;
    }
    if (relatives == 0) return false;
    /* Each lock in the way has to be one of the records': a holder may have none. */
    int locks = count_exclusive(lock_descriptor, mode);
    if (locks >= 0) return locks <= relatives;
    /* /proc/locks is read in pieces, between which the list changes: one count alone may miss a lock. */
    locks = count_locks(lock_descriptor);
    return locks >= 0 && locks - own <= relatives && count_locks(lock_descriptor) == locks;
}

bool family_is_self(int lock_descriptor, enum lock_mode mode)
{
    int found = 0;
    struct holder holder;
    for (int slot = 0; holders_next(lock_descriptor, slot, &holder); slot = holder.slot + 1) {
        if (holder.recorded && holder.mode < LOCK_SHARED) continue;
        if (holder.recorded && mode == LOCK_SHARED && holder.mode == LOCK_SHARED) continue;
        if (!is_family(&holder, false)) return false;
        found++;
    }
    return found > 0;
}
