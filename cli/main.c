/* main.c: imglock(1): which of its parts is asked for. */
#include <getopt.h>
#include <string.h>

#include "alike.h"
#include "cli.h"
#include "links.h"
#include "run.h"

static const struct subcommand *const subcommands[] = {
    &status_subcommand,     &explain_subcommand,  &hold_subcommand,   &on_subcommand,
    &off_subcommand,        &shell_subcommand,    &path_subcommand,   &doctor_subcommand,
    &gc_subcommand,         &audit_subcommand,    &report_subcommand, &handoff_subcommand,
    &inactivate_subcommand, &activate_subcommand, &help_subcommand,   NULL};

static const struct subcommand *find_subcommand(const char *name)
{
    for (const struct subcommand *const *one = subcommands; *one; one++)
        if (strcmp((*one)->name, name) == 0) return *one;
    return NULL;
}

bool is_subcommand(const char *name)
{
    return find_subcommand(name) != NULL;
}

const char *subcommand_alike(const char *word)
{
    const char *best = NULL;
    size_t least = strlen(word) < 8 ? 2 : 3;
    for (const struct subcommand *const *one = subcommands; *one; one++) {
        size_t apart = letters_apart(word, (*one)->name);
        if (apart >= least) continue;
        least = apart;
        best = (*one)->name;
    }
    return best;
}

/* ---- imglock help ------------------------------------------------------------------------------------------- */

static int help_main(int argc, char **argv)
{
    int status;
    if (options_next(&help_subcommand, argc, argv, &status) == OPTIONS_OVER) return status;
    if (optind == argc) return help_print_all(&run_subcommand, subcommands);
    if (optind + 1 < argc)
        return complain_usage("help: it takes one subcommand, and '%s' is one more", argv[optind + 1]);
    const struct subcommand *subcommand = find_subcommand(argv[optind]);
    if (subcommand) return help_print(subcommand);
    const char *alike = subcommand_alike(argv[optind]);
    return complain_usage("help: there is no subcommand %s%s%s%s", word_shown(argv[optind]),
                          alike ? "; did you mean " : "", alike ? alike : "", alike ? "?" : "");
}

const struct subcommand help_subcommand = {
    .name = "help",
    .synopsis = "[<subcommand>]",
    .summary = "Explain a subcommand and its options",
    .operands = COMPLETES_SUBCOMMAND,
    .main = help_main,
};

/* ---- the start ---------------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    /* getopt's messages begin with it, whatever name this program was started by. */
    static char own_name[] = "imglock";
    if (argc < 1) return STATUS_FAILED;
    const char *linked = links_started_as();
    if (linked) return run_linked(linked, argv);
    argv[0] = own_name;
    if (argc < 2) return complain_usage("no command given");
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)
        return help_print_all(&run_subcommand, subcommands);
    /* For cli/completion and for the tests. */
    if (strcmp(argv[1], "__complete") == 0) return complete_print(&run_subcommand, subcommands, argc - 1, argv + 1);
    if (strcmp(argv[1], "__options") == 0) return help_print_table(&run_subcommand, subcommands);
    const struct subcommand *subcommand = find_subcommand(argv[1]);
    if (!subcommand) return run_subcommand.main(argc, argv);
    complain_as(subcommand->name);
    argv[1] = own_name;
    return subcommand->main(argc - 1, argv + 1);
}
