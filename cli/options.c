/* options.c: the options of a subcommand, by getopt_long(3), from its table. */
#include <getopt.h>
#include <stdlib.h>

#include "complain.h"
#include "subcommand.h"

enum { MOST_OPTIONS = 32 };

const struct option_row options_of_all[] = {{.code = 'h', .name = "help", .help = "display this help"},
                                            {.code = 'V', .name = "version", .help = "display version"},
                                            {0}};

struct parser {
    const struct subcommand *of;
    struct option names[MOST_OPTIONS + 1];
    char letters[3 * MOST_OPTIONS + 2];
};

static void add_option(struct parser *parser, size_t at, char **letter, const struct option_row *row)
{
    int takes = !row->argument ? no_argument : row->optional ? optional_argument : required_argument;
    parser->names[at] = (struct option){row->name, takes, NULL, row->code};
    if (row->code >= OPTION_LONG) return;
    *(*letter)++ = (char)row->code;
    for (int colons = takes; colons > 0; colons--) *(*letter)++ = ':';
}

static void fill(struct parser *parser, const struct subcommand *subcommand)
{
    size_t count = 0;
    char *letter = parser->letters;
    if (!subcommand->anywhere) *letter++ = '+';
    for (const struct option_row *row = subcommand->options; row && row->name; row++)
        add_option(parser, count++, &letter, row);
    for (const struct option_row *row = options_of_all; row->name; row++) add_option(parser, count++, &letter, row);
    *letter = '\0';
    parser->names[count] = (struct option){0};
    parser->of = subcommand;
}

int options_next(const struct subcommand *subcommand, int argc, char **argv, int *status)
{
    static struct parser parser;
    if (parser.of != subcommand) fill(&parser, subcommand);
    int option = getopt_long(argc, argv, parser.letters, parser.names, NULL);
    switch (option) {
    case -1:
        return OPTIONS_END;
    case 'h':
        *status = help_print(subcommand);
        return OPTIONS_OVER;
    case 'V':
        *status = version_print();
        return OPTIONS_OVER;
    case '?':
        *status = point_to_help();
        return OPTIONS_OVER;
    }
    return option;
}
