/* on.h: what imglock on and imglock off have in common. */
#ifndef IMGLOCK_ON_H
#define IMGLOCK_ON_H

#include <stdbool.h>

#include "subcommand.h"

extern const struct option_row on_options[];

struct on_wanted {
    bool of_all; /* --system */
    bool login;  /* --login */
};

/* Reads the options.  False: the subcommand is to end with *status. */
bool on_read_options(const struct subcommand *subcommand, int argc, char **argv, struct on_wanted *wanted, int *status);

/* Calls turn with the directory of the links and each of the names.  Returns the greatest of the statuses. */
int on_each(int (*turn)(const char *directory, const char *name), const char *directory, char *const *names, int count);

#endif
