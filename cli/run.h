/* run.h: starts a command with the library. */
#ifndef IMGLOCK_RUN_H
#define IMGLOCK_RUN_H

/* Looks at the command, and executes it with the library.  Returns only on failure, with the exit status. */
int run_command(char **command);

#endif
