#include "mark.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "distant.h"
#include "sys.h"

enum mark_place mark_place(int descriptor, dev_t device)
{
    enum { CIFS = (int)0xff534d42, SMB2 = (int)0xfe534d42, SMB = 0x517b };
    struct statfs about;
    /* What lies on a block device needs no second look. */
    if (major(device) != 0) return MARK_HERE;
    if (sys_call(SYS_fstatfs, descriptor, (long)&about, 0, 0, 0, 0) < 0) return MARK_HERE;
    const int type = (int)about.f_type;
    if (type == CIFS || type == SMB2 || type == SMB) return MARK_NOWHERE;
    return distant_name(about.f_type) ? MARK_DISTANT : MARK_HERE;
}

static bool is_busy(int result)
{
    return result == -EAGAIN;
}

/* What is done to a file in the same way whatever it is locked by; inlined, so that a descriptor's costs no more. */
#define BY_ANY_MEANS static inline __attribute__((always_inline))

static int lock_descriptor(void *descriptor, short type, off_t start, off_t length)
{
    return bytes_lock(*(const int *)descriptor, type, start, length);
}

static int held_by_descriptor(void *descriptor, short type, off_t start, off_t length, struct bytes_found *found)
{
    return bytes_held(*(const int *)descriptor, type, start, length, found);
}

static const struct mark_means by_descriptor = {lock_descriptor, held_by_descriptor};

BY_ANY_MEANS int set(const struct mark_means *means, void *file, enum lock_mode mode, int access)
{
    const bool excludes = mode == LOCK_EXCLUSIVE;
    bool busy = false;
    if (mode < LOCK_SHARED) return 0;
    /* A read lock is EBADF there; so of two who write together, one by such a descriptor, only the other announces. */
    if (access == O_WRONLY)
        return excludes && is_busy(means->lock(file, F_WRLCK, UNSHARED_BYTE, MARK_UNSHARED)) ? -EAGAIN : 0;
    if (access != O_RDONLY && access != O_RDWR) return 0;
    const int used = excludes || access == O_RDWR ? MARK_WRITES : MARK_READS;
    busy |= is_busy(means->lock(file, F_RDLCK, USED_BYTE, used));
    if (excludes || access == O_RDONLY) busy |= is_busy(means->lock(file, F_RDLCK, UNSHARED_BYTE, MARK_UNSHARED));
    return busy ? -EAGAIN : 0;
}

int mark_set(int descriptor, enum lock_mode mode, int access)
{
    return set(&by_descriptor, &descriptor, mode, access);
}

int mark_set_by(const struct mark_means *means, void *file, enum lock_mode mode, int access)
{
    return set(means, file, mode, access);
}

enum { SET_END = UNSHARED_BYTE + MARK_UNSHARED };

void mark_clear_by(const struct mark_means *means, void *file)
{
    means->lock(file, F_UNLCK, USED_BYTE, SET_END - USED_BYTE);
}

void mark_clear(int descriptor)
{
    bytes_unlock(descriptor, USED_BYTE, SET_END - USED_BYTE);
}

int mark_hold(int descriptor, enum lock_mode mode)
{
    return bytes_lock(descriptor, F_RDLCK, mode == LOCK_EXCLUSIVE ? HELD_BYTE : HELD_SHARED_BYTE, 1);
}

void mark_unhold(int descriptor)
{
    bytes_unlock(descriptor, HELD_BYTE, 1);
    bytes_unlock(descriptor, HELD_SHARED_BYTE, 1);
}

void mark_move(int from, int to, enum lock_mode mode, int access)
{
    if (mark_set(to, mode, access) == 0) return;
    /* One of both is open for writing alone, and its lock excludes the other's.  That has the bytes of use. */
    bytes_unlock(from, UNSHARED_BYTE, MARK_UNSHARED);
    mark_set(to, mode, access);
}

int mark_ranges(enum lock_mode mode, int access, struct mark_range ranges[MARK_RANGES])
{
    /* Byte 0 is virtlockd's, and never counts. */
    ranges[0] = (struct mark_range){F_WRLCK, 1, 0};
    if (mode == LOCK_EXCLUSIVE) return 1;
    ranges[0] = (struct mark_range){F_WRLCK, UNSHARED_BYTE, MARK_UNSHARED};
    ranges[1] = (struct mark_range){F_WRLCK, HELD_BYTE, 1};
    if (access != O_RDONLY) return 2;
    ranges[0] = (struct mark_range){F_WRLCK, USED_BYTE + 1, UNSHARED_BYTE - USED_BYTE - 1};
    ranges[1] = (struct mark_range){F_RDLCK, 1, 0};
    return 2;
}

bool mark_is_plain_reader(bool exclusive, off_t start, bool to_the_end)
{
    return !exclusive && start == 0 && to_the_end;
}

bool mark_only_reads(bool exclusive, off_t start, off_t length)
{
    return !exclusive && start == USED_BYTE && length == MARK_READS;
}

void mark_ranges_beside(const struct mark_range *range, struct mark_range beside[2])
{
    beside[0] = (struct mark_range){range->type, range->start, USED_BYTE - range->start};
    beside[1] = (struct mark_range){range->type, USED_BYTE + MARK_READS, 0};
}

/* Is somebody in the way in this range? */
BY_ANY_MEANS bool is_held(const struct mark_means *means, void *file, const struct mark_range *range,
                          struct bytes_found *found)
{
    return means->held(file, range->type, range->start, range->length, found) > 0;
}

/* The same beside the byte of those who only read. */
BY_ANY_MEANS bool is_held_beside(const struct mark_means *means, void *file, const struct mark_range *range,
                                 struct bytes_found *found)
{
    struct mark_range beside[2];
    mark_ranges_beside(range, beside);
    return is_held(means, file, &beside[0], found) || is_held(means, file, &beside[1], found);
}

BY_ANY_MEANS bool is_in_the_way(const struct mark_means *means, void *file, enum lock_mode mode, int access,
                                struct bytes_found *found)
{
    struct mark_range ranges[MARK_RANGES];
    const int count = mark_ranges(mode, access, ranges);
    for (int i = 0; i < count; i++) {
        if (!is_held(means, file, &ranges[i], found)) continue;
        if (mark_only_reads(found->type == F_WRLCK, found->start, found->length) &&
            !is_held_beside(means, file, &ranges[i], found))
            continue;
        /* It hides no later writer, who could not have come past it. */
        if (mode == LOCK_EXCLUSIVE || access != O_RDONLY ||
            !mark_is_plain_reader(found->type == F_WRLCK, found->start, found->length == 0))
            return true;
    }
    return false;
}

bool mark_is_in_the_way(int descriptor, enum lock_mode mode, int access, struct bytes_found *found)
{
    struct bytes_found ignored;
    return is_in_the_way(&by_descriptor, &descriptor, mode, access, found ? found : &ignored);
}

bool mark_is_in_the_way_by(const struct mark_means *means, void *file, enum lock_mode mode, int access)
{
    struct bytes_found ignored;
    return is_in_the_way(means, file, mode, access, &ignored);
}

/* Is it what mark_hold leaves? */
static bool is_holds_row(const struct fdinfo_lock *lock)
{
    return lock->owner == FDINFO_DESCRIPTION && !lock->exclusive && lock->start == lock->end &&
           (lock->start == HELD_BYTE || lock->start == HELD_SHARED_BYTE);
}

enum { QEMU_BYTES = 10 };

bool mark_contradicts(const struct bytes_found *found)
{
    const off_t start = found->start, end = found->length ? start + found->length : INT64_MAX;
    if (found->type == F_WRLCK)
        return (start < USED_BYTE + MARK_WRITES && end > USED_BYTE) || (start < SET_END && end > UNSHARED_BYTE);
    return start >= USED_BYTE && end <= UNSHARED_BYTE - 1 + QEMU_BYTES;
}

bool mark_is_row(const struct fdinfo_lock *lock)
{
    if (lock->owner != FDINFO_DESCRIPTION) return false;
    const off_t length = lock->end - lock->start + 1;
    if (is_holds_row(lock)) return true;
    if (lock->start == USED_BYTE) return !lock->exclusive && (length == MARK_READS || length == MARK_WRITES);
    return lock->start == UNSHARED_BYTE && length == MARK_UNSHARED;
}

bool mark_is_keepers(const struct fdinfo_lock *lock)
{
    return lock->owner == FDINFO_PROCESS && lock->start == 0 && lock->end == 0;
}

void mark_note(struct mark_meaning *meaning, const struct fdinfo_lock *lock)
{
    const bool used = lock->start >= USED_BYTE && lock->end < USED_BYTE + QEMU_BYTES;
    const bool unshared = lock->start >= UNSHARED_BYTE - 1 && lock->end < UNSHARED_BYTE - 1 + QEMU_BYTES;
    meaning->keeper = (meaning->keeper || !meaning->bytes) && mark_is_keepers(lock);
    meaning->posix |= lock->owner == FDINFO_PROCESS;
    meaning->bytes |= is_holds_row(lock)         ? MARK_SAYS_HELD
                      : !mark_is_row(lock)       ? MARK_SAYS_OTHER
                      : lock->start == USED_BYTE ? (lock->end == USED_BYTE ? MARK_SAYS_READS : MARK_SAYS_WRITES)
                      : lock->exclusive          ? MARK_SAYS_EXCLUSIVE
                                                 : MARK_SAYS_UNSHARED;
    meaning->exclusive |= lock->exclusive;
    meaning->qemu |= used || unshared;
    const bool held = lock->start == HELD_BYTE && is_holds_row(lock);
    meaning->writes |= held || (used && lock->end > USED_BYTE);
    meaning->unshares |= held || unshared;
}

bool mark_is_imglocks(const struct mark_meaning *meaning)
{
    return meaning->bytes == (MARK_SAYS_READS | MARK_SAYS_UNSHARED) ||
           meaning->bytes == (MARK_SAYS_WRITES | MARK_SAYS_UNSHARED) || meaning->bytes == MARK_SAYS_EXCLUSIVE ||
           meaning->bytes == MARK_SAYS_WRITES || meaning->bytes == MARK_SAYS_READS || meaning->bytes == MARK_SAYS_HELD;
}

static bool note_own(const struct fdinfo_lock *lock, void *own)
{
    *(bool *)own |= !lock->waits && mark_is_row(lock);
    return !*(bool *)own;
}

bool mark_is_there(int descriptor)
{
    char name[FDINFO_OWN_SIZE];
    bool own = false;
    fdinfo_own(name, descriptor);
    fdinfo_each_lock(AT_FDCWD, name, note_own, &own);
    return own;
}

static bool note_other(const struct fdinfo_lock *lock, void *other)
{
    *(bool *)other = lock->owner == FDINFO_DESCRIPTION && !lock->waits && !mark_is_row(lock);
    return !*(bool *)other;
}

bool mark_is_locked_otherwise(int descriptor)
{
    char name[FDINFO_OWN_SIZE];
    bool other = false;
    struct bytes_found found;
    if (bytes_own(descriptor, 0, 0, &found) == 0) return false;
    fdinfo_own(name, descriptor);
    return fdinfo_each_lock(AT_FDCWD, name, note_other, &other) < 0 || other;
}
