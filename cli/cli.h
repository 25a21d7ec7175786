/* cli.h: what the parts of the command share.
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

#include "policy.h"

/* Exit statuses of imglock's own, as env(1) and stdbuf(1) have them. */
enum { STATUS_FAILED = 125, STATUS_NOT_EXECUTABLE = 126, STATUS_NOT_FOUND = 127 };

extern char **environ;

/* ---- main.c ----------------------------------------------------------------------------------------------- */

/* Writes "imglock: " and the text to standard error, as one line whatever names the text contains.  Returns
 * STATUS_FAILED, for "return complain(...)". */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* complain, then how to get help. */
int complain_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What getopt_long has reported already: how to get help.  Returns STATUS_FAILED. */
int point_to_help(void);

/* The status to end with once everything has been written to standard output: failed where it could not be written. */
int finish_output(int status);

int print_help(void);
int print_version(void);

/* Is this the name of a subcommand, of this version or a later one? */
bool is_subcommand(const char *name);

/* ---- the subcommands -------------------------------------------------------------------------------------- */

int run_main(int argc, char **argv);
int hold_main(int argc, char **argv);
int path_main(int argc, char **argv);
int doctor_main(int argc, char **argv);
int status_main(int argc, char **argv);
int gc_main(int argc, char **argv);
int audit_main(int argc, char **argv);
int report_main(int argc, char **argv);
int handoff_main(int argc, char **argv);
int inactivate_main(int argc, char **argv);
int activate_main(int argc, char **argv);

/* run.c: looks at the command, and executes it with the library.  Returns only on failure, with the exit status. */
int run_command(char **command);

/* ---- setting.c: IMGLOCK_* as the library understands it ----------------------------------------------------- */

/* The settings that options can give, noted so that two that contradict each other are found. */
struct given {
    const char *option; /* as written: "-s" */
    const char *value;
};

/* Notes that an option gives a setting.  False, after a complaint, when another gave a different value. */
bool setting_give(struct given *given, const char *option, const char *value);

/* Does the library take the value, if one was given, for this variable?  False, after a complaint that names the
 * option. command: "hold: ", or nothing. */
bool setting_makes_sense(const char *command, const struct given *given, const char *variable);

/* Does the library read a variable of this name? */
bool setting_is_known(const char *name);

/* What the library makes of one value.  NULL: it takes it; else what the variable takes. */
const char *setting_refusal(const char *name, const char *value);

/* The known name most like this one, or NULL when none is alike. */
const char *setting_alike(const char *name);

/* Names of the settings, for listing; ends in NULL. */
extern const char *const setting_names[];

/* Parses the environment into *settings.  False, after one line for each value that makes no sense. */
bool settings_read(struct settings *settings);

/* ---- preset.c ----------------------------------------------------------------------------------------------- */

/* Puts the settings of a preset into the environment.  A name without a slash is one of the installed presets.
 * False, after a complaint that names the file and the line. */
bool preset_apply(const char *name);

/* ---- library.c ---------------------------------------------------------------------------------------------- */

/* The library's path: IMGLOCK_LIBRARY, else where it lies relative to this program.  Made once.  NULL after a complaint
 * when that cannot be told or cannot be written into LD_PRELOAD. */
const char *library_path(void);

/* The directory of the presets, relative to this program. */
const char *library_preset_directory(void);

/* Can this library be preloaded into programs like this one?  Loads it to find out, and runs its constructor.  False
 * with the reason. */
bool library_loads(const char *library, char *reason, size_t size);

/* Puts the library into LD_PRELOAD, once, before all others. */
void library_preload(const char *library, bool for_both_sizes);

/* ---- target.c ----------------------------------------------------------------------------------------------- */

struct target {
    char path[PATH_MAX];       /* of the command */
    char reason[2 * PATH_MAX]; /* why it cannot be wrapped */
    char chain[2 * PATH_MAX];  /* the command and its interpreters: "x.sh, run by /usr/bin/env, run by /bin/sh" */
    const char *next_step;     /* what to do instead, or NULL */
    bool go;                   /* the command is written in Go */
    bool musl;                 /* or linked with musl, whose loader knows no $LIB */
};

/* Finds the command as execvp(3) does, and looks at it and at the interpreters that the kernel would start for it.
 * Returns 0 when the library can be preloaded into it, else the exit status, with the reason. */
int target_look(const char *command, char *const *arguments, struct target *target);

/* ---- name.c ------------------------------------------------------------------------------------------------- */

/* An image's name for messages, in which an empty one would not be seen. */
const char *image_shown(const char *name);

/* The real path of an image as the library has it, of one that does not exist yet too.  *exists: then *status is its
 * status.  Returns 0 or an errno. */
int image_real_path(const char *name, char *path, bool *exists, struct stat *status);

#endif
