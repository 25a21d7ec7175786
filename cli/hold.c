/* hold.c: imglock hold: takes the locks of images around a command, as flock(1) does around one file.
 *
 * With --block, what others may not do to the images meanwhile is noted in the lock files, beside the lock or, with
 * --no-lock, instead of it.
 *
 * The command inherits the locks' descriptors, so the locks last until it and this process are both gone: killing this
 * process alone frees nothing that the command still works on. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "audit.h"
#include "child.h"
#include "cli.h"
#include "hold_take.h"
#include "memory.h"
#include "message.h"
#include "message_line.h"
#include "notify.h"
#include "setting.h"
#include "sys.h"

/* ---- the command -------------------------------------------------------------------------------------------- */

/* The locks' descriptors stay open in the command.  Without O_NONBLOCK, by which imglock's library knows descriptors of
 * its own: it would close one that no image of the command needs. */
static void pass_down(const struct hold *hold)
{
    for (size_t i = 0; i < hold->count; i++) {
        int descriptor = hold->wanted[i].lock.descriptor;
        if (descriptor < 0) continue;
        int flags = fcntl(descriptor, F_GETFL);
        fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK);
        fcntl(descriptor, F_SETFD, 0);
    }
}

static void execute(const struct hold *hold, char **command) __attribute__((noreturn));
static void execute(const struct hold *hold, char **command)
{
    pass_down(hold);
    execvp(command[0], command);
    int error = errno;
    complain("%s: %s", word_shown(command[0]), strerror(error));
    _exit(error == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE);
}

/* The server takes nothing from the lock's description any more: takes the lock on another one, which the command has
 * not.  As lock_ask_again. */
static int take_again(const struct hold *hold, struct wanted *wanted, int *opened)
{
    const struct lock_request request = hold_take_request(hold, wanted, sys_monotonic() + LOCK_GRACE_NS);
    struct lock_problem ignored;
    struct lock fresh;
    const enum lock_result result = lock_take(&request, &fresh, opened, &ignored);
    if (result != LOCK_TAKEN) return result == LOCK_BUSY ? -EAGAIN : -EIO;
    lock_release(&wanted->lock);
    wanted->lock = fresh;
    return 1;
}

/* A server may have lost a lock: asks for it again, and tells once who has it by now. */
static void ask_again(const struct hold *hold, struct wanted *wanted)
{
    if (wanted->lock.descriptor < 0 || !lock_is_held(&wanted->lock)) return;
    int opened = -1, result = lock_ask_again(&wanted->lock, LOCK_AGAIN_RECORD);
    const bool ended = result == -EBADFD;
    if (ended) result = take_again(hold, wanted, &opened);
    const bool lost = result == -EAGAIN;
    const int descriptor = opened >= 0 ? opened : wanted->lock.descriptor;
    const struct audit_image about = {.path = wanted->image, .name = &wanted->name, .lock_descriptor = descriptor};
    if (lost ? !wanted->lost : result > 0 || (result == 0 && wanted->lost))
        audit_lost(&hold->settings, &about, hold->mode, !lost);
    const struct message_loss loss = {.lock_descriptor = descriptor,
                                      .mode = hold->mode,
                                      .why = ended ? "its server has ended it" : "its server has forgotten it"};
    if (lost && !wanted->lost) message_lost(&hold->settings, &loss);
    if (lost || result >= 0) wanted->lost = lost;
    if (opened >= 0) close(opened);
}

/* Does a server keep one of the locks? */
static bool may_lose(const struct hold *hold)
{
    for (size_t i = 0; i < hold->count; i++)
        if (hold->wanted[i].lock.descriptor >= 0 && hold->wanted[i].lock.place != LOCK_HERE) return true;
    return false;
}

/* The next signal; or 0 after ten seconds, when locks and marks that a server keeps have been asked for again. */
static int next_signal(const struct hold *hold, const sigset_t *signals, siginfo_t *info)
{
    enum { ASK_SECONDS = 10 };
    static const struct timespec pause = {.tv_sec = ASK_SECONDS};
    if (!may_lose(hold)) return sigwaitinfo(signals, info);
    const int number = sigtimedwait(signals, info, &pause);
    if (number > 0 || errno != EAGAIN) return number;
    for (size_t i = 0; i < hold->count; i++) {
        ask_again(hold, &hold->wanted[i]);
        if (hold->wanted[i].own.path && !hold->wanted[i].lost) held_image_mark_again(&hold->wanted[i].own);
    }
    return 0;
}

/* Waits for the command and passes on signals that somebody sends to this process alone. */
static int attend(const struct hold *hold, pid_t child, const sigset_t *signals)
{
    for (;;) {
        siginfo_t info;
        int status;
        int number = next_signal(hold, signals, &info);
        if (number == 0) continue;
        if (number > 0 && number != SIGCHLD) {
            if (info.si_code <= 0) kill(child, number);
            continue;
        }
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended < 0 && errno != EINTR) return complain("cannot wait for the command: %m");
        if (ended != child) continue;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

static int run_held(const struct hold *hold, char **command)
{
    sigset_t signals;
    child_signals(&signals);
    sigaddset(&signals, SIGCHLD);
    pid_t child = child_fork(&signals);
    if (child < 0) return complain("cannot fork: %m");
    if (child == 0) execute(hold, command);
    return attend(hold, child, &signals);
}

/* Records and messages name the process that holds a lock by its name in the kernel: there the command tells more than
 * "imglock" does.  The command itself gets its own name when it is executed. */
static void take_name(const char *command)
{
    char name[16];
    const char *slash = strrchr(command, '/');
    snprintf(name, sizeof name, "hold:%s", slash ? slash + 1 : command);
    prctl(PR_SET_NAME, name);
}

/* ---- the command line --------------------------------------------------------------------------------------- */

static bool parse_status(const char *text, int *status)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno || *end || end == text || number < 0 || number > 255) return false;
    *status = (int)number;
    return true;
}

/* What the options ask for. */
struct chosen {
    struct given mode, wait, block, reason;
};

/* Parses one option's value as the variable of that name.  False, after a complaint that says what it takes. */
static bool parse_as(const char *variable, const struct given *given, struct settings *parsed)
{
    char *entry;
    if (asprintf(&entry, "%s=%s", variable, given->value) < 0) return false;
    char *environment[] = {entry, NULL};
    bool good = settings_parse(environment, parsed, false);
    free(entry);
    return good || setting_makes_sense("hold: ", given, variable);
}

/* The settings of the environment, and what options say instead.  The command's own environment stays as it is. */
static bool read_settings(struct hold *hold, const struct chosen *chosen)
{
    struct settings parsed;
    if (!settings_read(&hold->settings)) return false;
    hold->deadline = hold->settings.wait_ns;
    if (chosen->wait.value) {
        if (!parse_as("IMGLOCK_WAIT", &chosen->wait, &parsed)) return false;
        hold->deadline = parsed.wait_ns;
    }
    if (hold->deadline != 0 && hold->deadline != WAIT_FOREVER) hold->deadline += sys_monotonic();
    hold->block = hold->settings.block;
    if (chosen->block.value) {
        if (!parse_as("IMGLOCK_BLOCK", &chosen->block, &parsed)) return false;
        hold->block = parsed.block;
    }
    hold->reason = chosen->reason.value ? chosen->reason.value : hold->settings.reason;
    if (hold->reason && !*hold->reason) hold->reason = NULL;
    const char *mode = chosen->mode.value ? chosen->mode.value : "exclusive";
    hold->mode = strcmp(mode, "exclusive") == 0 ? LOCK_EXCLUSIVE
                 : strcmp(mode, "shared") == 0  ? LOCK_SHARED
                                                : LOCK_NONE;
    if (hold->mode != LOCK_NONE || hold->block) return true;
    complain_usage("hold: --no-lock goes with --block: without either there is nothing to hold");
    return false;
}

enum { OPTION_BLOCK = OPTION_LONG, OPTION_REASON, OPTION_NO_LOCK };

static const struct option_row hold_options[] = {
    {.code = 's', .name = "shared", .help = "take shared locks"},
    {.code = 'x', .name = "exclusive", .help = "take exclusive locks (the default)"},
    {.code = OPTION_NO_LOCK, .name = "no-lock", .help = "take no lock, only block operations"},
    {.code = 'n', .name = "nonblock", .help = "fail at once when an image is locked (the default)"},
    {.code = 'w',
     .name = "wait",
     .argument = "<seconds>",
     .completes = COMPLETES_WORD,
     .words = "forever",
     .help = "wait so long for the locks; forever: without an end"},
    {.code = 'E',
     .name = "conflict-exit-code",
     .argument = "<status>",
     .help = "exit status when an image is locked (the default is 1)"},
    {.code = OPTION_BLOCK,
     .name = "block",
     .argument = "<operations>",
     .completes = COMPLETES_WORD_LIST,
     .words = "write truncate resize rename unlink",
     .help = "what others may not do to the images meanwhile: any of\n"
             "write,truncate,resize,rename,unlink"},
    {.code = OPTION_REASON, .name = "reason", .argument = "<text>", .help = "why, for others to read"},
    {0}};

static int hold_main(int argc, char **argv)
{
    struct chosen chosen = {0};
    int status;
    int conflict_status = EXIT_FAILURE;
    for (int option; (option = options_next(&hold_subcommand, argc, argv, &status)) != OPTIONS_END;) {
        bool good = true;
        switch (option) {
        case 's':
            good = setting_give(&chosen.mode, "-s", "shared");
            break;
        case 'x':
            good = setting_give(&chosen.mode, "-x", "exclusive");
            break;
        case 'n':
            good = setting_give(&chosen.wait, "-n", "0");
            break;
        case 'w':
            good = setting_give(&chosen.wait, "-w", optarg);
            break;
        case 'E':
            if (!parse_status(optarg, &conflict_status))
                return complain_usage("hold: -E takes an exit status from 0 to 255, and '%s' is none", optarg);
            break;
        case OPTION_BLOCK:
            good = setting_give(&chosen.block, "--block", optarg);
            break;
        case OPTION_REASON:
            good = setting_give(&chosen.reason, "--reason", optarg);
            break;
        case OPTION_NO_LOCK:
            good = setting_give(&chosen.mode, "--no-lock", "none");
            break;
        default:
            return status;
        }
        if (!good) return STATUS_FAILED;
    }
    bool separated = strcmp(argv[optind - 1], "--") == 0;
    int separator = optind;
    while (separator < argc && strcmp(argv[separator], "--") != 0) separator++;
    if (separator == argc) return complain_usage("hold: give the images, then --, then the command");
    if (separator == optind) return complain_usage("hold: no image given before --");
    if (separator + 1 == argc) return complain_usage("hold: no command given after --");
    struct hold hold = {.wanted = memory_get(2 * (size_t)(separator - optind), sizeof(struct wanted))};
    notify_start();
    if (!read_settings(&hold, &chosen)) return STATUS_FAILED;
    for (int i = optind; i < separator; i++) {
        if (!separated && argv[i][0] == '-')
            return complain_usage("hold: options come before the images; an image of that name is ./%s", argv[i]);
        if (!hold_take_want(&hold, argv[i])) return STATUS_FAILED;
    }
    hold_take_sort(&hold);
    message_line_remember_stderr();
    take_name(argv[separator + 1]);
    status = hold_take_all(&hold, conflict_status);
    return status != HOLD_TAKEN ? status : run_held(&hold, argv + separator + 1);
}

const struct subcommand hold_subcommand = {
    .name = "hold",
    .synopsis = "[-s|-x|--no-lock] [-n|-w <seconds>] [-E <status>]\n"
                "[--block <operations>] [--reason <text>] <image>... -- <command> [<argument>...]",
    .summary = "Hold the locks of images while a command runs",
    .notes = "The command may be of any kind; what it runs under imglock may open the images.",
    .options = hold_options,
    .operands = COMPLETES_FILE,
    .command = true,
    .separated = true,
    .main = hold_main,
};
