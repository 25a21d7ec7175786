/* audit_lost.c: audit_lost IMAGE [COMMAND]: opens the image for writing, closes the library's lock descriptor behind
 * its back, with the system call itself; runs the command with sh; and then gets that number for a descriptor of its
 * own, which is when the library sees what happened. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The call as a program makes it that does not ask libc. */
static long close_unseen(long descriptor)
{
#ifdef __x86_64__
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(SYS_close), "D"(descriptor) : "rcx", "r11", "memory");
    return result;
#else
    register long x8 __asm__("x8") = SYS_close;
    register long x0 __asm__("x0") = descriptor;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8) : "memory");
    return x0;
#endif
}

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
    if (descriptor < 0 || private < 0 || close_unseen(private) < 0) return 2;
    if (argc > 2 && system(argv[2]) != 0) return 2;
    return fcntl(descriptor, F_DUPFD, private) == private ? 0 : 1;
}
