/* dup.c: dup, dup2, dup3, fcntl and ioctl as far as they copy descriptors or decide what survives exec. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../track.h"
#include "../track_close.h"
#include "../track_lost.h"
#include "../track_private.h"
#include "duplicate.h"
#include "own_locks.h"
#include "real.h"
#include "record_locks.h"

extern int __dup2(int old, int new);
extern int __fcntl(int descriptor, int command, ...);

static void copy_interrupted(void *argument)
{
    struct copy *copy = argument;
    track_drop(&copy->hold);
}

void copy_begin(struct copy *copy, int descriptor)
{
    copy->hold = (struct track_hold){0};
    _pthread_cleanup_push(&copy->cleanup, copy_interrupted, copy);
    track_copy(descriptor, &copy->hold);
}

int copy_end(struct copy *copy, int descriptor, bool close_on_exec)
{
    if (descriptor >= 0 && track_attach(&copy->hold, descriptor, close_on_exec) < 0) {
        REAL(close)(descriptor);
        errno = ENOMEM;
        descriptor = -1;
    }
    track_drop(&copy->hold);
    _pthread_cleanup_pop(&copy->cleanup, 0);
    return descriptor;
}

int seen_by_program(int descriptor)
{
    if (__builtin_expect(track_entry(descriptor) == 0, 1) || !track_is_private(descriptor)) return descriptor;
    return -1;
}

EXPORT int dup(int descriptor)
{
    struct copy copy;
    if (__builtin_expect(track_entry(descriptor) == 0, 1)) {
        int result = REAL(dup)(descriptor);
        track_opened(result);
        return result;
    }
    copy_begin(&copy, descriptor);
    return copy_end(&copy, REAL(dup)(seen_by_program(descriptor)), false);
}

/* dup2 of an image, onto an image, or both. */
struct replacement {
    struct track_hold hold;        /* the copy's */
    struct track_closing replaced; /* what is closed */
    bool close_on_exec;
    struct _pthread_cleanup_buffer cleanup;
};

/* dup2 did not come back: what the number stands for now says whether it was done.  Where both are the same image the
 * stronger hold is right in either case. */
static void replacement_interrupted(void *argument)
{
    struct replacement *call = argument;
    int descriptor = call->replaced.descriptor;
    bool was = track_closed_nothing(&call->replaced);
    bool is = call->hold.image && track_still_open(&call->hold, descriptor);
    if (is && (!was || call->hold.mode > call->replaced.mode)) {
        track_end_close(&call->replaced);
        track_attach(&call->hold, descriptor, call->close_on_exec);
    }
    /* In this order: a handler may jump away once more, at the end of either. */
    track_drop(&call->hold);
    track_cancel_close(&call->replaced);
}

static int duplicate_at(const struct duplication *call, int old, int new, bool close_on_exec);

int duplicate_onto(const struct duplication *call, int old, int new, bool close_on_exec)
{
    sys_signals before;
    if (__builtin_expect(!track_freeze(new, &before), 1)) return duplicate_at(call, old, new, close_on_exec);
    int result = duplicate_at(call, old, new, close_on_exec);
    track_thaw(&before);
    return result;
}

static int duplicate_at(const struct duplication *call, int old, int new, bool close_on_exec)
{
    if (__builtin_expect((track_entry(old) | track_entry(new)) == 0, 1)) return call->real(call, old, new);
    /* dup2 asks whether it is open, dup3 says EINVAL. */
    if (old == new) return call->real(call, seen_by_program(old), seen_by_program(new));
    if (track_is_private(old)) return call->real(call, -1, new);
    if (track_is_private(new) && !track_move_private(new)) {
        errno = EMFILE;
        return -1;
    }
    struct replacement replacement = {.replaced.descriptor = new, .close_on_exec = close_on_exec};
    track_ask_again(new);
    _pthread_cleanup_push(&replacement.cleanup, replacement_interrupted, &replacement);
    /* Marked before there is a copy: a handler that jumps away in between finds what was there. */
    track_begin_close(&replacement.replaced, new);
    track_copy(old, &replacement.hold);
    int result = call->real(call, old, new);
    if (result < 0) {
        track_drop(&replacement.hold);
        track_undo_close(&replacement.replaced);
    } else {
        track_end_close(&replacement.replaced);
        if (track_attach(&replacement.hold, result, close_on_exec) < 0) {
            REAL(close)(result);
            errno = ENOMEM;
            result = -1;
        }
    }
    track_drop(&replacement.hold);
    _pthread_cleanup_pop(&replacement.cleanup, 0);
    return result;
}

static int real_dup2(const struct duplication *call, int old, int new)
{
    return ((int (*)(int, int))call->function)(old, new);
}

static int real_dup3(const struct duplication *call, int old, int new)
{
    return ((int (*)(int, int, int))call->function)(old, new, call->flags);
}

EXPORT int dup2(int old, int new)
{
    const struct duplication call = {real_dup2, (const void *)REAL(dup2), 0};
    return duplicate_onto(&call, old, new, false);
}

EXPORT int __dup2(int old, int new)
{
    const struct duplication call = {real_dup2, (const void *)REAL(__dup2), 0};
    return duplicate_onto(&call, old, new, false);
}

EXPORT int dup3(int old, int new, int flags)
{
    const struct duplication call = {real_dup3, (const void *)REAL(dup3), flags};
    return duplicate_onto(&call, old, new, flags & O_CLOEXEC);
}

/* F_DUPFD.  The copy gets the lowest free number from the one that is asked for, and a private descriptor that stands
 * there makes room. */
static int copy_from(fcntl_function *real, int descriptor, int command, void *argument)
{
    int lowest = (int)(long)argument;
    for (;;) {
        int copy = real(descriptor, command, argument);
        if (copy <= lowest) return copy;
        int64_t at = track_next((unsigned)lowest, (unsigned)copy - 1);
        while (at >= 0 && !track_is_private((int)at)) at = track_next((unsigned)at + 1, (unsigned)copy - 1);
        if (__builtin_expect(at < 0, 1)) return copy;
        REAL(close)(copy);
        if (!track_move_private((int)at)) return real(descriptor, command, argument);
    }
}

static int control_slowly(fcntl_function *real, int descriptor, int command, void *argument);

int control_by(fcntl_function *real, int descriptor, int command, void *argument)
{
    /* What neither makes nor locks a descriptor, of one that is not ours. */
    if (__builtin_expect(track_entry(descriptor) == 0 && command != F_DUPFD && command != F_DUPFD_CLOEXEC &&
                             !own_locks_command(command),
                         1))
        return real(descriptor, command, argument);
    return control_slowly(real, descriptor, command, argument);
}

static __attribute__((noinline)) int control_slowly(fcntl_function *real, int descriptor, int command, void *argument)
{
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
        struct copy copy;
        if (__builtin_expect(track_entry(descriptor) == 0, 1)) {
            int result = copy_from(real, descriptor, command, argument);
            track_opened(result);
            return result;
        }
        copy_begin(&copy, descriptor);
        int result = copy_from(real, seen_by_program(descriptor), command, argument);
        return copy_end(&copy, result, command == F_DUPFD_CLOEXEC);
    }
    if (command == F_SETLK || command == F_SETLKW) record_locks_note(seen_by_program(descriptor));
    if (own_locks_command(command) && !track_is_private(descriptor) &&
        (track_entry(descriptor) != 0 || own_locks_unlocked()))
        return own_locks_call(real, descriptor, command, argument);
    if (__builtin_expect(track_entry(descriptor) == 0, 1) || command != F_SETFD || track_is_private(descriptor))
        return real(seen_by_program(descriptor), command, argument);
    /* The lock has to survive exec before the image does, and stop surviving it after. */
    bool close_on_exec = (long)argument & FD_CLOEXEC;
    if (!close_on_exec) track_set_close_on_exec(descriptor, false);
    int result = real(descriptor, command, argument);
    if (result == 0 && close_on_exec) track_set_close_on_exec(descriptor, true);
    return result;
}

/* The third argument's type depends on the command; as a pointer all of them pass whole, as glibc itself does. */
#define WRAP_FCNTL(name)                                                                \
    EXPORT int name(int descriptor, int command, ...)                                   \
    {                                                                                   \
        va_list arguments;                                                              \
        va_start(arguments, command);                                                   \
        void *argument = va_arg(arguments, void *);                                     \
        va_end(arguments);                                                              \
        return control_by((fcntl_function *)REAL(name), descriptor, command, argument); \
    }

WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)
WRAP_FCNTL(__fcntl)

#define WRAP_IOCTL(name)                                                                                         \
    EXPORT int name(int descriptor, unsigned long request, ...)                                                  \
    {                                                                                                            \
        va_list arguments;                                                                                       \
        va_start(arguments, request);                                                                            \
        void *argument = va_arg(arguments, void *);                                                              \
        va_end(arguments);                                                                                       \
        if (__builtin_expect(track_entry(descriptor) == 0, 1)) return REAL(name)(descriptor, request, argument); \
        if (track_is_private(descriptor)) return REAL(name)(-1, request, argument);                              \
        if (request == FIONCLEX) track_set_close_on_exec(descriptor, false);                                     \
        int result = REAL(name)(descriptor, request, argument);                                                  \
        if (result == 0 && request == FIOCLEX) track_set_close_on_exec(descriptor, true);                        \
        return result;                                                                                           \
    }

WRAP_IOCTL(ioctl)

#ifndef __LP64__
/* What programs call that were built with a time_t of 64 bits. */
extern int __fcntl_time64(int descriptor, int command, ...);
extern int __ioctl_time64(int descriptor, unsigned long request, ...);
WRAP_FCNTL(__fcntl_time64)
WRAP_IOCTL(__ioctl_time64)
#endif

/* libc's lockf locks by a call of its own that cannot be seen. */
static void note_lockf(int descriptor)
{
    record_locks_note(descriptor);
    if (__builtin_expect(track_entry(descriptor) != 0, 0) && !track_is_private(descriptor))
        track_locks_itself(descriptor);
}

EXPORT int lockf(int descriptor, int command, __off_t size)
{
    note_lockf(descriptor);
    return REAL(lockf)(descriptor, command, size);
}

EXPORT int lockf64(int descriptor, int command, off64_t size)
{
    note_lockf(descriptor);
    return REAL(lockf64)(descriptor, command, size);
}
