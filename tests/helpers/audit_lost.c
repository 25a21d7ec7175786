/* audit_lost.c: audit_lost IMAGE [COMMAND]: opens the image for writing, closes the library's lock descriptor behind
 * its back, with the system call itself; runs the command with sh; and then gets that number for a descriptor of its
 * own, which is when the library sees what happened. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../shim/sys.h"

static int lock_descriptor(void)
{
    char path[32], target[4096];
    for (int number = 0; number < 8192; number++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", number);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length <= 0) continue;
        target[length] = '\0';
        if (strstr(target, "/.qemu-")) return number;
    }
    return -1;
}

int main(int argc, char **argv)
{
    int descriptor = argc > 1 ? open(argv[1], O_RDWR) : -1;
    int private = lock_descriptor();
    if (descriptor < 0 || private < 0 || sys_close(private) < 0) return 2;
    if (argc > 2 && system(argv[2]) != 0) return 2;
    return fcntl(descriptor, F_DUPFD, private) == private ? 0 : 1;
}
