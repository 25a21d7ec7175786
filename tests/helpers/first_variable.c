// link: -shared -fPIC
/* first_variable.c: a library to preload before imglock.  When the program, or the constructor of one of its libraries,
 * opens its first stream, the first variable of the environment gets its value anew, which puts it elsewhere in memory;
 * then the program goes on. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

FILE *fopen(const char *path, const char *mode)
{
    static char *before;
    FILE *(*next)(const char *, const char *) = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, "fopen");
    if (!before && environ && getenv("MOVE")) {
        before = program_invocation_name;
        program_invocation_name = strdup(before);
        dprintf(2, "moved\n");
    }
    if (!before && environ && environ[0]) {
        before = environ[0];
        char *name = strndup(before, strcspn(before, "="));
        setenv(name, before + strlen(name) + 1, 1);
        if (environ[0] != before) dprintf(2, "moved\n");
        free(name);
    }
    return next(path, mode);
}
