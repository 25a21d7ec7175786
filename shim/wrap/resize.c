/* resize.c: ftruncate, fallocate: they change the size of an image that is open, which a holder may block. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "../sys.h"
#include "../track.h"
#include "guard.h"
#include "real.h"

#define WRAP_FTRUNCATE(name, offset)                                               \
    EXPORT int name(int descriptor, offset length)                                 \
    {                                                                              \
        struct guard guard;                                                        \
        if (guard_descriptor(&guard, OPERATION_RESIZE, descriptor) < 0) return -1; \
        int result = REAL(name)(descriptor, length);                               \
        guard_end(&guard);                                                         \
        return result;                                                             \
    }

WRAP_FTRUNCATE(ftruncate, __off_t)
WRAP_FTRUNCATE(ftruncate64, off64_t)

/* Will the file be as long as before?  With FALLOC_FL_KEEP_SIZE it only gains or loses blocks, and where the range lies
 * within it, allocating and zeroing do no more; a block device, whose st_size is 0, never changes.  mkfs zeroes its
 * tables that way: an fstat instead of a guard of 5 us.
 * Whoever cuts the file off between this look and the call does it to a call that is on its way already. */
static bool keeps_size(int descriptor, int mode, off64_t start, off64_t length)
{
    struct stat status;
    off64_t end;
    if (mode & FALLOC_FL_KEEP_SIZE) return true;
    return !(mode & ~(FALLOC_FL_ZERO_RANGE | FALLOC_FL_UNSHARE_RANGE)) && track_entry(descriptor) &&
           !__builtin_add_overflow(start, length, &end) && sys_fstat(descriptor, &status) == 0 &&
           (end <= status.st_size || S_ISBLK(status.st_mode));
}

/* Cancellation points, all of these, out of which the guard ends, too. */
#define WRAP_FALLOCATE(name, offset)                                                                         \
    EXPORT int name(int descriptor, int mode, offset start, offset length)                                   \
    {                                                                                                        \
        struct guard guard;                                                                                  \
        if (keeps_size(descriptor, mode, start, length)) return REAL(name)(descriptor, mode, start, length); \
        if (guard_descriptor(&guard, OPERATION_RESIZE, descriptor) < 0) return -1;                           \
        int result = REAL(name)(descriptor, mode, start, length);                                            \
        guard_end(&guard);                                                                                   \
        return result;                                                                                       \
    }

WRAP_FALLOCATE(fallocate, __off_t)
WRAP_FALLOCATE(fallocate64, off64_t)

/* Returns the error, and leaves errno alone. */
#define WRAP_POSIX_FALLOCATE(name, offset)                                                          \
    EXPORT int name(int descriptor, offset start, offset length)                                    \
    {                                                                                               \
        struct guard guard;                                                                         \
        int saved = errno;                                                                          \
        if (keeps_size(descriptor, 0, start, length)) return REAL(name)(descriptor, start, length); \
        if (guard_descriptor(&guard, OPERATION_RESIZE, descriptor) < 0) {                           \
            int refused = errno;                                                                    \
            errno = saved;                                                                          \
            return refused;                                                                         \
        }                                                                                           \
        int result = REAL(name)(descriptor, start, length);                                         \
        guard_end(&guard);                                                                          \
        return result;                                                                              \
    }

WRAP_POSIX_FALLOCATE(posix_fallocate, __off_t)
WRAP_POSIX_FALLOCATE(posix_fallocate64, off64_t)
