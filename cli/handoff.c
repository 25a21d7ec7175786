/* handoff.c: imglock handoff, inactivate and activate: an image's exclusive lock passed from one process to another, as
 * at the migration of a virtual machine. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocker.h"
#include "cli.h"
#include "holders.h"
#include "lock_pass.h"
#include "lock_transfer.h"
#include "message.h"
#include "text.h"

/* ---- the options ------------------------------------------------------------------------------------------- */

enum { OPTION_FROM = OPTION_LONG, OPTION_TO };

#define FROM_ROW                                                                                  \
    {                                                                                             \
        .code = OPTION_FROM, .name = "from", .argument = "<pid>", .completes = COMPLETES_PROCESS, \
        .help = "the process that gives the lock up, by default its holder"                       \
    }
#define TO_ROW                                                                                \
    {                                                                                         \
        .code = OPTION_TO, .name = "to", .argument = "<pid>", .completes = COMPLETES_PROCESS, \
        .help = "the inactive process that gets the lock"                                     \
    }

static const struct option_row handoff_options[] = {FROM_ROW, TO_ROW, {0}};
static const struct option_row inactivate_options[] = {FROM_ROW, {0}};
static const struct option_row activate_options[] = {TO_ROW, {0}};

/* ---- the command line --------------------------------------------------------------------------------------- */

struct words {
    const char *command; /* "handoff" */
    const char *image;
    pid_t from, to; /* 0: not given */
};

static bool parse_pid(const char *text, pid_t *pid)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno || *end || end == text || number <= 0 || number > INT_MAX) return false;
    *pid = (pid_t)number;
    return true;
}

enum { GO_ON = -1 };

/* Options may stand before and behind the image.  GO_ON, or the exit status. */
static int parse_words(const struct subcommand *subcommand, int argc, char **argv, struct words *words)
{
    int status;
    for (int option; (option = options_next(subcommand, argc, argv, &status)) != OPTIONS_END;) {
        switch (option) {
        case OPTION_FROM:
        case OPTION_TO:
            if (!parse_pid(optarg, option == OPTION_FROM ? &words->from : &words->to))
                return complain_usage("%s: %s takes the pid of a process, and '%s' is none", words->command,
                                      option == OPTION_FROM ? "--from" : "--to", optarg);
            break;
        default:
            return status;
        }
    }
    if (optind == argc) return complain_usage("%s: no image given", words->command);
    if (optind + 1 < argc)
        return complain_usage("%s: it takes one image, and '%s' is one more", words->command, argv[optind + 1]);
    if (subcommand != &inactivate_subcommand && !words->to)
        return complain_usage("%s: give the process that is to have the lock, with --to", words->command);
    words->image = argv[optind];
    if (!process_is(getpid(), getpid()))
        return complain("%s: /proc does not have the PID namespace of this process, so nobody is found in it; "
                        "give it one: unshare --mount sh -c 'mount -t proc proc /proc && imglock ...'",
                        words->command);
    return GO_ON;
}

/* ---- what was done ------------------------------------------------------------------------------------------ */

/* "PATH: TEXT" on standard output. */
static int report(struct transfer *transfer, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int report(struct transfer *transfer, const char *format, ...)
{
    static char bytes[5 * PATH_MAX];
    char words[256];
    struct text line = text_in(bytes, sizeof bytes);
    va_list list;
    va_start(list, format);
    vsnprintf(words, sizeof words, format, list);
    va_end(list);
    text_append_untrusted(&line, transfer->path, strlen(transfer->path));
    text_append(&line, ": ");
    text_append_untrusted(&line, words, strlen(words));
    /* The duplicates are given back before anybody is told that it is done. */
    transfer_end(transfer);
    puts(line.bytes);
    return finish_output(EXIT_SUCCESS);
}

/* ---- handoff ------------------------------------------------------------------------------------------------ */

static int handoff_main(int argc, char **argv)
{
    static struct transfer transfer;
    struct words words = {.command = "handoff"};
    int status = parse_words(&handoff_subcommand, argc, argv, &words);
    if (status != GO_ON) return status;
    if (words.from == words.to) return complain_usage("handoff: --from and --to are the same process, %d", words.to);
    status = transfer_open(&transfer, words.image, "cannot hand over");
    if (!status) status = transfer_reach_target(&transfer, words.to);
    if (!status && transfer_is_complete(&transfer))
        status = transfer_refuse(&transfer, EXIT_FAILURE, "process %d has the lock already", words.to);
    /* The source of a hand-over that was cut short may have ended since: what is left is the target's. */
    bool begun = !status && lock_in_the_way(transfer.files.open[0].descriptor, LOCK_SHARED) > 0 &&
                 lock_in_the_way(transfer.target.shares[0].descriptor, LOCK_EXCLUSIVE) == 0;
    if (!status) status = transfer_reach_source(&transfer, begun ? 0 : words.from, !begun);
    if (!status) status = lock_pass_move(&transfer);
    if (status) return status;
    if (transfer.source.process < 0) return report(&transfer, "completed: %s holds the lock", transfer.target.name);
    return report(&transfer, "handed over from %s to %s", transfer.source.name, transfer.target.name);
}

/* ---- inactivate --------------------------------------------------------------------------------------------- */

static int inactivate_main(int argc, char **argv)
{
    static struct transfer transfer;
    struct words words = {.command = "inactivate"};
    int status = parse_words(&inactivate_subcommand, argc, argv, &words);
    if (status != GO_ON) return status;
    status = transfer_open(&transfer, words.image, "cannot inactivate");
    if (!status) status = transfer_reach_source(&transfer, words.from, true);
    if (!status) status = lock_pass_give_up(&transfer);
    if (status) return status;
    return report(&transfer, "%s is inactive, and nobody holds the lock", transfer.source.name);
}

/* ---- activate ----------------------------------------------------------------------------------------------- */

static int activate_main(int argc, char **argv)
{
    static struct transfer transfer;
    struct words words = {.command = "activate"};
    int status = parse_words(&activate_subcommand, argc, argv, &words);
    if (status != GO_ON) return status;
    status = transfer_open(&transfer, words.image, "cannot give the lock");
    if (!status) status = transfer_reach_target(&transfer, words.to);
    if (status) return status;
    if (transfer_is_complete(&transfer))
        return transfer_refuse(&transfer, EXIT_FAILURE, "process %d has the lock already", words.to);
    int blocked = blocker_find(transfer.target.shares[0].descriptor, 1u << OPERATION_WRITE);
    if (blocked) {
        message_blocked(&transfer.settings, transfer.path, transfer.action, transfer.target.shares[0].descriptor,
                        OPERATION_WRITE);
        transfer_end(&transfer);
        return EXIT_FAILURE;
    }
    status = lock_pass_move(&transfer);
    return status ? status : report(&transfer, "%s holds the lock", transfer.target.name);
}

const struct subcommand handoff_subcommand = {
    .name = "handoff",
    .synopsis = "<image> [--from <pid>] --to <pid>",
    .summary = "Pass an image's lock to another process",
    .notes = "The order of things when a virtual machine moves is in imglock(1), MIGRATION.",
    .options = handoff_options,
    .anywhere = true,
    .operands = COMPLETES_FILE,
    .main = handoff_main,
};

const struct subcommand inactivate_subcommand = {
    .name = "inactivate",
    .synopsis = "<image> [--from <pid>]",
    .summary = "Take an image's lock from its holder, for nobody",
    .notes = "Its holder is inactive on the image from then on.",
    .options = inactivate_options,
    .anywhere = true,
    .operands = COMPLETES_FILE,
    .main = inactivate_main,
};

const struct subcommand activate_subcommand = {
    .name = "activate",
    .synopsis = "<image> --to <pid>",
    .summary = "Give a lock that nobody holds to an inactive process",
    .notes = "It undoes inactivate, and ends a hand-over whose source is gone.",
    .options = activate_options,
    .anywhere = true,
    .operands = COMPLETES_FILE,
    .main = activate_main,
};
