/* off.c: imglock off: takes back what imglock on has done. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "links.h"
#include "login.h"

static int turn_program_off(const char *directory, const char *name)
{
    char path[PATH_MAX];
    if (strchr(name, '/') || !links_has(directory, name)) {
        complain("%s: it is not on in %s", word_shown(name), directory);
        return EXIT_FAILURE;
    }
    const bool fits = snprintf(path, sizeof path, "%s/%s", directory, name) < (int)sizeof path;
    if (!fits || unlink(path) < 0) return complain("%s: cannot remove: %m", path);
    printf("off: %s\n", name);
    return EXIT_SUCCESS;
}

static int turn_all_off(const char *directory)
{
    size_t count;
    int status = EXIT_SUCCESS;
    char **names = links_list(directory, &count);
    for (size_t i = 0; i < count; i++) {
        int one = turn_program_off(directory, names[i]);
        if (one > status) status = one;
        free(names[i]);
    }
    free(names);
    rmdir(directory);
    return status;
}

enum { OPTION_SYSTEM = OPTION_LONG, OPTION_LOGIN };

static const struct option_row off_options[] = {
    {.code = OPTION_SYSTEM, .name = "system", .help = "what is on for all users of this host"},
    {.code = OPTION_LOGIN, .name = "login", .help = "the desktop session, from the next login on"},
    {0}};

static int off_main(int argc, char **argv)
{
    char path[PATH_MAX];
    bool of_all = false, login = false;
    int status;
    for (int option; (option = options_next(&off_subcommand, argc, argv, &status)) != OPTIONS_END;) {
        switch (option) {
        case OPTION_SYSTEM:
            of_all = true;
            break;
        case OPTION_LOGIN:
            login = true;
            break;
        default:
            return status;
        }
    }
    if (login) {
        if (!login_path(of_all, path)) return complain("cannot tell where environment.d is: HOME is not set");
        status = login_turn_off(path);
        if (status) return status;
        puts("off: the session, from the next login on");
        if (optind == argc) return finish_output(EXIT_SUCCESS);
    }
    if (!links_directory(of_all, path)) return STATUS_FAILED;
    status = optind == argc ? turn_all_off(path) : EXIT_SUCCESS;
    for (int i = optind; i < argc; i++) {
        int one = turn_program_off(path, argv[i]);
        if (one > status) status = one;
    }
    return finish_output(status);
}

const struct subcommand off_subcommand = {
    .name = "off",
    .synopsis = "[--system] [--login] [<program>...]",
    .summary = "Take back what imglock on has done",
    .notes = "Without a program and without --login: all programs.",
    .options = off_options,
    .anywhere = true,
    .operands = COMPLETES_PROGRAM,
    .main = off_main,
};
