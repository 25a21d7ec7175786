/* open.c: open, openat, creat and their relatives; open_by_handle_at. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "admit.h"
#include "real.h"

/* <fcntl.h> declares the fortified entry points only to fortified code. */
extern int __open(const char *path, int flags, ...);
extern int __open64(const char *path, int flags, ...);
extern int __open_2(const char *path, int flags);
extern int __open64_2(const char *path, int flags);
extern int __openat_2(int directory, const char *path, int flags);
extern int __openat64_2(int directory, const char *path, int flags);

typedef int open_function(const char *path, int flags, ...);
typedef int open_2_function(const char *path, int flags);
typedef int openat_function(int directory, const char *path, int flags, ...);
typedef int openat_2_function(int directory, const char *path, int flags);

static int invoke_open(const struct open_call *call, int flags)
{
    return ((open_function *)call->real)(call->path, flags, call->mode);
}

static int invoke_open_2(const struct open_call *call, int flags)
{
    return ((open_2_function *)call->real)(call->path, flags);
}

static int invoke_openat(const struct open_call *call, int flags)
{
    return ((openat_function *)call->real)(call->directory, call->path, flags, call->mode);
}

static int invoke_openat_2(const struct open_call *call, int flags)
{
    return ((openat_2_function *)call->real)(call->directory, call->path, flags);
}

/* The third argument is there only if a file may be created: open(2).  O_TMPFILE has O_DIRECTORY's bit in it. */
static mode_t mode_argument(int flags, va_list arguments)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t) : 0;
}

#define WRAP_OPEN(name)                                                                                        \
    EXPORT int name(const char *path, int flags, ...)                                                          \
    {                                                                                                          \
        va_list arguments;                                                                                     \
        va_start(arguments, flags);                                                                            \
        mode_t mode = mode_argument(flags, arguments);                                                         \
        va_end(arguments);                                                                                     \
        bool simple = admit_is_simple(flags);                                                                  \
        int descriptor = simple ? REAL(name)(path, flags, mode) : -1;                                          \
        if (simple && admit_is_clear(path, descriptor)) return descriptor;                                     \
        const struct open_call call = {invoke_open, AT_FDCWD, path, flags, mode, (const void *)REAL(name), 0}; \
        return simple ? admit_opened(&call, descriptor) : admit_open(&call);                                   \
    }

#define WRAP_OPENAT(name)                                                                                         \
    EXPORT int name(int directory, const char *path, int flags, ...)                                              \
    {                                                                                                             \
        va_list arguments;                                                                                        \
        va_start(arguments, flags);                                                                               \
        mode_t mode = mode_argument(flags, arguments);                                                            \
        va_end(arguments);                                                                                        \
        bool simple = admit_is_simple(flags);                                                                     \
        int descriptor = simple ? REAL(name)(directory, path, flags, mode) : -1;                                  \
        if (simple && admit_is_clear(path, descriptor)) return descriptor;                                        \
        const struct open_call call = {invoke_openat, directory, path, flags, mode, (const void *)REAL(name), 0}; \
        return simple ? admit_opened(&call, descriptor) : admit_open(&call);                                      \
    }

/* The fortified ones have no mode, and end the program when flags ask for one: libc is left to do that. */
#define WRAP_OPEN_2(name)                                                                                         \
    EXPORT int name(const char *path, int flags)                                                                  \
    {                                                                                                             \
        const struct open_call call = {invoke_open_2, AT_FDCWD, path, flags, 0, (const void *)REAL(name), 0};     \
        return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? REAL(name)(path, flags) : admit_open(&call); \
    }

#define WRAP_OPENAT_2(name)                                                                                      \
    EXPORT int name(int directory, const char *path, int flags)                                                  \
    {                                                                                                            \
        const struct open_call call = {invoke_openat_2, directory, path, flags, 0, (const void *)REAL(name), 0}; \
        return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? REAL(name)(directory, path, flags)          \
                                                                   : admit_open(&call);                          \
    }

/* creat is open with these flags; only by open can the file be looked at before it is truncated. */
#define WRAP_CREAT(name, by)                                                                             \
    EXPORT int name(const char *path, mode_t mode)                                                       \
    {                                                                                                    \
        const struct open_call call = {                                                                  \
            invoke_open, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, (const void *)REAL(by), 0}; \
        return admit_open(&call);                                                                        \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP_OPEN(__open)
WRAP_OPEN(__open64)
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)
WRAP_OPEN_2(__open_2)
WRAP_OPEN_2(__open64_2)
WRAP_OPENAT_2(__openat_2)
WRAP_OPENAT_2(__openat64_2)
WRAP_CREAT(creat, open)
WRAP_CREAT(creat64, open64)

struct handle_call {
    struct file_handle *handle;
    int (*real)(int mount, struct file_handle *handle, int flags);
};

static int invoke_by_handle(const struct open_call *call, int flags)
{
    const struct handle_call *by = call->extra;
    return by->real(call->directory, by->handle, flags);
}

EXPORT int open_by_handle_at(int mount, struct file_handle *handle, int flags)
{
    const struct handle_call by = {handle, REAL(open_by_handle_at)};
    const struct open_call call = {invoke_by_handle, mount, NULL, flags & ~O_CREAT, 0, NULL, &by};
    if (flags & O_PATH) return by.real(mount, handle, flags);
    return admit_open(&call);
}
