/* mapped.c: mapped r|rr|rk|w IMAGE [COMMAND]: opens it for reading or for reading and writing, maps it, by rr twice,
 * and closes it, but by rk; then does with it what a program does, by itself and by children, and prints each result.
 * With a COMMAND: runs that instead. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, int result)
{
    printf("%s: %s\n", what, result < 0 ? strerror(errno) : "done");
    fflush(stdout);
}

static void open_and_close(const char *what, const char *image, int flags)
{
    const int descriptor = open(image, flags);
    tell(what, descriptor);
    if (descriptor >= 0) close(descriptor);
}

static void open_in_child(const char *image)
{
    const pid_t child = fork();
    if (child == 0) {
        open_and_close("child", image, O_RDWR);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    char other[4096];
    if (argc < 3) return 2;
    const char *image = argv[2];
    const bool writes = *argv[1] == 'w';
    const int descriptor = open(image, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (descriptor < 0) return 3;
    const bool keeps = strchr(argv[1], 'k');
    for (const char *each = argv[1]; *each; each++)
        if (*each != 'k' &&
            mmap(NULL, 4096, writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, descriptor, 0) == MAP_FAILED)
            return 4;
    if (!keeps) close(descriptor);
    if (argc > 3) {
        const int status = system(argv[3]);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 5;
    }
    snprintf(other, sizeof other, "%s.other", image);
    open_and_close("read", image, O_RDONLY);
    open_and_close("write", image, O_RDWR);
    open_in_child(image);
    tell("system", system("dd if=/dev/zero of=disk.img bs=1 count=1 conv=notrunc status=none") ? -1 : 0);
    open_and_close("truncate", image, O_RDWR | O_TRUNC);
    tell("lengthen", truncate(image, 65536));
    tell("rename", rename(image, other));
    tell("unlink", unlink(other));
    return 0;
}
