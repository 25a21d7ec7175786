/* audit_pipe.c: audit_pipe FIFO COMMAND ARGUMENT...: is the only reader of the FIFO, runs the command, stops it just
 * before it first writes to the FIFO, and leaves then: the write meets a pipe without a reader.  The status is the
 * command's, or 128 and the signal that ended it; 99 when it never wrote. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "audit_pipe: %s: %s\n", what, strerror(errno));
    exit(99);
}

/* Is the child about to write to the FIFO? */
static bool writes_to(pid_t child, const struct stat *fifo)
{
    struct __ptrace_syscall_info info;
    struct stat status;
    char path[64];
    if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) <= 0) die("PTRACE_GET_SYSCALL_INFO");
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr != SYS_write) return false;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)child, (int)info.entry.args[0]);
    return stat(path, &status) == 0 && status.st_dev == fifo->st_dev && status.st_ino == fifo->st_ino;
}

int main(int argc, char **argv)
{
    struct stat fifo;
    if (argc < 3) return 99;
    int reader = open(argv[1], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (reader < 0 || fstat(reader, &fifo) < 0) die(argv[1]);
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) die("PTRACE_TRACEME");
        raise(SIGSTOP);
        execvp(argv[2], argv + 2);
        die(argv[2]);
    }
    int status;
    if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) die("waitpid");
    if (ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0) die("PTRACE_SETOPTIONS");
    for (long deliver = 0;;) {
        if (ptrace(reader >= 0 ? PTRACE_SYSCALL : PTRACE_CONT, child, NULL, deliver) < 0) die("PTRACE_SYSCALL");
        if (waitpid(child, &status, 0) < 0) die("waitpid");
        if (!WIFSTOPPED(status)) break;
        int signal = WSTOPSIG(status);
        deliver = signal == SIGTRAP || signal == (SIGTRAP | 0x80) ? 0 : signal;
        if (signal == (SIGTRAP | 0x80) && reader >= 0 && writes_to(child, &fifo)) {
            close(reader);
            reader = -1;
        }
    }
    if (reader >= 0) return 99;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
