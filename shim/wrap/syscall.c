/* syscall.c: syscall(2), for the numbers that open, copy or close descriptors.  Node closes every file that way. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../sys.h"
#include "admit.h"
#include "duplicate.h"
#include "real.h"
#include "release.h"

typedef long syscall_function(long number, ...);

static int invoke_openat(const struct open_call *call, int flags)
{
    return (int)REAL(syscall)(SYS_openat, call->directory, call->path, flags, call->mode);
}

/* Newer than the headers may be. */
typedef int openat2_function(int directory, const char *path, const struct open_how *how, size_t size);
extern openat2_function openat2;

/* openat2's flags lie in a structure that may be larger than we know; only its first words are changed. */
struct open_how_call {
    openat2_function *real;
    const struct open_how *how;
    size_t size;
};

static int invoke_openat2(const struct open_call *call, int flags)
{
    const struct open_how_call *by = call->extra;
    struct open_how how = *by->how;
    const int changed = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC;
    how.flags = (how.flags & ~(__u64)changed) | (__u64)(flags & changed);
    if (!(how.flags & O_CREAT)) how.mode = 0; /* else EINVAL */
    return by->real(call->directory, call->path, &how, sizeof how);
}

/* Can the structure be read?  The kernel copies it before it looks at the path, and the empty path opens nothing. */
static bool is_readable(const struct open_how *how, size_t size)
{
    return sys_call(SYS_openat2, -1, (long)"", (long)how, (long)size, 0, 0) != -EFAULT;
}

static int open_how(openat2_function *real, int directory, const char *path, const struct open_how *how, size_t size)
{
    /* What is smaller or larger than the structure of today, or does not lie in memory, the kernel judges. */
    struct open_how copy;
    if (size != sizeof copy || !is_readable(how, size) || (how->flags & ~(__u64)0x7fffffff))
        return real(directory, path, how, size);
    const struct open_how_call by = {real, how, size};
    const struct open_call call = {invoke_openat2, directory, path, (int)how->flags, (mode_t)how->mode, NULL, &by};
    /* A mode without a file to create is refused, and a file that never has a name is none of ours. */
    if ((how->mode && !(how->flags & O_CREAT)) || (how->flags & O_TMPFILE) == O_TMPFILE)
        return real(directory, path, how, size);
    return admit_open(&call);
}

static int raw_openat2(int directory, const char *path, const struct open_how *how, size_t size)
{
    return (int)REAL(syscall)(SYS_openat2, directory, path, how, size);
}

EXPORT int openat2(int directory, const char *path, const struct open_how *how, size_t size)
{
    return open_how(REAL(openat2), directory, path, how, size);
}

static int raw_close(int descriptor)
{
    return (int)REAL(syscall)(SYS_close, descriptor);
}

static int raw_close_range(unsigned first, unsigned last, int flags)
{
    return (int)REAL(syscall)(SYS_close_range, first, last, flags);
}

static int raw_dup3(const struct duplication *call, int old, int new)
{
    return (int)REAL(syscall)(SYS_dup3, old, new, call->flags);
}

#ifdef SYS_dup2
static int raw_dup2(const struct duplication *call, int old, int new)
{
    (void)call;
    return (int)REAL(syscall)(SYS_dup2, old, new);
}
#endif

static int raw_fcntl(int descriptor, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return (int)REAL(syscall)(SYS_fcntl, descriptor, command, argument);
}

static long raw_open(int directory, const char *path, int flags, mode_t mode)
{
    const struct open_call call = {invoke_openat, directory, path, flags, mode, NULL, NULL};
    return admit_open(&call);
}

/* clone3's flags lie in memory that may not be there: it may always be who shares all with us. */
static long make_child(long number, long a, long b, long c, long d, long e)
{
    const long shares = CLONE_VM | CLONE_FILES;
    bool may_share = number == SYS_clone3 || (number == SYS_clone && (a & shares) == shares);
    track_begin_child(may_share ? TRACK_SHARER : TRACK_COPY);
    long result = REAL(syscall)(number, a, b, c, d, e);
    if (result != 0) track_end_child();
    return result;
}

EXPORT long syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long);
    long b = va_arg(list, long);
    long c = va_arg(list, long);
    long d = va_arg(list, long);
    long e = va_arg(list, long);
    long f = va_arg(list, long);
    va_end(list);
    switch (number) {
#ifdef SYS_open
    case SYS_open:
        return raw_open(AT_FDCWD, (const char *)a, (int)b, (mode_t)c);
    case SYS_creat:
        return raw_open(AT_FDCWD, (const char *)a, O_CREAT | O_WRONLY | O_TRUNC, (mode_t)b);
#endif
    case SYS_openat:
        return raw_open((int)a, (const char *)b, (int)c, (mode_t)d);
    case SYS_openat2:
        return open_how(raw_openat2, (int)a, (const char *)b, (const struct open_how *)c, (size_t)d);
    case SYS_close:
        if (__builtin_expect(track_entry((int)a) == 0, 1)) break;
        return close_tracked(raw_close, (int)a);
    case SYS_close_range:
        return close_range_around(raw_close_range, (unsigned)a, (unsigned)b, (int)c);
    case SYS_dup: {
        struct copy copy;
        if (__builtin_expect(track_entry((int)a) == 0, 1)) {
            int result = (int)REAL(syscall)(SYS_dup, a);
            track_opened(result);
            return result;
        }
        copy_begin(&copy, (int)a);
        return copy_end(&copy, (int)REAL(syscall)(SYS_dup, seen_by_program((int)a)), false);
    }
#ifdef SYS_dup2
    case SYS_dup2: {
        const struct duplication call = {raw_dup2, NULL, 0};
        return duplicate_onto(&call, (int)a, (int)b, false);
    }
#endif
    case SYS_dup3: {
        const struct duplication call = {raw_dup3, NULL, (int)c};
        return duplicate_onto(&call, (int)a, (int)b, c & O_CLOEXEC);
    }
    case SYS_fcntl:
        return control_by(raw_fcntl, (int)a, (int)b, (void *)c);
#ifdef SYS_fork
    case SYS_fork:
    case SYS_vfork:
#endif
    case SYS_clone:
    case SYS_clone3:
        return make_child(number, a, b, c, d, e);
#ifdef SYS_unlink
    case SYS_unlink:
        return unlinkat((int)AT_FDCWD, (const char *)a, 0);
    case SYS_rename:
        return renameat2(AT_FDCWD, (const char *)a, AT_FDCWD, (const char *)b, 0);
#endif
    case SYS_unlinkat:
        return unlinkat((int)a, (const char *)b, (int)c);
#ifdef SYS_renameat
    case SYS_renameat:
        return renameat2((int)a, (const char *)b, (int)c, (const char *)d, 0);
#endif
    case SYS_renameat2:
        return renameat2((int)a, (const char *)b, (int)c, (const char *)d, (unsigned)e);
    case SYS_truncate:
        return truncate((const char *)a, (off_t)b);
    case SYS_ftruncate:
        return ftruncate((int)a, (off_t)b);
    case SYS_fallocate:
        return fallocate((int)a, (int)b, (off_t)c, (off_t)d);
    default:
        break;
    }
    return REAL(syscall)(number, a, b, c, d, e, f);
}
