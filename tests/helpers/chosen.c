// link: -shared -fPIC -Wl,--version-script=tests/helpers/chosen.map
/* chosen.c: a library to preload.  Its creat is chosen when the dynamic linker asks for it (STT_GNU_IFUNC); of
 * some functions there is an old version, too, which only programs that were linked with it would get.  Of several,
 * since which of two versions a lookup meets first is the linker's choice. */
#include <fcntl.h>

static int open_new(const char *path, mode_t mode)
{
    return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

__attribute__((used)) static int (*choose(void))(const char *, mode_t)
{
    return open_new;
}

int creat(const char *path, mode_t mode) __attribute__((ifunc("choose")));

/* gcc before 10 and clang have no attribute for it, and gcc's link-time optimization loses the directive. */
#if defined __has_attribute
#if __has_attribute(symver)
#define SYMBOL(name, symbol) __attribute__((symver(symbol)))
#endif
#endif
#ifndef SYMBOL
#define SYMBOL(name, symbol) __asm__(".symver " #name "," symbol);
#endif

#define VERSION(name, symbol)                                   \
    int name(void);                                             \
    SYMBOL(name, symbol)                                        \
    __attribute__((used, visibility("default"))) int name(void) \
    {                                                           \
        return __LINE__;                                        \
    }

VERSION(old_daemon, "daemon@OLD")
VERSION(new_daemon, "daemon@@NEW")
VERSION(old_lockf, "lockf@OLD")
VERSION(new_lockf, "lockf@@NEW")
VERSION(old_lockf64, "lockf64@OLD")
VERSION(new_lockf64, "lockf64@@NEW")
VERSION(old_forkpty, "forkpty@OLD")
VERSION(new_forkpty, "forkpty@@NEW")
VERSION(old_login_tty, "login_tty@OLD")
VERSION(new_login_tty, "login_tty@@NEW")
VERSION(old_mkostemps64, "mkostemps64@OLD")
VERSION(new_mkostemps64, "mkostemps64@@NEW")
VERSION(old_readdir64_r, "readdir64_r@OLD")
VERSION(new_readdir64_r, "readdir64_r@@NEW")
VERSION(old_readdir_r, "readdir_r@OLD")
VERSION(new_readdir_r, "readdir_r@@NEW")
