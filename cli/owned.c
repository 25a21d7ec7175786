/* owned.c: what an open file description holds of a lock file. */
#include "owned.h"

#include <fcntl.h>
#include <stdio.h>

#include "bytes.h"
#include "fdinfo.h"
#include "protocol.h"

static bool note_lock(const struct fdinfo_lock *lock, void *argument)
{
    struct owned *owned = argument;
    if (lock->owner != FDINFO_DESCRIPTION) return true;
    for (unsigned byte = 0; byte < LOCK_BYTES; byte++) {
        if (lock->start > LOCK_BYTE + byte || lock->end < LOCK_BYTE + byte) continue;
        owned->bytes |= 1u << byte;
        owned->shared |= !lock->exclusive;
    }
    if (lock->start < RELATIVES_BYTE + RELATIVES && lock->end >= RELATIVES_BYTE) owned->beside = true;
    if (lock->start == lock->end && lock->start >= SLOT_BYTE && lock->start < SLOT_BYTE + SLOTS) {
        const size_t count = sizeof owned->slots / sizeof *owned->slots;
        if (owned->slot_count < count) owned->slots[owned->slot_count++] = (int)(lock->start - SLOT_BYTE);
        owned->writing |= lock->exclusive;
    }
    return true;
}

struct owned owned_by(int descriptor)
{
    struct owned owned = {0};
    char name[48];
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", descriptor);
    if (descriptor >= 0) fdinfo_each_lock(AT_FDCWD, name, note_lock, &owned);
    return owned;
}

short owned_by_others(int descriptor, off_t start, off_t length)
{
    struct bytes_found found = {.type = F_WRLCK};
    return bytes_held(descriptor, F_WRLCK, start, length, &found) == 0 ? F_UNLCK : found.type;
}

bool owned_by_descendants(int descriptor)
{
    return owned_by_others(descriptor, RELATIVES_BYTE, RELATIVES) != F_UNLCK;
}
