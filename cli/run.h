/* run.h: starts a command with the library. */
#ifndef IMGLOCK_RUN_H
#define IMGLOCK_RUN_H

#include <stdbool.h>

#include "subcommand.h"

/* The options of imglock COMMAND. */
extern const struct option_row run_options[];

/* Reads them, and puts what they say into the environment.  False: the subcommand is to end with *status. */
bool run_read_options(const struct subcommand *subcommand, int argc, char **argv, int *status);

/* Looks at the program, and executes it with the library and these arguments, its own name first.  Returns only on
 * failure, with the exit status. */
int run_command(const char *program, char **command);

/* The same for a program that is on for good: the real one of that name. */
int run_linked(const char *name, char **command);

#endif
