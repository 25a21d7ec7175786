/* resize.c: ftruncate, fallocate: they change the size of an image that is open, which a holder may block. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cleanup.h"
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

WRAP_FTRUNCATE(ftruncate, off_t)
WRAP_FTRUNCATE(ftruncate64, off64_t)

/* With FALLOC_FL_KEEP_SIZE the file only gains or loses blocks.  Cancellation points, all of these. */
#define WRAP_FALLOCATE(name, offset)                                                        \
    EXPORT int name(int descriptor, int mode, offset start, offset length)                  \
    {                                                                                       \
        struct guard guard;                                                                 \
        struct _pthread_cleanup_buffer cleanup;                                             \
        if (mode & FALLOC_FL_KEEP_SIZE) return REAL(name)(descriptor, mode, start, length); \
        if (guard_descriptor(&guard, OPERATION_RESIZE, descriptor) < 0) return -1;          \
        _pthread_cleanup_push(&cleanup, guard_abandon, &guard);                             \
        int result = REAL(name)(descriptor, mode, start, length);                           \
        _pthread_cleanup_pop(&cleanup, 0);                                                  \
        guard_end(&guard);                                                                  \
        return result;                                                                      \
    }

WRAP_FALLOCATE(fallocate, off_t)
WRAP_FALLOCATE(fallocate64, off64_t)

/* Returns the error, and leaves errno alone. */
#define WRAP_POSIX_FALLOCATE(name, offset)                                \
    EXPORT int name(int descriptor, offset start, offset length)          \
    {                                                                     \
        struct guard guard;                                               \
        struct _pthread_cleanup_buffer cleanup;                           \
        int saved = errno;                                                \
        if (guard_descriptor(&guard, OPERATION_RESIZE, descriptor) < 0) { \
            errno = saved;                                                \
            return EBUSY;                                                 \
        }                                                                 \
        _pthread_cleanup_push(&cleanup, guard_abandon, &guard);           \
        int result = REAL(name)(descriptor, start, length);               \
        _pthread_cleanup_pop(&cleanup, 0);                                \
        guard_end(&guard);                                                \
        return result;                                                    \
    }

WRAP_POSIX_FALLOCATE(posix_fallocate, off_t)
WRAP_POSIX_FALLOCATE(posix_fallocate64, off64_t)
