/* run.c: imglock COMMAND: starts a command with the library.
 *
 * imglock looks at everything that can be looked at, loads the library into itself, and executes the command.  Nothing
 * forks, so a limit of processes does not matter and the command has imglock's pid. */
#include "run.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "audit_log.h"
#include "cli.h"
#include "library.h"
#include "links.h"
#include "memory.h"
#include "notify.h"
#include "preset.h"
#include "setting.h"
#include "target.h"

struct chosen {
    struct given mode;
    struct given wait;
    const char *audit;
    bool verbose;
};

static bool put_settings(const struct chosen *chosen)
{
    bool put = true;
    if (chosen->mode.value) put = put && setenv("IMGLOCK_MODE", chosen->mode.value, 1) == 0;
    if (chosen->wait.value) put = put && setenv("IMGLOCK_WAIT", chosen->wait.value, 1) == 0;
    char *audit = chosen->audit ? audit_log_path(chosen->audit) : NULL;
    if (chosen->audit) put = put && audit && setenv("IMGLOCK_AUDIT", audit, 1) == 0;
    free(audit);
    const char *log = getenv("IMGLOCK_LOG");
    if (chosen->verbose && !(log && *log)) put = put && setenv("IMGLOCK_LOG", "debug", 1) == 0;
    if (!put) complain("cannot set the environment: %m");
    return put;
}

/* Executes the command.  Returns only on failure, with the exit status. */
static int execute(const char *path, char **command)
{
    /* execvp hands a text file without a #! line to the shell, as for any other caller. */
    execvp(path, command);
    int error = errno;
    complain("%s: %s", word_shown(command[0]), strerror(error));
    return error == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

/* It is run all the same: a program in Go, since what it starts may be of another kind; any other in an audit, which
 * refuses nothing. */
static void say_not_watched(const struct settings *settings, const struct target *target)
{
    complain("%s; what it opens is neither locked nor seen; %s", target->reason, target->next_step);
    if (*target->unwatched_path) audit_unwatched(settings, target->unwatched_path, target->unwatched);
}

/* Says why the command is not run. */
static void say_refused(const struct target *target, int status, const char *command)
{
    const char *alike = status == STATUS_NOT_FOUND ? subcommand_alike(command) : NULL;
    if (alike)
        complain("%s; did you mean the subcommand %s?", target->reason, alike);
    else
        complain("%s%s%s", target->reason, target->next_step ? "; " : "", target->next_step ? target->next_step : "");
}

int run_command(const char *program, char **command)
{
    struct settings settings;
    struct target target;
    char reason[PATH_MAX];
    if (!settings_read(&settings)) return STATUS_FAILED;
    char real[PATH_MAX];
    int status = target_look(links_see_through(program, real), command, &target);
    bool audits = settings.audit && settings.allow_on_error;
    if (status && !(audits && target.unwatched)) {
        say_refused(&target, status, command[0]);
        return status;
    }
    const char *library = library_path();
    if (!library) return STATUS_FAILED;
    if (!library_loads(library, reason, sizeof reason))
        return complain("%s: the library cannot be preloaded: %s", library, reason);
    notify_start();
    library_preload(library, !target.musl);
    if (target.unwatched) say_not_watched(&settings, &target);
    return execute(target.path, command);
}

enum { OPTION_MODE = OPTION_LONG, OPTION_CONFIG, OPTION_AUDIT };

const struct option_row run_options[] = {
    {.code = 's', .name = "shared", .help = "every image takes a shared lock"},
    {.code = 'x', .name = "exclusive", .help = "every image takes an exclusive lock"},
    {.code = OPTION_MODE,
     .name = "mode",
     .argument = "<mode>",
     .completes = COMPLETES_WORD,
     .words = "auto shared exclusive nolock force-share inactive",
     .help = "auto, shared, exclusive, nolock, force-share or inactive"},
    {.code = 'n', .name = "nonblock", .help = "refuse at once when an image is locked (the default)"},
    {.code = 'w',
     .name = "wait",
     .argument = "<seconds>",
     .completes = COMPLETES_WORD,
     .words = "forever",
     .help = "wait so long for a lock; forever: without an end"},
    {.code = OPTION_CONFIG,
     .name = "config",
     .argument = "<file>",
     .completes = COMPLETES_PRESET,
     .help = "read settings from a file, or from the preset of that name"},
    {.code = OPTION_AUDIT,
     .name = "audit",
     .argument = "<file>",
     .completes = COMPLETES_FILE,
     .help = "refuse nothing, and write what happens to images to a log"},
    {.code = 'v', .name = "verbose", .help = "log what happens"},
    {0}};

bool run_read_options(const struct subcommand *subcommand, int argc, char **argv, int *status)
{
    struct chosen chosen = {0};
    const char **presets = memory_get((size_t)argc, sizeof *presets);
    size_t preset_count = 0;
    for (int option; (option = options_next(subcommand, argc, argv, status)) != OPTIONS_END;) {
        bool good = true;
        switch (option) {
        case 's':
            good = setting_give(&chosen.mode, "-s", "shared");
            break;
        case 'x':
            good = setting_give(&chosen.mode, "-x", "exclusive");
            break;
        case OPTION_MODE:
            good = setting_give(&chosen.mode, "--mode", optarg);
            break;
        case 'n':
            good = setting_give(&chosen.wait, "-n", "0");
            break;
        case 'w':
            good = setting_give(&chosen.wait, "-w", optarg);
            break;
        case OPTION_CONFIG:
            presets[preset_count++] = optarg;
            break;
        case OPTION_AUDIT:
            chosen.audit = optarg;
            break;
        case 'v':
            chosen.verbose = true;
            break;
        default:
            return false;
        }
        if (!good) {
            *status = STATUS_FAILED;
            return false;
        }
    }
    *status = STATUS_FAILED;
    for (size_t i = 0; i < preset_count; i++)
        if (!preset_apply(presets[i])) return false;
    free(presets);
    return setting_makes_sense("", &chosen.mode, "IMGLOCK_MODE") &&
           setting_makes_sense("", &chosen.wait, "IMGLOCK_WAIT") && put_settings(&chosen);
}

static int run_main(int argc, char **argv)
{
    int status;
    if (!run_read_options(&run_subcommand, argc, argv, &status)) return status;
    if (optind == argc) return complain_usage("no command given");
    if (strcmp(argv[optind - 1], "--") != 0 && is_subcommand(argv[optind]))
        return complain_usage("'%s' after options is neither the subcommand, which comes first, nor the program, which "
                              "comes after --",
                              argv[optind]);
    return run_command(argv[optind], argv + optind);
}

int run_linked(const char *name, char **command)
{
    char path[PATH_MAX];
    const char *mode = getenv("IMGLOCK_MODE");
    int error = links_find_real(name, path);
    if (error) {
        complain("%s: %s, but for imglock's link", name, strerror(error));
        return error == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
    }
    /* The way out for one command, of any kind. */
    if (mode && strcmp(mode, "nolock") == 0) return execute(path, command);
    return run_command(path, command);
}

const struct subcommand run_subcommand = {
    .name = "",
    .synopsis = "[options] [--] <command> [<argument>...]",
    .summary = "Run a command that locks the disk images it opens",
    .notes = "IMGLOCK_MODE=nolock in the environment lets one command through without locks.\n"
             "The exit status is the command's; 125 when imglock fails, 126 when the command\n"
             "cannot be executed, 127 when it cannot be found.\n"
             "'imglock help <subcommand>' explains a subcommand; for more details see imglock(1).",
    .options = run_options,
    .operands = COMPLETES_PROGRAM,
    .command = true,
    .main = run_main,
};
