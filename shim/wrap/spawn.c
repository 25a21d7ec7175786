/* spawn.c: calls that make a process which may get our locks.  They are counted, since a lock that another
 * process may have is never changed.  fork(3) itself is counted by the handler that track_process.c registers. */
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
#include "../track_close.h"
#include "../track_private.h"
#include "../track_process.h"
#include "ahead.h"
#include "cleanup.h"
#include "lookup.h"
#include "real.h"
#include "unwatched.h"

EXPORT pid_t _Fork(void)
{
    track_begin_child(TRACK_COPY);
    pid_t result = REAL(_Fork)();
    if (result != 0) track_end_child();
    return result;
}

typedef int clone_function(int (*function)(void *), void *stack, int flags, void *argument, ...);
extern clone_function __clone;

enum { SHARES_ALL = CLONE_VM | CLONE_FILES };

#define WRAP_CLONE(name)                                                                                     \
    EXPORT int name(int (*function)(void *), void *stack, int flags, void *argument, ...)                    \
    {                                                                                                        \
        va_list list;                                                                                        \
        va_start(list, argument);                                                                            \
        void *parent_tid = va_arg(list, void *);                                                             \
        void *tls = va_arg(list, void *);                                                                    \
        void *child_tid = va_arg(list, void *);                                                              \
        va_end(list);                                                                                        \
        clone_function *real = REAL(name);                                                                   \
        if (flags & CLONE_THREAD) return real(function, stack, flags, argument, parent_tid, tls, child_tid); \
        track_begin_child((flags & SHARES_ALL) == SHARES_ALL ? TRACK_SHARER : TRACK_COPY);                   \
        int result = real(function, stack, flags, argument, parent_tid, tls, child_tid);                     \
        track_end_child();                                                                                   \
        return result;                                                                                       \
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
    union {
        struct {
            int from;
            int to;
        };
        struct {
            int number;
            void *path;
            int flags;
            mode_t mode;
        };
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

/* Would the open of this action be refused?  0 or an errno.  errno stays. */
static int refuse_open_action(const struct action *action, int directory)
{
    struct opening opening = {.directory = directory, .path = action->with.path, .flags = action->with.flags};
    struct ahead ahead;
    int saved = errno;
    int error = ahead_begin(&opening, &ahead) < 0 ? errno : 0;
    ahead_abandon(&ahead);
    errno = saved;
    return error;
}

/* The directory that the child changes to, opened from the one that it is in; or -errno, as its own call will fail. */
static int directory_of_action(const struct action *action, int directory)
{
    enum { FLAGS = O_PATH | O_DIRECTORY | O_CLOEXEC };
    const char *path;
    if (action->kind == ACTION_FCHDIR) return sys_openat(action->with.from, ".", FLAGS, 0);
    memcpy(&path, &action->with, sizeof path); /* chdir_action has nothing else */
    return sys_openat(directory, path, FLAGS, 0);
}

/* libc itself opens what an action says, in the child; a refusal has to come before that can truncate or create.  0 or
 * an errno.  The lock is only asked for here: the program that is started takes it for the descriptor that it inherits.
 */
static int refuse_open_actions(const posix_spawn_file_actions_t *actions)
{
    int directory = AT_FDCWD;
    int refused = 0;
    if (!lookup_is_glibc()) return 0;
    for (int i = 0; actions && i < actions->__used && !refused; i++) {
        const struct action *action = action_at(actions, i);
        if (action->kind == ACTION_OPEN) refused = refuse_open_action(action, directory);
        if (action->kind != ACTION_CHDIR && action->kind != ACTION_FCHDIR) continue;
        const int next = directory_of_action(action, directory);
        if (directory >= 0) sys_close(directory);
        if (next < 0) return 0;
        directory = next;
    }
    if (directory >= 0) sys_close(directory);
    return refused;
}

static void spawn_begin(struct spawning *spawning, const posix_spawn_file_actions_t *actions)
{
    int privates[TRACK_PRIVATES];
    int images = 0;
    *spawning = (struct spawning){.actions = actions};
    if (!actions || !lookup_is_glibc()) return;
    for (int i = 0; i < actions->__used; i++)
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

/* Newer than the headers may be. */
extern int pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]);
extern int pidfd_spawnp(int *pidfd, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]);

#define WRAP_SPAWN(name, type, unwatched)                                                                    \
    EXPORT int name(type *child, const char *path, const posix_spawn_file_actions_t *actions,                \
                    const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]) \
    {                                                                                                        \
        struct spawning spawning;                                                                            \
        int refused = refuse_open_actions(actions);                                                          \
        if (refused) return refused;                                                                         \
        track_begin_child(TRACK_PROGRAM);                                                                    \
        spawn_begin(&spawning, actions);                                                                     \
        unwatched;                                                                                           \
        int result = REAL(name)(child, path, spawning.actions, attributes, arguments, environment);          \
        spawn_end(&spawning);                                                                                \
        track_end_child();                                                                                   \
        return result;                                                                                       \
    }

WRAP_SPAWN(posix_spawn, pid_t, unwatched_path(AT_FDCWD, path, environment))
WRAP_SPAWN(posix_spawnp, pid_t, unwatched_command(path, environment))
WRAP_SPAWN(pidfd_spawn, int, unwatched_path(AT_FDCWD, path, environment))
WRAP_SPAWN(pidfd_spawnp, int, unwatched_command(path, environment))

static void system_interrupted(void *unused)
{
    (void)unused;
    track_end_child();
}

/* A cancellation point, while the command runs. */
EXPORT int system(const char *command)
{
    struct _pthread_cleanup_buffer cleanup;
    track_begin_child(TRACK_PROGRAM);
    unwatched_path(AT_FDCWD, "/bin/sh", environ);
    _pthread_cleanup_push(&cleanup, system_interrupted, NULL);
    int result = REAL(system)(command);
    _pthread_cleanup_pop(&cleanup, 0);
    track_end_child();
    return result;
}

extern FILE *_IO_popen(const char *command, const char *mode);

EXPORT FILE *popen(const char *command, const char *mode)
{
    track_begin_child(TRACK_PROGRAM);
    unwatched_path(AT_FDCWD, "/bin/sh", environ);
    FILE *result = REAL(popen)(command, mode);
    track_end_child();
    return result;
}

EXPORT FILE *_IO_popen(const char *command, const char *mode)
{
    track_begin_child(TRACK_PROGRAM);
    unwatched_path(AT_FDCWD, "/bin/sh", environ);
    FILE *result = REAL(_IO_popen)(command, mode);
    track_end_child();
    return result;
}

EXPORT int execve(const char *path, char *const arguments[], char *const environment[])
{
    track_note_child();
    unwatched_path(AT_FDCWD, path, environment);
    return REAL(execve)(path, arguments, environment);
}

EXPORT int execveat(int directory, const char *path, char *const arguments[], char *const environment[], int flags)
{
    track_note_child();
    unwatched_at(directory, path, environment, flags);
    return REAL(execveat)(directory, path, arguments, environment, flags);
}

EXPORT int fexecve(int descriptor, char *const arguments[], char *const environment[])
{
    track_note_child();
    unwatched_descriptor(descriptor, environment);
    return REAL(fexecve)(descriptor, arguments, environment);
}

EXPORT int execv(const char *path, char *const arguments[])
{
    track_note_child();
    unwatched_path(AT_FDCWD, path, environ);
    return REAL(execv)(path, arguments);
}

EXPORT int execvp(const char *file, char *const arguments[])
{
    track_note_child();
    unwatched_command(file, environ);
    return REAL(execvp)(file, arguments);
}

EXPORT int execvpe(const char *file, char *const arguments[], char *const environment[])
{
    track_note_child();
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
