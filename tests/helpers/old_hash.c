// link: -shared -fPIC -Wl,--hash-style=sysv
/* old_hash.c: a library to preload behind imglock, with the symbol table of times before DT_GNU_HASH.  It says when a
 * file is created by creat(2). */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>

int open(const char *path, int flags, ...)
{
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    dprintf(2, "old: %s\n", path);
    return next(path, flags, 0600);
}
