/* process.c: calls that make a process which may get our locks.  They are noted, since a lock that another
 * process may share is never weakened.  fork(3) itself is noted by the handler that track.c registers; vfork
 * cannot be wrapped by a function that returns, so its child tells us when it calls exec. */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include <utmp.h>

#include "../sys.h"
#include "../track.h"
#include "admit.h"
#include "real.h"
#include "unwatched.h"

EXPORT pid_t _Fork(void)
{
    track_before_raw_fork();
    return REAL(_Fork)();
}

typedef int clone_function(int (*function)(void *), void *stack, int flags, void *argument, ...);
extern clone_function __clone;

#define WRAP_CLONE(name)                                                                  \
    EXPORT int name(int (*function)(void *), void *stack, int flags, void *argument, ...) \
    {                                                                                     \
        va_list list;                                                                     \
        va_start(list, argument);                                                         \
        void *parent_tid = va_arg(list, void *);                                          \
        void *tls = va_arg(list, void *);                                                 \
        void *child_tid = va_arg(list, void *);                                           \
        va_end(list);                                                                     \
        if (!(flags & CLONE_THREAD)) track_before_raw_fork();                             \
        return REAL(name)(function, stack, flags, argument, parent_tid, tls, child_tid);  \
    }

WRAP_CLONE(clone)
WRAP_CLONE(__clone)

/* daemon(3), login_tty(3) and forkpty(3) put other files on 0, 1 and 2 by calls of their own: an image that was there
 * is closed by it. */
static void look_again_at_standard_descriptors(void)
{
    struct track_closing closing;
    for (int descriptor = 0; descriptor <= 2; descriptor++) {
        track_begin_close(&closing, descriptor);
        track_cancel_close(&closing);
    }
}

EXPORT int daemon(int keep_directory, int keep_files)
{
    int result = REAL(daemon)(keep_directory, keep_files);
    if (!keep_files) look_again_at_standard_descriptors();
    return result;
}

EXPORT int login_tty(int terminal)
{
    int result = REAL(login_tty)(terminal);
    look_again_at_standard_descriptors();
    return result;
}

EXPORT int forkpty(int *master, char *name, const struct termios *settings, const struct winsize *size)
{
    int result = REAL(forkpty)(master, name, settings, size);
    if (result == 0) look_again_at_standard_descriptors();
    return result;
}

/* One of posix_spawn's file actions, as glibc has had it since 2.2 (posix/spawn_int.h). */
struct action {
    enum { ACTION_CLOSE, ACTION_DUP2, ACTION_OPEN, ACTION_CHDIR, ACTION_FCHDIR } kind;
    struct {
        int from;
        int to;
        void *path;
        int flags;
        mode_t mode;
    } with;
};

/* Spawning with a copy of the actions.  An image that the child gets by an action is copied inside libc, and its lock
 * has to go with it: for posix_spawn the copy of a descriptor onto itself takes close-on-exec off. */
struct spawning {
    const posix_spawn_file_actions_t *actions; /* what to spawn with */
    posix_spawn_file_actions_t changed;
    size_t size; /* of what is mapped for it, or 0 */
};

static const struct action *action_at(const posix_spawn_file_actions_t *actions, int index)
{
    return (const struct action *)actions->__actions + index;
}

/* libc itself opens what an action says, in the child; a refusal has to come before that can truncate or create.  0 or
 * an errno.  The lock is only asked for here: the program that is started takes it for the descriptor that it inherits.
 */
static int refuse_open_actions(const posix_spawn_file_actions_t *actions)
{
    bool elsewhere = false; /* in a directory that only the child will be in */
    int saved = errno;
    for (int i = 0; actions && i < actions->__used; i++) {
        const struct action *action = action_at(actions, i);
        if (action->kind == ACTION_CHDIR || action->kind == ACTION_FCHDIR) elsewhere = true;
        if (action->kind != ACTION_OPEN || (elsewhere && *(const char *)action->with.path != '/')) continue;
        const struct open_call call = {.directory = AT_FDCWD, .path = action->with.path, .flags = action->with.flags};
        struct admission admission;
        int refused = admit_ahead(&call, &admission);
        int error = errno;
        track_drop(&admission.hold);
        errno = saved;
        if (refused < 0) return error;
    }
    return 0;
}

static void spawn_begin(struct spawning *spawning, const posix_spawn_file_actions_t *actions)
{
    int privates[TRACK_PRIVATES];
    int images = 0;
    *spawning = (struct spawning){.actions = actions};
    track_note_fork();
    for (int i = 0; actions && i < actions->__used; i++)
        if (action_at(actions, i)->kind == ACTION_DUP2) images += track_entry(action_at(actions, i)->with.from) != 0;
    if (images == 0) return;
    size_t size = (size_t)(actions->__used + TRACK_PRIVATES * images) * sizeof(struct action);
    struct action *changed = sys_mmap(size);
    if (!changed) return; /* so will the spawn be without memory */
    int used = 0;
    for (int i = 0; i < actions->__used; i++) {
        if (action_at(actions, i)->kind != ACTION_DUP2) continue;
        int count = track_privates(action_at(actions, i)->with.from, privates);
        for (int j = 0; j < count; j++)
            changed[used++] = (struct action){ACTION_DUP2, {.from = privates[j], .to = privates[j]}};
    }
    /* First, so that the program's own actions, which may close everything, have the last word. */
    memcpy(changed + used, actions->__actions, (size_t)actions->__used * sizeof(struct action));
    spawning->changed = *actions;
    spawning->changed.__used = spawning->changed.__allocated = used + actions->__used;
    spawning->changed.__actions = (void *)changed;
    spawning->actions = &spawning->changed;
    spawning->size = size;
}

static void spawn_end(const struct spawning *spawning)
{
    if (spawning->size) sys_munmap((void *)spawning->changed.__actions, spawning->size);
}

#define WRAP_SPAWN(name, unwatched)                                                                          \
    EXPORT int name(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,                 \
                    const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]) \
    {                                                                                                        \
        struct spawning spawning;                                                                            \
        int refused = refuse_open_actions(actions);                                                          \
        if (refused) return refused;                                                                         \
        spawn_begin(&spawning, actions);                                                                     \
        unwatched;                                                                                           \
        int result = REAL(name)(pid, path, spawning.actions, attributes, arguments, environment);            \
        spawn_end(&spawning);                                                                                \
        return result;                                                                                       \
    }

WRAP_SPAWN(posix_spawn, unwatched_path(AT_FDCWD, path, environment))
WRAP_SPAWN(posix_spawnp, unwatched_command(path, environment))

EXPORT int system(const char *command)
{
    track_note_fork();
    unwatched_path(AT_FDCWD, "/bin/sh", environ);
    return REAL(system)(command);
}

extern FILE *_IO_popen(const char *command, const char *mode);

EXPORT FILE *popen(const char *command, const char *mode)
{
    track_note_fork();
    unwatched_path(AT_FDCWD, "/bin/sh", environ);
    return REAL(popen)(command, mode);
}

EXPORT FILE *_IO_popen(const char *command, const char *mode)
{
    track_note_fork();
    unwatched_path(AT_FDCWD, "/bin/sh", environ);
    return REAL(_IO_popen)(command, mode);
}

EXPORT int execve(const char *path, char *const arguments[], char *const environment[])
{
    track_note_fork();
    unwatched_path(AT_FDCWD, path, environment);
    return REAL(execve)(path, arguments, environment);
}

EXPORT int execveat(int directory, const char *path, char *const arguments[], char *const environment[], int flags)
{
    track_note_fork();
    /* An empty path and AT_EMPTY_PATH: the descriptor itself. */
    if (flags & AT_EMPTY_PATH)
        unwatched_descriptor(directory, environment);
    else
        unwatched_path(directory, path, environment);
    return REAL(execveat)(directory, path, arguments, environment, flags);
}

EXPORT int fexecve(int descriptor, char *const arguments[], char *const environment[])
{
    track_note_fork();
    unwatched_descriptor(descriptor, environment);
    return REAL(fexecve)(descriptor, arguments, environment);
}

EXPORT int execv(const char *path, char *const arguments[])
{
    track_note_fork();
    unwatched_path(AT_FDCWD, path, environ);
    return REAL(execv)(path, arguments);
}

EXPORT int execvp(const char *file, char *const arguments[])
{
    track_note_fork();
    unwatched_command(file, environ);
    return REAL(execvp)(file, arguments);
}

EXPORT int execvpe(const char *file, char *const arguments[], char *const environment[])
{
    track_note_fork();
    unwatched_command(file, environment);
    return REAL(execvpe)(file, arguments, environment);
}

/* The variadic three, with their arguments put in a row.  On the stack, as in libc: they are called in vfork children
 * and signal handlers. */
#define COLLECT_ARGUMENTS(first, list)                                        \
    size_t count = 0;                                                         \
    va_start(list, first);                                                    \
    for (const char *one = (first); one; one = va_arg(list, char *)) count++; \
    va_end(list);                                                             \
    char *arguments[count + 1];                                               \
    va_start(list, first);                                                    \
    arguments[0] = (char *)(first);                                           \
    for (size_t i = 1; i <= count; i++) arguments[i] = va_arg(list, char *)

EXPORT int execl(const char *path, const char *argument, ...)
{
    va_list list;
    COLLECT_ARGUMENTS(argument, list);
    va_end(list);
    return execv(path, arguments);
}

EXPORT int execlp(const char *file, const char *argument, ...)
{
    va_list list;
    COLLECT_ARGUMENTS(argument, list);
    va_end(list);
    return execvp(file, arguments);
}

EXPORT int execle(const char *path, const char *argument, ...)
{
    va_list list;
    COLLECT_ARGUMENTS(argument, list);
    char *const *environment = va_arg(list, char *const *);
    va_end(list);
    return execve(path, arguments, environment);
}
