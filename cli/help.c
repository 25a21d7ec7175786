/* help.c: --help, from the tables of the subcommands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "subcommand.h"

enum { HELP_COLUMN = 26 };

/* Each line of a text, behind what is printed at the start of the first one and of the others. */
static void print_lines(const char *first, const char *others, const char *text)
{
    for (const char *start = first; *text; start = others) {
        size_t length = strcspn(text, "\n");
        printf("%s%.*s\n", start, (int)length, text);
        text += length;
        if (*text) text++;
    }
}

static void print_option(const struct option_row *row)
{
    char left[80], blanks[HELP_COLUMN + 1];
    const char *argument = row->argument ? row->argument : "";
    const char *before = !row->argument ? "" : row->optional ? "[=" : " ", *after = row->optional ? "]" : "";
    if (row->code < OPTION_LONG)
        snprintf(left, sizeof left, " -%c, --%s%s%s%s", row->code, row->name, before, argument, after);
    else
        snprintf(left, sizeof left, "     --%s%s%s%s", row->name, before, argument, after);
    snprintf(blanks, sizeof blanks, "%*s", HELP_COLUMN, "");
    if (strlen(left) >= HELP_COLUMN) {
        puts(left);
        print_lines(blanks, blanks, row->help);
        return;
    }
    char padded[sizeof left];
    snprintf(padded, sizeof padded, "%-*s", HELP_COLUMN, left);
    print_lines(padded, blanks, row->help);
}

static void print_options(const struct subcommand *subcommand)
{
    puts("\nOptions:");
    for (const struct option_row *row = subcommand->options; row && row->name; row++) print_option(row);
    for (const struct option_row *row = options_of_all; row->name; row++) print_option(row);
}

static void print_usage(const struct subcommand *subcommand)
{
    char start[48];
    snprintf(start, sizeof start, " imglock %s%s", subcommand->name, *subcommand->name ? " " : "");
    char blanks[sizeof start];
    snprintf(blanks, sizeof blanks, "%*s", (int)strlen(start), "");
    if (*subcommand->synopsis)
        print_lines(start, blanks, subcommand->synopsis);
    else
        puts(start);
}

int help_print(const struct subcommand *subcommand)
{
    puts("Usage:");
    print_usage(subcommand);
    printf("\n%s.\n", subcommand->summary);
    print_options(subcommand);
    if (subcommand->notes) {
        putchar('\n');
        print_lines("", "", subcommand->notes);
    }
    puts("\nFor more details see imglock(1).");
    return finish_output(EXIT_SUCCESS);
}

int help_print_all(const struct subcommand *run, const struct subcommand *const *all)
{
    puts("Usage:");
    print_usage(run);
    puts(" imglock <subcommand> [<argument>...]");
    printf("\n%s.\n", run->summary);
    print_options(run);
    puts("\nSubcommands:");
    for (; *all; all++)
        if (!(*all)->hidden) printf(" %-11s %s\n", (*all)->name, (*all)->summary);
    putchar('\n');
    print_lines("", "", run->notes);
    return finish_output(EXIT_SUCCESS);
}

static void print_table_of(const struct subcommand *subcommand)
{
    const struct option_row *tables[] = {subcommand->options, options_of_all};
    for (size_t i = 0; i < 2; i++)
        for (const struct option_row *row = tables[i]; row && row->name; row++) {
            char letter[3] = {'-', row->code < OPTION_LONG ? (char)row->code : '\0', '\0'};
            printf("%s %s --%s %s\n", *subcommand->name ? subcommand->name : "-", letter, row->name,
                   row->argument ? row->argument : "-");
        }
}

int help_print_table(const struct subcommand *run, const struct subcommand *const *all)
{
    print_table_of(run);
    for (; *all; all++)
        if (!(*all)->hidden) print_table_of(*all);
    return finish_output(EXIT_SUCCESS);
}

int version_print(void)
{
    puts("imglock " IMGLOCK_VERSION);
    return finish_output(EXIT_SUCCESS);
}
