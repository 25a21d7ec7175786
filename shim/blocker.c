#include "blocker.h"

#include <errno.h>

#include "bytes.h"
#include "sys.h"

static void unlock_bytes(int descriptor, unsigned operations)
{
    for (int i = 0; i < OPERATIONS; i++)
        if (operations & 1u << i) bytes_unlock(descriptor, OPERATION_BYTE + i, 1);
}

/* Locks the bytes one after the other; in one order everywhere, so nobody waits for what a waiting one has.  1 + the
 * operation whose byte is not to be had, and none is locked then. */
static int lock_bytes(int descriptor, short type, unsigned operations)
{
    for (int i = 0; i < OPERATIONS; i++) {
        if (!(operations & 1u << i)) continue;
        int result = bytes_lock(descriptor, type, OPERATION_BYTE + i, 1);
        if (result == 0) continue;
        unlock_bytes(descriptor, operations & ((1u << i) - 1));
        return result == -EAGAIN ? i + 1 : result;
    }
    return 0;
}

int blocker_set(int lock_descriptor, unsigned operations, int64_t deadline)
{
    int result;
    do {
        result = lock_bytes(lock_descriptor, F_RDLCK, operations);
    } while (result > 0 && sys_pause(deadline));
    return result;
}

int blocker_find(int lock_descriptor, unsigned operations)
{
    struct bytes_found found;
    for (int i = 0; operations >> i; i++)
        if (operations & 1u << i && bytes_held(lock_descriptor, F_WRLCK, OPERATION_BYTE + i, 1, &found) > 0 &&
            found.type == F_RDLCK)
            return i + 1;
    return 0;
}

int blocker_begin_operation(int lock_descriptor, unsigned operations, int64_t deadline)
{
    for (;;) {
        int result = lock_bytes(lock_descriptor, F_WRLCK, operations);
        /* A lock file that this user may only read, a file system without locks: a look has to do. */
        if (result <= 0) return result < 0 ? blocker_find(lock_descriptor, operations) : 0;
        int blocked = blocker_find(lock_descriptor, operations);
        if (blocked || !sys_pause(deadline)) return blocked ? blocked : result;
    }
}

bool blocker_holder(int lock_descriptor, enum operation operation, struct holder *holder)
{
    struct holders_walk walk = holders_begin(lock_descriptor);
    while (holders_walk(&walk, holder))
        if (holder->recorded && holder->block & 1u << operation) return true;
    return false;
}
