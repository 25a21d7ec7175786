// link: -shared -fPIC -DIMGLOCK_LIBRARY
/* closing_hook.c: a library, preloaded behind imglock's, that lets the program act just before and just after the
 * kernel closes a descriptor. */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

void (*on_close)(int descriptor, bool closed);

int close(int descriptor)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
    if (on_close) on_close(descriptor, false);
    int result = real(descriptor);
    if (on_close) on_close(descriptor, true);
    return result;
}

bool refuse_close_range; /* as filters of system calls do that are older than it */

int close_range(unsigned first, unsigned last, int flags)
{
    int (*real)(unsigned, unsigned, int) = (int (*)(unsigned, unsigned, int))dlsym(RTLD_NEXT, "close_range");
    if (!refuse_close_range) return real(first, last, flags);
    errno = EPERM;
    return -1;
}
