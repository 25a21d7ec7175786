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
#include "on.h"

static int turn_program_off(const char *directory, const char *name)
{
    char path[PATH_MAX];
    if (strchr(name, '/') || !links_has(directory, name)) {
        complain("%s: it is not on in %s", word_shown(name), directory);
        return EXIT_FAILURE;
    }
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return complain("%s: %s", name, strerror(ENAMETOOLONG));
    if (unlink(path) < 0) return complain("%s: cannot remove: %m", path);
    printf("off: %s\n", name);
    return EXIT_SUCCESS;
}

static int turn_all_off(const char *directory)
{
    size_t count;
    char **names = links_list(directory, &count);
    int status = on_each(turn_program_off, directory, names, (int)count);
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
    rmdir(directory);
    return status;
}

static int off_main(int argc, char **argv)
{
    char path[PATH_MAX];
    struct on_wanted wanted = {0};
    int status;
    if (!on_read_options(&off_subcommand, argc, argv, &wanted, &status)) return status;
    if (wanted.login) {
        if (!login_path(wanted.of_all, path)) return complain("cannot tell where environment.d is: HOME is not set");
        status = login_turn_off(path);
        if (status) return status;
        puts("off: the session, from the next login on");
        if (optind == argc) return finish_output(EXIT_SUCCESS);
    }
    if (!links_directory(wanted.of_all, path)) return STATUS_FAILED;
    status = optind == argc ? turn_all_off(path) : on_each(turn_program_off, path, argv + optind, argc - optind);
    return finish_output(status);
}

const struct subcommand off_subcommand = {
    .name = "off",
    .synopsis = "[--system] [--login] [<program>...]",
    .summary = "Take back what imglock on has done",
    .notes = "Without a program and without --login: all programs.",
    .options = on_options,
    .anywhere = true,
    .operands = COMPLETES_PROGRAM,
    .main = off_main,
};
