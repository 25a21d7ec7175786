/* shell.c: imglock shell: a shell whose programs all lock the images they open. */
#include <getopt.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli.h"
#include "memory.h"
#include "run.h"

static const char *own_shell(void)
{
    const char *shell = getenv("SHELL");
    if (shell && *shell) return shell;
    const struct passwd *user = getpwuid(getuid());
    return user && *user->pw_shell ? user->pw_shell : "/bin/sh";
}

static int shell_main(int argc, char **argv)
{
    int status;
    if (!run_read_options(&shell_subcommand, argc, argv, &status)) return status;
    char **command = memory_get((size_t)(argc - optind) + 2, sizeof *command);
    command[0] = string_keep(own_shell());
    for (int i = optind; i < argc; i++) command[i - optind + 1] = argv[i];
    if (optind == argc && isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
        complain("programs of this shell lock the images they open; exit ends that");
    return run_command(command[0], command);
}

const struct subcommand shell_subcommand = {
    .name = "shell",
    .synopsis = "[options] [--] [<argument>...]",
    .summary = "Start a shell whose programs all lock the images they open",
    .notes = "The shell is SHELL; arguments are its own.",
    .options = run_options,
    .main = shell_main,
};
