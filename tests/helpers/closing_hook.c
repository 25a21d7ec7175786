// link: -shared -fPIC
/* closing_hook.c: a library, preloaded behind imglock's, that lets the program act just before and just after the
 * kernel closes a descriptor. */
#include <dlfcn.h>
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
