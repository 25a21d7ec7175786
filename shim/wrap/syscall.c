/* syscall.c: syscall(2), for the numbers that open, copy or close descriptors.  Node closes every file that way. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../realpath.h"
#include "../sys.h"
#include "../track_process.h"
#include "duplicate.h"
#include "opening.h"
#include "real.h"
#include "release.h"
#include "unwatched.h"
#include "uring.h"

typedef long syscall_function(long number, ...);

static int invoke_openat(const struct opening *opening, int flags)
{
    return (int)REAL(syscall)(SYS_openat, opening->directory, opening->path, flags, opening->mode);
}

/* Newer than the headers may be. */
typedef int openat2_function(int directory, const char *path, const struct open_how *how, size_t size);
extern openat2_function openat2;

/* openat2's arguments lie in a structure, which may be larger than the one we know: what we do not know is passed on as
 * it is. */
struct open_how_call {
    const struct open_how *how;
    size_t size;
};

/* As much as the kernel takes, copy_struct_from_user(). */
enum { LARGEST_HOW = 4096 };

/* With other flags than the program's, as only images are opened. */
static PATH_FRAME int openat2_changed(const struct opening *opening, int flags)
{
    const struct open_how_call *by = opening->extra;
    const int changed = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC;
    _Alignas(8) char bytes[LARGEST_HOW];
    struct open_how *how = (struct open_how *)bytes;
    memcpy(bytes, by->how, by->size);
    how->flags = (how->flags & ~(__u64)changed) | (__u64)(flags & changed);
    if (!(how->flags & O_CREAT)) how->mode = 0; /* else EINVAL */
    return ((openat2_function *)opening->real)(opening->directory, opening->path, how, by->size);
}

static int invoke_openat2(const struct opening *opening, int flags)
{
    const struct open_how_call *by = opening->extra;
    if (flags != (int)by->how->flags) return openat2_changed(opening, flags);
    return ((openat2_function *)opening->real)(opening->directory, opening->path, by->how, by->size);
}

static int look_openat2(const struct opening *opening, int flags)
{
    const struct open_how_call *by = opening->extra;
    const struct open_how how = {.flags = (__u64)flags, .resolve = by->how->resolve};
    return (int)sys_call(SYS_openat2, opening->directory, (long)opening->path, (long)&how, sizeof how, 0, 0);
}

/* Will the kernel take the structure?  It copies it before it looks at the path, and the empty path opens nothing. */
static bool is_taken(const struct open_how *how, size_t size)
{
    return size >= sizeof *how && size <= LARGEST_HOW &&
           sys_call(SYS_openat2, -1, (long)"", (long)how, (long)size, 0, 0) == -ENOENT;
}

/* Apart, so that nothing else has its frame. */
static __attribute__((noinline)) long open_how(openat2_function *real, int directory, const char *path,
                                               const struct open_how *how, size_t size)
{
    /* Looked up here, so that the wrapper needs no frame of its own. */
    if (!real) real = REAL(openat2);
    /* What it does not take it refuses, and a file that never has a name is none of ours. */
    if (!is_taken(how, size) || (how->flags & O_TMPFILE) == O_TMPFILE) return real(directory, path, how, size);
    const struct open_how_call by = {how, size};
    struct opening opening = {.invoke = invoke_openat2,
                              .directory = directory,
                              .path = path,
                              .flags = (int)how->flags,
                              .mode = (mode_t)how->mode,
                              .real = (const void *)real,
                              .extra = &by,
                              .look = look_openat2};
    return opening_run(&opening);
}

static int raw_openat2(int directory, const char *path, const struct open_how *how, size_t size)
{
    return (int)REAL(syscall)(SYS_openat2, directory, path, how, size);
}

EXPORT int openat2(int directory, const char *path, const struct open_how *how, size_t size)
{
    return (int)open_how(NULL, directory, path, how, size);
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

#ifndef __LP64__
static int raw_fcntl64(int descriptor, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return (int)REAL(syscall)(SYS_fcntl64, descriptor, command, argument);
}

/* An offset in two arguments, the lower half first. */
static off64_t two_halves(long low, long high)
{
    return (off64_t)((uint64_t)high << 32 | (uint32_t)low);
}
#endif

/* Apart, and as open_how with syscall's own type, so that syscall hands its frame on. */
static __attribute__((noinline)) long raw_open(int directory, const char *path, int flags, mode_t mode)
{
    struct opening opening = {
        .invoke = invoke_openat, .directory = directory, .path = path, .flags = flags, .mode = mode};
    return opening_run(&opening);
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

/* What opens nothing. */
static __attribute__((noinline)) long syscall_otherwise(long number, long a, long b, long c, long d, long e, long f)
{
    switch (number) {
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
    case SYS_ioctl:
        if (__builtin_expect(track_entry((int)a) == 0, 1)) break;
        return ioctl((int)a, (unsigned long)b, (void *)c);
    case SYS_open_by_handle_at:
        return open_by_handle_at((int)a, (struct file_handle *)b, (int)c);
    case SYS_execve:
        return execve((const char *)a, (char *const *)b, (char *const *)c);
    case SYS_execveat:
        /* Older libcs have no function for it. */
        track_note_child();
        unwatched_at((int)a, (const char *)b, (char *const *)d, (int)e);
        break;
    case SYS_truncate:
        return truncate((const char *)a, b);
    case SYS_ftruncate:
        return ftruncate((int)a, b);
#ifdef __LP64__
    case SYS_fallocate:
        return fallocate((int)a, (int)b, c, d);
#else
    case SYS_truncate64:
        return truncate64((const char *)a, two_halves(b, c));
    case SYS_ftruncate64:
        return ftruncate64((int)a, two_halves(b, c));
    case SYS_fallocate:
        return fallocate64((int)a, (int)b, two_halves(c, d), two_halves(e, f));
    case SYS_fcntl64:
        return control_by(raw_fcntl64, (int)a, (int)b, (void *)c);
#endif
    case SYS_io_uring_setup:
        if (settings_get()->io_uring == IO_URING_ALLOW || uring_is_being_made()) break;
        errno = ENOSYS;
        return -1;
    default:
        break;
    }
    return REAL(syscall)(number, a, b, c, d, e, f);
}

/* By another name in C, since the function is declared with an ellipsis, whose registers would take 200 bytes of the
 * stack.  The arguments are where they would be; those that a caller does not give are read and mean nothing, as in
 * libc. */
EXPORT long exported_syscall(long number, long a, long b, long c, long d, long e, long f) __asm__("syscall");
long exported_syscall(long number, long a, long b, long c, long d, long e, long f)
{
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
    default:
        return syscall_otherwise(number, a, b, c, d, e, f);
    }
}
