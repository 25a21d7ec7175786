/* on.c: imglock on: programs, or a whole session, that lock images from now on. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "directories.h"
#include "library.h"
#include "links.h"
#include "login.h"
#include "on.h"
#include "target.h"

static int turn_program_on(const char *directory, const char *name)
{
    char path[PATH_MAX], real[PATH_MAX];
    static struct target target;
    if (!*name || strchr(name, '/') || strcmp(name, "imglock") == 0)
        return complain_usage("on: it takes the names of programs, as one types them, and '%s' is none", name);
    int error = links_find_real(name, real);
    if (error) {
        const char *elsewhere = error == ENOENT ? target_elsewhere(name) : NULL;
        complain("%s: %s%s%s", name, strerror(error), elsewhere ? "; " : "", elsewhere ? elsewhere : "");
        return EXIT_FAILURE;
    }
    char *const command[] = {(char *)name, NULL};
    if (target_look(real, command, &target) != 0) {
        complain("%s%s%s", target.reason, target.next_step ? "; " : "", target.next_step ? target.next_step : "");
        return EXIT_FAILURE;
    }
    if (target.go)
        complain("%s: it is written in Go, so its own opens take no lock, only those of programs that it starts", real);
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return complain("%s: %s", name, strerror(ENAMETOOLONG));
    if (!links_has(directory, name)) {
        if (!directories_make(path)) return complain("%s: cannot make its directory: %m", path);
        if (symlink(library_own_program(), path) < 0) return complain("%s: cannot make the link: %m", path);
    }
    printf("on: %s (%s)\n", name, real);
    return EXIT_SUCCESS;
}

/* What is on in one of the two directories.  Returns how many programs are. */
static size_t list_programs(const char *directory)
{
    size_t count;
    char **names = links_list(directory, &count);
    for (size_t i = 0; i < count; i++) {
        char real[PATH_MAX];
        int error = links_find_real(names[i], real);
        printf("on: %s (%s)\n", names[i], error ? strerror(error) : real);
        free(names[i]);
    }
    free(names);
    return count;
}

static int list(void)
{
    char path[PATH_MAX];
    bool any = false;
    for (int of_all = 0; of_all < 2; of_all++) {
        if ((!of_all || !links_of_all_are_own()) && links_directory(of_all, path) && list_programs(path)) {
            links_explain_path(path, of_all);
            any = true;
        }
        if (login_path(of_all, path) && login_is_on(path)) {
            printf("on: %s session, from the login on (%s)\n", of_all ? "every user's" : "this user's", path);
            any = true;
        }
    }
    if (!any) puts("nothing is on; 'imglock on PROGRAM' makes a program lock the images it opens from now on");
    return finish_output(EXIT_SUCCESS);
}

enum { OPTION_SYSTEM = OPTION_LONG, OPTION_LOGIN };

const struct option_row on_options[] = {
    {.code = OPTION_SYSTEM, .name = "system", .help = "for all users of this host"},
    {.code = OPTION_LOGIN, .name = "login", .help = "every program of a desktop session, from the next login on"},
    {0}};

bool on_read_options(const struct subcommand *subcommand, int argc, char **argv, struct on_wanted *wanted, int *status)
{
    for (int option; (option = options_next(subcommand, argc, argv, status)) != OPTIONS_END;) {
        if (option == OPTIONS_OVER) return false;
        if (option == OPTION_SYSTEM) wanted->of_all = true;
        if (option == OPTION_LOGIN) wanted->login = true;
    }
    return true;
}

int on_each(int (*turn)(const char *directory, const char *name), const char *directory, char *const *names, int count)
{
    int status = EXIT_SUCCESS;
    for (int i = 0; i < count; i++) {
        int one = turn(directory, names[i]);
        if (one > status) status = one;
    }
    return status;
}

static int on_main(int argc, char **argv)
{
    char path[PATH_MAX];
    struct on_wanted wanted = {0};
    int status;
    if (!on_read_options(&on_subcommand, argc, argv, &wanted, &status)) return status;
    if (wanted.login) {
        if (!login_path(wanted.of_all, path)) return complain("cannot tell where environment.d is: HOME is not set");
        status = login_turn_on(path);
        if (status) return status;
        printf("on: %s session, from the next login on (%s)\n", wanted.of_all ? "every user's" : "this user's", path);
        puts("systemd's user manager reads it, so desktops do; a login by ssh or on a console does not.");
    } else if (optind == argc) {
        return list();
    }
    if (optind < argc && !links_directory(wanted.of_all, path)) return STATUS_FAILED;
    status = on_each(turn_program_on, path, argv + optind, argc - optind);
    const bool any = optind < argc && access(path, F_OK) == 0;
    if (any && status != STATUS_FAILED) links_explain_path(path, wanted.of_all);
    return finish_output(status);
}

const struct subcommand on_subcommand = {
    .name = "on",
    .synopsis = "[--system] [--login] [<program>...]",
    .summary = "Make programs lock images from now on, without imglock before them",
    .notes = "A link of the program's name goes into ~/.local/lib/imglock/bin, which has to come\n"
             "first in PATH.  Without a program: what is on, and whether PATH has it.\n"
             "IMGLOCK_MODE=nolock before a command is the way out for that one.",
    .options = on_options,
    .anywhere = true,
    .operands = COMPLETES_PROGRAM,
    .main = on_main,
};
