/* cli.h: the subcommands, and what each of them needs.
 *
 * The command is an ordinary program: it may use all of libc.  It asks the lock, holders, image and policy parts of the
 * library's source, linked in, and never the library itself. */
#ifndef IMGLOCK_CLI_H
#define IMGLOCK_CLI_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "complain.h"
#include "policy.h"
#include "subcommand.h"

extern char **environ;

/* ---- one subcommand a file ---------------------------------------------------------------------------------- */

extern const struct subcommand run_subcommand; /* imglock COMMAND */
extern const struct subcommand hold_subcommand, path_subcommand, doctor_subcommand, status_subcommand, gc_subcommand,
    audit_subcommand, report_subcommand, handoff_subcommand, inactivate_subcommand, activate_subcommand,
    help_subcommand, on_subcommand, off_subcommand, explain_subcommand, shell_subcommand;

/* ---- main.c ------------------------------------------------------------------------------------------------- */

/* Is this the name of a subcommand? */
bool is_subcommand(const char *name);

/* The subcommand's name that is most like this word, or NULL when none is alike. */
const char *subcommand_alike(const char *word);

#endif
