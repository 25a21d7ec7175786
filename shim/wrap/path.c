/* path.c: operations on names that take an image away from its holder: truncate, unlink, rename (IMGLOCK_GUARD). */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "../realpath.h"
#include "guard.h"
#include "real.h"

#define GUARDED_TRUNCATE(name, offset)                                                  \
    EXPORT int name(const char *path, offset length)                                    \
    {                                                                                   \
        struct guard guard;                                                             \
        if (guard_begin(&guard, OPERATION_RESIZE, AT_FDCWD, path, true) < 0) return -1; \
        int result = REAL(name)(path, length);                                          \
        guard_end(&guard);                                                              \
        return result;                                                                  \
    }

GUARDED_TRUNCATE(truncate, __off_t)
GUARDED_TRUNCATE(truncate64, off64_t)

#define GUARDED_UNLINK(name)                                                             \
    EXPORT int name(const char *path)                                                    \
    {                                                                                    \
        struct guard guard;                                                              \
        if (guard_begin(&guard, OPERATION_UNLINK, AT_FDCWD, path, false) < 0) return -1; \
        int result = REAL(name)(path);                                                   \
        guard_end(&guard);                                                               \
        return result;                                                                   \
    }

GUARDED_UNLINK(unlink)
GUARDED_UNLINK(remove)

EXPORT int unlinkat(int directory, const char *path, int flags)
{
    struct guard guard;
    if (flags & AT_REMOVEDIR) return REAL(unlinkat)(directory, path, flags);
    if (guard_begin(&guard, OPERATION_UNLINK, directory, path, false) < 0) return -1;
    int result = REAL(unlinkat)(directory, path, flags);
    guard_end(&guard);
    return result;
}

/* Both ends: an image that is moved away leaves its lock behind under the old name, one that is replaced is gone. */
static int guard_both(struct guard *guard, int from_directory, const char *from, int to_directory, const char *to)
{
    if (guard_begin(guard, OPERATION_RENAME, from_directory, from, false) < 0) return -1;
    return guard_also(guard, OPERATION_RENAME, to_directory, to);
}

EXPORT int rename(const char *from, const char *to)
{
    struct guard guard;
    if (guard_both(&guard, AT_FDCWD, from, AT_FDCWD, to) < 0) return -1;
    int result = REAL(rename)(from, to);
    realpath_forget();
    guard_end(&guard);
    return result;
}

EXPORT int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    struct guard guard;
    if (guard_both(&guard, from_directory, from, to_directory, to) < 0) return -1;
    int result = REAL(renameat)(from_directory, from, to_directory, to);
    realpath_forget();
    guard_end(&guard);
    return result;
}

EXPORT int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags)
{
    struct guard guard;
    if (guard_both(&guard, from_directory, from, to_directory, to) < 0) return -1;
    int result = REAL(renameat2)(from_directory, from, to_directory, to, flags);
    realpath_forget();
    guard_end(&guard);
    return result;
}
