// link: -shared -fPIC -Wl,-e,start
/* without_headers.c: a program whose headers do not say where they are (PT_PHDR), as a shared library's; the dynamic
 * linker runs it as its argument.  Opens disk.img for writing; its status is errno. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void start(void);

__attribute__((force_align_arg_pointer)) void start(void)
{
    _exit(open("disk.img", O_RDWR) < 0 ? errno : 0);
}
