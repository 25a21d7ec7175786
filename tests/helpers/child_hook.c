// link: -shared -fPIC
/* child_hook.c: a library, preloaded behind imglock's, that lets the program act just before the kernel makes a child.
 */
#include <dlfcn.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

void (*before_child)(void);

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void *act(void *next)
{
    void (*function)(void) = before_child;
    before_child = NULL;
    if (function) function();
    return next;
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])
{
    return ((__typeof__(&posix_spawn))act(NEXT(posix_spawn)))(pid, path, actions, attributes, arguments, environment);
}

int posix_spawnp(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])
{
    return ((__typeof__(&posix_spawnp))act(NEXT(posix_spawnp)))(pid, path, actions, attributes, arguments, environment);
}

int system(const char *command)
{
    return ((__typeof__(&system))act(NEXT(system)))(command);
}

FILE *popen(const char *command, const char *mode)
{
    return ((__typeof__(&popen))act(NEXT(popen)))(command, mode);
}

#if __GLIBC_PREREQ(2, 34)
pid_t _Fork(void)
{
    return ((__typeof__(&_Fork))act(NEXT(_Fork)))();
}
#endif

int clone(int (*function)(void *), void *stack, int flags, void *argument, ...)
{
    return ((__typeof__(&clone))act(NEXT(clone)))(function, stack, flags, argument);
}

long syscall(long number, ...)
{
    va_list list;
    long arguments[6];
    void *next = NEXT(syscall);
    va_start(list, number);
    for (int i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_clone) act(next);
    return ((__typeof__(&syscall))next)(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                                        arguments[5]);
}
