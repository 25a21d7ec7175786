/* lock_between.c: lock_between EVENT:COUNT ACTION COMMAND ARGUMENT...: runs the command, and stops it just before the
 * kernel sees the COUNTth (1: the first) lock by open file description (EVENT lock), such a lock or something written
 * to a file (EVENT change), wait for events (EVENT poll), or sleep (EVENT sleep); runs ACTION with sh; then lets it go
 * on. So what happens between an open and a lock happens every time, and no test has to win a race. The status is the
 * command's. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "lock_between: %s: %s\n", what, strerror(errno));
    exit(99);
}

enum event { LOCK, CHANGE, POLL, SLEEP, EVENTS };

static const char *const event_names[EVENTS] = {"lock:", "change:", "poll:", "sleep:"};

static bool at_event(pid_t child, enum event event)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) <= 0) die("PTRACE_GET_SYSCALL_INFO");
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return false;
    const bool lock = info.entry.nr == SYS_fcntl && info.entry.args[1] == F_OFD_SETLK;
    const bool written = info.entry.nr == SYS_pwrite64 || info.entry.nr == SYS_pwritev;
    if (event == SLEEP) return info.entry.nr == SYS_nanosleep;
    return event == POLL ? info.entry.nr == SYS_ppoll : lock || (event == CHANGE && written);
}

int main(int argc, char **argv)
{
    enum event event = LOCK;
    if (argc < 4) return 99;
    while (event < EVENTS && strncmp(argv[1], event_names[event], strlen(event_names[event])) != 0) event++;
    if (event == EVENTS) return 99;
    int left = atoi(argv[1] + strlen(event_names[event]));
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) die("PTRACE_TRACEME");
        raise(SIGSTOP);
        execvp(argv[3], argv + 3);
        die(argv[3]);
    }
    int status;
    if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) die("waitpid");
    if (ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0) die("PTRACE_SETOPTIONS");
    long deliver = 0;
    for (;;) {
        /* The action may have killed it: then it is waited for until it has nothing any more. */
        if (ptrace(left > 0 ? PTRACE_SYSCALL : PTRACE_CONT, child, NULL, deliver) < 0 && errno != ESRCH)
            die("PTRACE_SYSCALL");
        if (waitpid(child, &status, 0) < 0) die("waitpid");
        if (!WIFSTOPPED(status)) break;
        deliver = 0;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            if (at_event(child, event) && --left == 0 && system(argv[2]) != 0) {
                fprintf(stderr, "lock_between: the action failed\n");
                return 99;
            }
        } else if (WSTOPSIG(status) != SIGTRAP) {
            deliver = WSTOPSIG(status);
        }
    }
    if (left > 0) {
        fprintf(stderr, "lock_between: the command never came to %s\n", argv[1]);
        return 99;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
