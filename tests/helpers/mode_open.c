/* mode_open.c: mode_open HOW IMAGE: opens it as HOW says and tells what came of it on a line: "refused ETXTBSY", or
 * "writes", "reads", "reads-only" (it asked for more).  Then it waits, with the image open, for a signal. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int flags;
} ways[] = {
    {"read", O_RDONLY},
    {"read-write", O_RDWR},
    {"write", O_WRONLY},
    {"append", O_WRONLY | O_APPEND},
    {"truncate", O_RDWR | O_TRUNC},
    {"create", O_RDWR | O_CREAT},
};

/* What the descriptor is good for, by using it; or NULL, which is wrong. */
static const char *use(int descriptor, int flags)
{
    char byte = 'x';
    ssize_t got = pread(descriptor, &byte, 1, 0);
    if ((flags & O_ACCMODE) == O_WRONLY ? got >= 0 || errno != EBADF : got < 0) return NULL;
    if (pwrite(descriptor, &byte, 1, 0) == 1) return (flags & O_ACCMODE) == O_RDONLY ? NULL : "writes";
    if (errno != EBADF) return NULL;
    return (flags & O_ACCMODE) == O_RDONLY ? "reads" : "reads-only";
}

int main(int argc, char **argv)
{
    size_t way = 0;
    if (argc != 3) return 2;
    while (way < sizeof ways / sizeof *ways && strcmp(ways[way].name, argv[1]) != 0) way++;
    if (way == sizeof ways / sizeof *ways) return 2;
    int descriptor = open(argv[2], ways[way].flags | O_CLOEXEC, 0644);
    if (descriptor < 0) {
        printf("refused %s\n", strerrorname_np(errno));
        return 1;
    }
    const char *good_for = use(descriptor, ways[way].flags);
    puts(good_for ? good_for : "is of no use");
    fclose(stdout);
    for (;;) pause();
}
