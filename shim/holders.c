#include "holders.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include "bytes.h"
#include "sys.h"

/* The slots that a process tries first: the one it had last; 0, so that the file of an image with one holder stays
 * short enough to read, then one of 8, of 64, of 512 and of all, by pid, so that a thousand holders find theirs without
 * trying hundreds.  After that some of all: half of the slots may be taken, and one process in ten million has no
 * record. */
enum { FIRST_TRIES = 6, TRIES = 30 };

/* Questions that find_lowest asks one below the other before it halves the range. */
enum { NARROW_STEPS = 2 };
static _Atomic int last_slot;

static int slot_to_try(pid_t pid, int try, int first)
{
    if (try-- == 0) return first;
    if (try < FIRST_TRIES - 1) return (int)((unsigned)pid % (1u << 3 * try));
    /* As good as random: by steps, one pid in fifty went through a thousand neighbours' slots one after the other. */
    return (int)(((unsigned)pid * 31 + (unsigned)try) * 2654435761U >> 20) % SLOTS;
}

/* A slot that is ours alone, exclusively until its record is written; -1: none. */
static int claim_slot(int lock_descriptor, int former, int first, pid_t pid)
{
    struct bytes_found found;
    for (int try = 0; try < TRIES; try++) {
        if (try == 2 && !pid) pid = sys_getpid(); /* asked for when slot 0 is taken */
        const int slot = slot_to_try(pid, try, first);
        /* Beside the former one it would become one lock with it. */
        if (former >= 0 && slot >= former - 1 && slot <= former + 1) continue;
        const int result = bytes_lock(lock_descriptor, F_WRLCK, SLOT_BYTE + slot, 1);
        if (result == 0) return slot;
        if (result != -EAGAIN) return -1; /* a read-only descriptor, no memory */
        /* flock --fcntl has all of them. */
        if (try == FIRST_TRIES && bytes_held(lock_descriptor, F_WRLCK, SLOT_BYTE + slot, 1, &found) > 0 &&
            found.start <= SLOT_BYTE && found.length == 0)
            return -1;
    }
    return -1;
}

/* Until now the slot's record was that of whoever had the slot before: it counts from here on.  And shared, the slot
 * goes together with a shared lock on the whole file, as flock --fcntl -s takes it. */
static void publish_slot(int lock_descriptor, int slot)
{
    bytes_lock(lock_descriptor, F_RDLCK, SLOT_BYTE + slot, 1);
}

int holders_claim(int lock_descriptor, int former, const struct holder_note *note)
{
    const int slot = claim_slot(lock_descriptor, former, last_slot, note->section);
    if (slot < 0) return -1;
    if (slot != last_slot) last_slot = slot;
    record_write(lock_descriptor, slot, note);
    publish_slot(lock_descriptor, slot);
    return slot;
}

int holders_claim_for(int lock_descriptor, const struct holder *holder)
{
    const int slot = claim_slot(lock_descriptor, holder->slot, 0, holder->process.pid);
    if (slot < 0) return -1;
    record_write_for(lock_descriptor, slot, holder);
    publish_slot(lock_descriptor, slot);
    return slot;
}

void holders_leave(int lock_descriptor, int slot)
{
    if (slot >= 0) bytes_unlock(lock_descriptor, SLOT_BYTE + slot, 1);
}

bool holders_read(int lock_descriptor, int slot, struct holder *holder)
{
    memset(holder, 0, sizeof *holder);
    holder->slot = slot;
    record_read(lock_descriptor, holder);
    return holder->recorded;
}

/* The lowest slot of the range that others have claimed, or -1.  GETLK reports any one lock of a range, in the order of
 * the kernel's list: mostly there are few, and asking again below the one found ends soon.  In a list of thousands,
 * latest first, it would not: so what is below is halved. */
static int find_lowest(int lock_descriptor, int from, struct bytes_found *lowest)
{
    struct bytes_found found;
    int low = from, end = SLOTS, steps = 0;
    if (bytes_held(lock_descriptor, F_WRLCK, SLOT_BYTE + low, end - low, lowest) <= 0) return -1;
    end = (int)(lowest->start - SLOT_BYTE);
    while (low < end) {
        if (bytes_held(lock_descriptor, F_WRLCK, SLOT_BYTE + low, end - low, &found) <= 0) break;
        *lowest = found;
        end = (int)(found.start - SLOT_BYTE);
        if (++steps <= NARROW_STEPS || end <= low) continue;
        const int middle = low + (end - low + 1) / 2;
        if (middle >= end) continue;
        if (bytes_held(lock_descriptor, F_WRLCK, SLOT_BYTE + low, middle - low, &found) > 0) {
            *lowest = found;
            end = (int)(found.start - SLOT_BYTE);
        } else {
            low = middle;
        }
    }
    return lowest->start > SLOT_BYTE + from ? (int)(lowest->start - SLOT_BYTE) : from;
}

bool holders_next(int lock_descriptor, int from, struct holder *holder)
{
    struct bytes_found found;
    const int lowest = from < SLOTS ? find_lowest(lock_descriptor, from, &found) : -1;
    if (lowest < 0) return false;
    memset(holder, 0, sizeof *holder);
    holder->slot = lowest;
    /* An exclusive lock is a claim whose record is not written yet.  One on more than the slot is none: flock --fcntl
     * locks the whole file, old records and all. */
    if (found.type == F_RDLCK && found.start == SLOT_BYTE + lowest && found.length == 1)
        record_read(lock_descriptor, holder);
    return true;
}

static int64_t processor_time(void)
{
    struct timespec now = {0};
    sys_clock(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

struct holders_walk holders_begin(int lock_descriptor)
{
    return (struct holders_walk){.lock_descriptor = lock_descriptor, .deadline = processor_time() + HOLDERS_WALK_NS};
}

bool holders_walk(struct holders_walk *walk, struct holder *holder)
{
    if (walk->lock_descriptor < 0 || walk->unfinished) return false;
    if (!holders_next(walk->lock_descriptor, walk->next, holder)) return false;
    walk->next = holder->slot + 1;
    if (++walk->seen % 16 == 0) walk->unfinished = processor_time() >= walk->deadline;
    return true;
}
