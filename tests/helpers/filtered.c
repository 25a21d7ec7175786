/* filtered.c: filtered kill|refuse PATH...: opens and reads each PATH under a seccomp filter that allows only what a
 * program needs for it: open, openat, close, read, write, fstat, pread64, readlinkat (of what is opened for writing)
 * and exit. */
#include "check.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static void filter(unsigned otherwise)
{
    static const int allowed[] = {
#ifdef SYS_open
        SYS_open,
#endif
#ifdef SYS_newfstatat
        SYS_newfstatat,
#else
        SYS_fstat64, SYS_fstatat64,  SYS_statx,
#endif
        SYS_openat,     SYS_close,      SYS_read, SYS_write,      SYS_fstat,
        SYS_pread64,    SYS_readlinkat, SYS_exit, SYS_exit_group,
    };
    enum { COUNT = sizeof allowed / sizeof *allowed };
    struct sock_filter program[COUNT + 3];
    program[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < COUNT; i++)
        program[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i],
                                                      (unsigned char)(COUNT - i), 0);
    program[COUNT + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    program[COUNT + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog whole = {COUNT + 3, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole) < 0) {
        perror("seccomp");
        _exit(2);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    filter(strcmp(argv[1], "kill") == 0 ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM);
    for (int i = 2; i < argc; i++) {
        char bytes[4096];
        struct stat status;
        int descriptor = open(argv[i], O_RDONLY);
        if (descriptor < 0) _exit(10);
        if (fstat(descriptor, &status) < 0 || read(descriptor, bytes, sizeof bytes) < 0) _exit(11);
        if (close(descriptor) < 0) _exit(12);
        descriptor = openat(AT_FDCWD, argv[i], O_RDWR | O_CLOEXEC);
        if (descriptor < 0 || close(descriptor) < 0) _exit(13);
        if (write(1, "read\n", 5) != 5) _exit(14);
    }
    int descriptor = open("created", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (descriptor < 0 || write(descriptor, "x", 1) != 1 || close(descriptor) < 0) _exit(15);
    descriptor = open("created", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (descriptor < 0 || close(descriptor) < 0) _exit(16);
    if (write(1, "created\n", 8) != 8) _exit(14);
    _exit(0);
}
