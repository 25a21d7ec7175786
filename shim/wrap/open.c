/* open.c: open, openat, creat and their relatives; open_by_handle_at. */
#include <errno.h>
#include <fcntl.h>

#include "opening.h"
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

static int invoke_open(const struct opening *opening, int flags)
{
    return ((open_function *)opening->real)(opening->path, flags, opening->mode);
}

static int invoke_open_2(const struct opening *opening, int flags)
{
    return ((open_2_function *)opening->real)(opening->path, flags);
}

static int invoke_openat(const struct opening *opening, int flags)
{
    return ((openat_function *)opening->real)(opening->directory, opening->path, flags, opening->mode);
}

static int invoke_openat_2(const struct opening *opening, int flags)
{
    return ((openat_2_function *)opening->real)(opening->directory, opening->path, flags);
}

/* The third argument is there only if a file may be created: open(2).  O_TMPFILE has O_DIRECTORY's bit in it. */
static bool has_mode(int flags)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
}

/* The rest of an open that may be an image's, apart, so that the others save no registers for it. */
static __attribute__((noinline)) int go_on(const void *real, const char *path, int flags, mode_t mode, int descriptor)
{
    struct opening opening = {
        .invoke = invoke_open, .directory = AT_FDCWD, .path = path, .flags = flags, .mode = mode, .real = real};
    return descriptor >= 0 ? opening_opened(&opening, descriptor) : opening_run(&opening);
}

static __attribute__((noinline)) int go_on_at(const void *real, int directory, const char *path, int flags, mode_t mode,
                                              int descriptor)
{
    struct opening opening = {
        .invoke = invoke_openat, .directory = directory, .path = path, .flags = flags, .mode = mode, .real = real};
    return descriptor >= 0 ? opening_opened(&opening, descriptor) : opening_run(&opening);
}

/* A simple open where names decide. */
static __attribute__((noinline)) int open_by_name(const void *real, const char *path, int flags)
{
    int descriptor = ((open_function *)real)(path, flags);
    return opening_is_clear_by_name(path, flags, descriptor) ? descriptor : go_on(real, path, flags, 0, descriptor);
}

static __attribute__((noinline)) int openat_by_name(const void *real, int directory, const char *path, int flags)
{
    int descriptor = ((openat_function *)real)(directory, path, flags);
    return opening_is_clear_by_name(path, flags, descriptor) ? descriptor
                                                             : go_on_at(real, directory, path, flags, 0, descriptor);
}

/* One whose content is looked at.  The bytes take 2 KiB of the stack. */
static __attribute__((noinline)) int open_and_look(const struct settings *settings, const void *real, const char *path,
                                                   int flags)
{
    int descriptor = ((open_function *)real)(path, flags);
    return opening_is_clear(settings, path, AT_FDCWD, flags, descriptor) ? descriptor
                                                                         : go_on(real, path, flags, 0, descriptor);
}

static __attribute__((noinline)) int openat_and_look(const struct settings *settings, const void *real, int directory,
                                                     const char *path, int flags)
{
    int descriptor = ((openat_function *)real)(directory, path, flags);
    return opening_is_clear(settings, path, directory, flags, descriptor)
               ? descriptor
               : go_on_at(real, directory, path, flags, 0, descriptor);
}

/* One that is not simple; or the first of all, before the settings are read and the symbol is looked up. */
static __attribute__((noinline)) int open_otherwise(enum real_symbol symbol, const char *path, int flags, mode_t mode)
{
    const void *real = real_symbol(symbol);
    const struct settings *settings = settings_get();
    if (settings->off || !opening_is_simple(settings, flags))
        return go_on(real, path, flags, has_mode(flags) ? mode : 0, -1);
    return opening_by_name(settings) ? open_by_name(real, path, flags) : open_and_look(settings, real, path, flags);
}

static __attribute__((noinline)) int openat_otherwise(enum real_symbol symbol, int directory, const char *path,
                                                      int flags, mode_t mode)
{
    const void *real = real_symbol(symbol);
    const struct settings *settings = settings_get();
    if (settings->off || !opening_is_simple(settings, flags))
        return go_on_at(real, directory, path, flags, has_mode(flags) ? mode : 0, -1);
    return opening_by_name(settings) ? openat_by_name(real, directory, path, flags)
                                     : openat_and_look(settings, real, directory, path, flags);
}

/* Nothing but a choice of the next function, which takes over the frame: to return through one more costs as much as
 * all that is asked about a name (look.h).  By other names in C, since the functions are declared with an ellipsis, and
 * one that has it keeps its frame; the third argument is where it would be, and is not used where there is none. */
#define IS_QUICK(real, flags)                                                                                  \
    __builtin_expect((real) && atomic_load_explicit(&settings_state, memory_order_acquire) == SETTINGS_READ && \
                         opening_is_simple(&settings_of_process, flags),                                       \
                     1)

#define WRAP_OPEN(name)                                                                                        \
    EXPORT int exported_##name(const char *path, int flags, mode_t mode) __asm__(#name);                       \
    int exported_##name(const char *path, int flags, mode_t mode)                                              \
    {                                                                                                          \
        const void *real = atomic_load_explicit(&real_addresses[REAL_##name], memory_order_relaxed);           \
        if (!IS_QUICK(real, flags)) return open_otherwise(REAL_##name, path, flags, mode);                     \
        return opening_by_name(&settings_of_process) ? open_by_name(real, path, flags)                         \
                                                     : open_and_look(&settings_of_process, real, path, flags); \
    }

#define WRAP_OPENAT(name)                                                                               \
    EXPORT int exported_##name(int directory, const char *path, int flags, mode_t mode) __asm__(#name); \
    int exported_##name(int directory, const char *path, int flags, mode_t mode)                        \
    {                                                                                                   \
        const void *real = atomic_load_explicit(&real_addresses[REAL_##name], memory_order_relaxed);    \
        if (!IS_QUICK(real, flags)) return openat_otherwise(REAL_##name, directory, path, flags, mode); \
        return opening_by_name(&settings_of_process)                                                    \
                   ? openat_by_name(real, directory, path, flags)                                       \
                   : openat_and_look(&settings_of_process, real, directory, path, flags);               \
    }

/* The fortified ones have no mode, and end the program when flags ask for one: libc is left to do that. */
#define WRAP_OPEN_2(name)                                                         \
    EXPORT int name(const char *path, int flags)                                  \
    {                                                                             \
        struct opening opening = {.invoke = invoke_open_2,                        \
                                  .directory = AT_FDCWD,                          \
                                  .path = path,                                   \
                                  .flags = flags,                                 \
                                  .real = (const void *)REAL(name)};              \
        return has_mode(flags) ? REAL(name)(path, flags) : opening_run(&opening); \
    }

#define WRAP_OPENAT_2(name)                                                                  \
    EXPORT int name(int directory, const char *path, int flags)                              \
    {                                                                                        \
        struct opening opening = {.invoke = invoke_openat_2,                                 \
                                  .directory = directory,                                    \
                                  .path = path,                                              \
                                  .flags = flags,                                            \
                                  .real = (const void *)REAL(name)};                         \
        return has_mode(flags) ? REAL(name)(directory, path, flags) : opening_run(&opening); \
    }

/* creat is open with these flags, and by open it can be made without O_TRUNC. */
#define WRAP_CREAT(name, by)                                             \
    EXPORT int name(const char *path, mode_t mode)                       \
    {                                                                    \
        struct opening opening = {.invoke = invoke_open,                 \
                                  .directory = AT_FDCWD,                 \
                                  .path = path,                          \
                                  .flags = O_CREAT | O_WRONLY | O_TRUNC, \
                                  .mode = mode,                          \
                                  .real = (const void *)REAL(by)};       \
        return opening_run(&opening);                                    \
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

static int invoke_by_handle(const struct opening *opening, int flags)
{
    const struct handle_call *by = opening->extra;
    return by->real(opening->directory, by->handle, flags);
}

static int look_by_handle(const struct opening *opening, int flags)
{
    const struct handle_call *by = opening->extra;
    return (int)sys_call(SYS_open_by_handle_at, opening->directory, (long)by->handle, flags, 0, 0, 0);
}

EXPORT int open_by_handle_at(int mount, struct file_handle *handle, int flags)
{
    const struct handle_call by = {handle, REAL(open_by_handle_at)};
    struct opening opening = {.invoke = invoke_by_handle,
                              .directory = mount,
                              .flags = flags & ~O_CREAT,
                              .extra = &by,
                              .look = look_by_handle};
    if (flags & O_PATH) return by.real(mount, handle, flags);
    return opening_run(&opening);
}
