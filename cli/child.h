/* child.h: a command that runs below this process, which waits for it. */
#ifndef IMGLOCK_CHILD_H
#define IMGLOCK_CHILD_H

#include <signal.h>
#include <sys/types.h>

/* Signals that are meant for the command when somebody sends them to this process alone: those that end a program that
 * does not handle them, but for the ones that are ignored.  What a terminal sends goes to the command as well, by the
 * kernel. */
void child_signals(sigset_t *signals);

/* fork, with these signals blocked from now on in this process, and a status of the child where SIGCHLD was ignored.
 * The child has both as they were. */
pid_t child_fork(const sigset_t *blocked);

#endif
