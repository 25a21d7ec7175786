/* subcommand.h: what a subcommand is: its name, its options, what stands behind them.
 *
 * Each subcommand has one of these tables.  getopt's tables, --help, the completion of the shells and the checks of the
 * manual come from it, and nothing is listed a second time. */
#ifndef IMGLOCK_SUBCOMMAND_H
#define IMGLOCK_SUBCOMMAND_H

#include <stdbool.h>
#include <stddef.h>

/* What completes a word. */
enum completes {
    COMPLETES_NOTHING,   /* a text, a number */
    COMPLETES_FILE,      /* a file's name */
    COMPLETES_WORD,      /* one of the words that the row lists */
    COMPLETES_WORD_LIST, /* several of them, separated by commas */
    COMPLETES_COLUMN_LIST,
    COMPLETES_PRESET,
    COMPLETES_PROCESS,
    COMPLETES_PROGRAM,
    COMPLETES_SUBCOMMAND,
};

struct option_row {
    int code;             /* its letter; OPTION_LONG and above: it has none */
    const char *name;     /* its long name */
    const char *argument; /* as --help shows it, "<seconds>"; or NULL */
    bool optional;        /* the argument may be left out: --name[=<argument>] */
    enum completes completes;
    const char *words; /* for COMPLETES_WORD and COMPLETES_WORD_LIST, separated by blanks */
    const char *help;  /* one line; more than one: separated by newlines */
};

/* Codes of options without a letter start here. */
enum { OPTION_LONG = 256 };

struct subcommand {
    const char *name;                 /* "" for imglock COMMAND itself */
    const char *synopsis;             /* what follows the name; lines separated by newlines */
    const char *summary;              /* one line: what it does */
    const char *notes;                /* lines at the end of its help; or NULL */
    const struct option_row *options; /* ends in a row of zeros; --help and --version are everybody's and not in it */
    bool anywhere;                    /* options may stand behind other words as well */
    enum completes operands;          /* what its words are, up to -- */
    bool command;                     /* a command and its arguments stand at the end */
    bool separated;                   /* ... and only behind -- */
    bool hidden;                      /* not for people: not in --help */
    int (*main)(int argc, char **argv);
};

/* ---- reading the options (options.c) ------------------------------------------------------------------------ */

/* --help and --version, which every subcommand has. */
extern const struct option_row options_of_all[];

enum { OPTIONS_END = -1, OPTIONS_OVER = -2 };

/* The code of the next option, whose argument is optarg; OPTIONS_END behind the last one; OPTIONS_OVER when the
 * subcommand is to end with *status: --help and --version were done, or a mistake was complained of. */
int options_next(const struct subcommand *subcommand, int argc, char **argv, int *status);

/* ---- --help (help.c) ---------------------------------------------------------------------------------------- */

/* The help of one subcommand, on standard output.  Returns the exit status. */
int help_print(const struct subcommand *subcommand);

/* imglock's own: its options, and all subcommands.  The list ends in NULL. */
int help_print_all(const struct subcommand *run, const struct subcommand *const *all);

/* All options of all subcommands as lines "SUBCOMMAND LETTER NAME ARGUMENT", with a dash for what is not there: for the
 * checks of the manual and of completion. */
int help_print_table(const struct subcommand *run, const struct subcommand *const *all);

int version_print(void);

/* ---- completion (complete.c) -------------------------------------------------------------------------------- */

/* What may stand in place of the last word.  Standard output has a first line that says of what kind: "words"; "list",
 * behind which no blank is set; "files"; "programs"; "command N", where the N-th word starts a command whose own
 * completion goes on.  The words follow, one a line, each with a tab and what it means. */
int complete_print(const struct subcommand *run, const struct subcommand *const *all, int argc, char **argv);

#endif
