// link: -shared -fPIC -ldl
/* newer.c: a library, preloaded behind imglock's, with the functions of shim/wrap/symbols.def that this glibc may not
 * have yet, as the glibc has them that brings them. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libc's own, as libc calls them: past imglock's. */
#define BEHIND(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int openat2(int directory, const char *path, const struct open_how *how, size_t size);

int openat2(int directory, const char *path, const struct open_how *how, size_t size)
{
    return (int)BEHIND(syscall)(SYS_openat2, directory, path, how, size);
}

#define PIDFD_SPAWN(name, by)                                                                                   \
    int name(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], \
             char *const[]);                                                                                    \
    int name(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,                           \
             const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[])           \
    {                                                                                                           \
        pid_t pid;                                                                                              \
        int error = BEHIND(by)(&pid, path, actions, attributes, arguments, environment);                        \
        if (!error) *pidfd = (int)BEHIND(syscall)(SYS_pidfd_open, pid, 0);                                      \
        return error;                                                                                           \
    }

PIDFD_SPAWN(pidfd_spawn, posix_spawn)
PIDFD_SPAWN(pidfd_spawnp, posix_spawnp)
