/* opening_ways.c: opening_ways FILE [LOCKED]: tries every way to open the file for writing, and prints one line for
 * each: "open O_WRONLY: ETXTBSY".  LOCKED: first, a file that it locks by F_SETLK and keeps open.  Status 1 when one of
 * them goes through. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

extern int __open_2(const char *path, int flags);
extern int __openat64_2(int directory, const char *path, int flags);

static const char *file;
static int went_through;

static void tell(const char *way, const char *how, long result)
{
    printf("%s %s: %s\n", way, how, result < 0 ? strerrorname_np(errno) : "opened");
    went_through |= result >= 0;
    errno = 0;
}

static long openat2_of(size_t size, int flags)
{
    _Alignas(8) static char bytes[8192];
    struct open_how *how = (struct open_how *)bytes;
    memset(bytes, 0, sizeof bytes);
    how->flags = (unsigned)flags;
    return syscall(SYS_openat2, AT_FDCWD, file, how, size);
}

static void by_calls(const char *how, int flags)
{
    tell("open", how, open(file, flags));
    tell("open with O_CREAT", how, open(file, flags | O_CREAT, 0644));
    tell("__open_2", how, __open_2(file, flags));
    tell("openat", how, openat(AT_FDCWD, file, flags));
    tell("__openat64_2", how, __openat64_2(AT_FDCWD, file, flags));
    tell("syscall openat", how, syscall(SYS_openat, AT_FDCWD, file, flags));
    tell("openat2 of 24 bytes", how, openat2_of(24, flags));
    tell("openat2 of 32 bytes", how, openat2_of(32, flags));
    tell("openat2 of 4096 bytes", how, openat2_of(4096, flags));
}

/* Through a path descriptor, whose name tells nothing. */
static void by_descriptor(const char *how, int flags)
{
    char link[64];
    int handle = open(file, O_PATH);
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    tell("open of /proc/self/fd/N", how, open(link, flags));
    close(handle);
}

static void by_streams(void)
{
    static const char *const modes[] = {"w", "w+", "a", "a+", "r+"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        tell("fopen", modes[i], fopen(file, modes[i]) ? 0 : -1);
        FILE *stream = fopen("/dev/null", "r");
        tell("freopen", modes[i], freopen(file, modes[i], stream) ? 0 : -1);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *how;
        int flags;
    } flags[] = {{"O_WRONLY", O_WRONLY},
                 {"O_RDWR", O_RDWR},
                 {"O_WRONLY|O_APPEND", O_WRONLY | O_APPEND},
                 {"O_WRONLY|O_TRUNC", O_WRONLY | O_TRUNC},
                 {"O_RDWR|O_TRUNC", O_RDWR | O_TRUNC},
                 {"O_RDONLY|O_TRUNC", O_RDONLY | O_TRUNC}};
    if (argc < 2) return 2;
    if (argc > 2) {
        struct flock whole = {.l_type = F_WRLCK};
        if (fcntl(open(argv[2], O_RDWR | O_CREAT, 0600), F_SETLK, &whole) < 0) return 2;
    }
    file = argv[1];
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        by_calls(flags[i].how, flags[i].flags);
        by_descriptor(flags[i].how, flags[i].flags);
    }
    tell("creat", "", creat(file, 0644));
    by_streams();
    return went_through;
}
