#include "child.h"

#include <stddef.h>
#include <unistd.h>

static const int passed_on[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM};

void child_signals(sigset_t *signals)
{
    struct sigaction action;
    sigemptyset(signals);
    for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++)
        if (sigaction(passed_on[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(signals, passed_on[i]);
}

pid_t child_fork(const sigset_t *blocked)
{
    sigset_t before;
    struct sigaction on_child;
    sigprocmask(SIG_BLOCK, blocked, &before);
    /* Where it is ignored, children leave no status. */
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL}, &on_child);
    const pid_t child = fork();
    if (child == 0) {
        sigaction(SIGCHLD, &on_child, NULL);
        sigprocmask(SIG_SETMASK, &before, NULL);
    }
    return child;
}
