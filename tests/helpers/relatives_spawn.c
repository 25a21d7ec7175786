// link: -shared -fPIC -ldl
/* relatives_spawn.c: preloaded behind the library, a posix_spawn that says when it is called, by a byte on descriptor
 * 101, and waits for one on 102 before it goes on. */
#include <dlfcn.h>
#include <spawn.h>
#include <unistd.h>

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const words[], char *const environment[])
{
    int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const *,
                char *const *) = dlsym(RTLD_NEXT, "posix_spawnp");
    char byte = 'x';
    if (write(101, &byte, 1) == 1 && read(102, &byte, 1) == 1)
        return real(pid, file, actions, attributes, words, environment);
    return real(pid, file, actions, attributes, words, environment);
}
