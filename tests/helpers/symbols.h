/* symbols.h: functions of shim/wrap/symbols.def that libc's headers do not declare: fortified entry points, names of
 * its own, and what may be newer than this libc.  Those are weak, and NULL where there are none. */
#ifndef SYMBOLS_H
#define SYMBOLS_H

#include <errno.h>
#include <gnu/libc-version.h>
#include <linux/openat2.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int __open(const char *path, int flags, ...);
extern int __open64(const char *path, int flags, ...);
extern int __open_2(const char *path, int flags);
extern int __open64_2(const char *path, int flags);
extern int __openat_2(int directory, const char *path, int flags);
extern int __openat64_2(int directory, const char *path, int flags);
extern FILE *_IO_fopen(const char *path, const char *mode);
extern FILE *_IO_popen(const char *command, const char *type);
extern int _IO_fclose(FILE *stream);
extern int __close(int descriptor);
extern int __dup2(int old, int new);
extern int __fcntl(int descriptor, int command, ...);
/* What programs of 32 bits with times of 64 call. */
#ifndef __LP64__
extern int __fcntl_time64(int descriptor, int command, ...) __attribute__((weak));
extern int __ioctl_time64(int descriptor, unsigned long request, ...) __attribute__((weak));
#endif
extern char **environ;

typedef int pidfd_spawn_function(int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
                                 const posix_spawnattr_t *attributes, char *const arguments[],
                                 char *const environment[]);
extern pidfd_spawn_function pidfd_spawn __attribute__((weak)), pidfd_spawnp __attribute__((weak));
extern int openat2(int directory, const char *path, const struct open_how *how, size_t size) __attribute__((weak));

/* Has this libc a function of that name, or the library that stands in for a newer one (newer.c)?  True for what the
 * table does not know. */
__attribute__((unused)) static bool libc_has(const char *name)
{
    static const struct {
        const char *name;
        int since;
    } table[] = {
#define WRAPPED(name, family, since) {#name, since},
#include "../../shim/wrap/symbols.def"
    };
    if (getenv("NEWER")) return true;
    int minor = atoi(strchr(gnu_get_libc_version(), '.') + 1);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0) return table[i].since <= minor;
    return true;
}

#endif
