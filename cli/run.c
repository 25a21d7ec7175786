/* run.c: imglock COMMAND: starts a command with the library.
 *
 * imglock looks at everything that can be looked at, loads the library into itself, and executes the command.  Nothing
 * forks, so a limit of processes does not matter and the command has imglock's pid. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "audit_log.h"
#include "cli.h"

struct run_options {
    struct given mode;
    struct given wait;
    const char *audit;
    bool verbose;
};

static bool put_settings(const struct run_options *options)
{
    bool put = true;
    if (options->mode.value) put = put && setenv("IMGLOCK_MODE", options->mode.value, 1) == 0;
    if (options->wait.value) put = put && setenv("IMGLOCK_WAIT", options->wait.value, 1) == 0;
    char *audit = options->audit ? audit_log_path(options->audit) : NULL;
    if (options->audit) put = put && audit && setenv("IMGLOCK_AUDIT", audit, 1) == 0;
    free(audit);
    const char *log = getenv("IMGLOCK_LOG");
    if (options->verbose && !(log && *log)) put = put && setenv("IMGLOCK_LOG", "debug", 1) == 0;
    if (!put) complain("cannot set the environment: %m");
    return put;
}

/* Executes the command.  Returns only on failure, with the exit status. */
static int execute(const char *path, char **command)
{
    /* execvp hands a text file without a #! line to the shell, as for any other caller. */
    execvp(path, command);
    int error = errno;
    complain("%s: %s", command[0], strerror(error));
    return error == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

/* It is run all the same: what it starts may be of another kind. */
static void say_not_watched(const struct settings *settings, const struct target *target)
{
    complain("%s: it is written in Go and makes its system calls itself, so what it opens is neither locked nor seen; "
             "'imglock hold IMAGE -- COMMAND' takes the lock around it",
             target->path);
    audit_unwatched(settings, target->path, "Go");
}

int run_command(char **command)
{
    struct settings settings;
    struct target target;
    char reason[PATH_MAX];
    if (!settings_read(&settings)) return STATUS_FAILED;
    int status = target_look(command[0], command, &target);
    if (status) {
        complain("%s%s%s", target.reason, target.next_step ? "; " : "", target.next_step ? target.next_step : "");
        if (status == STATUS_NOT_FOUND && (strcmp(command[0], "help") == 0 || strcmp(command[0], "version") == 0))
            point_to_help();
        return status;
    }
    const char *library = library_path();
    if (!library) return STATUS_FAILED;
    if (!library_loads(library, reason, sizeof reason))
        return complain("%s: the library cannot be preloaded: %s", library, reason);
    library_preload(library, !target.musl);
    if (target.go) say_not_watched(&settings, &target);
    return execute(target.path, command);
}

int run_main(int argc, char **argv)
{
    enum { OPTION_MODE = 256, OPTION_CONFIG, OPTION_AUDIT };
    static const struct option known[] = {{"shared", no_argument, NULL, 's'},
                                          {"exclusive", no_argument, NULL, 'x'},
                                          {"nonblock", no_argument, NULL, 'n'},
                                          {"wait", required_argument, NULL, 'w'},
                                          {"mode", required_argument, NULL, OPTION_MODE},
                                          {"config", required_argument, NULL, OPTION_CONFIG},
                                          {"audit", required_argument, NULL, OPTION_AUDIT},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"version", no_argument, NULL, 'V'},
                                          {0}};
    struct run_options options = {0};
    const char **presets = calloc((size_t)argc, sizeof *presets);
    size_t preset_count = 0;
    if (!presets) return complain("%m");
    for (int option; (option = getopt_long(argc, argv, "+sxnw:vhV", known, NULL)) != -1;) {
        bool good = true;
        switch (option) {
        case 's':
            good = setting_give(&options.mode, "-s", "shared");
            break;
        case 'x':
            good = setting_give(&options.mode, "-x", "exclusive");
            break;
        case OPTION_MODE:
            good = setting_give(&options.mode, "--mode", optarg);
            break;
        case 'n':
            good = setting_give(&options.wait, "-n", "0");
            break;
        case 'w':
            good = setting_give(&options.wait, "-w", optarg);
            break;
        case OPTION_CONFIG:
            presets[preset_count++] = optarg;
            break;
        case OPTION_AUDIT:
            options.audit = optarg;
            break;
        case 'v':
            options.verbose = true;
            break;
        case 'h':
            return print_help();
        case 'V':
            return print_version();
        default:
            return point_to_help();
        }
        if (!good) return STATUS_FAILED;
    }
    if (optind == argc) return complain_usage("no command given");
    if (strcmp(argv[optind - 1], "--") != 0 && is_subcommand(argv[optind]))
        return complain_usage("'%s' after options is neither the subcommand, which comes first, nor the program, which "
                              "comes after --",
                              argv[optind]);
    for (size_t i = 0; i < preset_count; i++)
        if (!preset_apply(presets[i])) return STATUS_FAILED;
    if (!setting_makes_sense("", &options.mode, "IMGLOCK_MODE") ||
        !setting_makes_sense("", &options.wait, "IMGLOCK_WAIT"))
        return STATUS_FAILED;
    if (!put_settings(&options)) return STATUS_FAILED;
    return run_command(argv + optind);
}
