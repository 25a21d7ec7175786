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
#include "lock_transfer.h"
#include "message.h"
#include "text.h"

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
static int parse_words(int argc, char **argv, bool takes_from, bool takes_to, struct words *words)
{
    const struct option all[] = {{"from", required_argument, NULL, 'f'},
                                 {"to", required_argument, NULL, 't'},
                                 {"help", no_argument, NULL, 'h'},
                                 {"version", no_argument, NULL, 'V'}};
    struct option known[5] = {{0}};
    size_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if ((all[i].val != 'f' || takes_from) && (all[i].val != 't' || takes_to)) known[count++] = all[i];
    for (int option; (option = getopt_long(argc, argv, "hV", known, NULL)) != -1;) {
        switch (option) {
        case 'f':
        case 't':
            if (!parse_pid(optarg, option == 'f' ? &words->from : &words->to))
                return complain_usage("%s: %s takes the pid of a process, and '%s' is none", words->command,
                                      option == 'f' ? "--from" : "--to", optarg);
            break;
        case 'h':
            return print_help();
        case 'V':
            return print_version();
        default:
            return point_to_help();
        }
    }
    if (optind == argc) return complain_usage("%s: no image given", words->command);
    if (optind + 1 < argc)
        return complain_usage("%s: it takes one image, and '%s' is one more", words->command, argv[optind + 1]);
    if (takes_to && !words->to)
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

int handoff_main(int argc, char **argv)
{
    static struct transfer transfer;
    struct words words = {.command = "handoff"};
    int status = parse_words(argc, argv, true, true, &words);
    if (status != GO_ON) return status;
    if (words.from == words.to) return complain_usage("handoff: --from and --to are the same process, %d", words.to);
    status = transfer_open(&transfer, words.image, "cannot hand over");
    if (!status) status = transfer_reach_target(&transfer, words.to);
    if (!status && transfer_is_complete(&transfer))
        status = transfer_refuse(&transfer, EXIT_FAILURE, "process %d has the lock already", words.to);
    /* The source of a hand-over that was cut short may have ended since: what is left is the target's. */
    bool begun = !status && lock_in_the_way(transfer.locks[0].descriptor, LOCK_SHARED) > 0 &&
                 lock_in_the_way(transfer.target.shares[0].descriptor, LOCK_EXCLUSIVE) == 0;
    if (!status) status = transfer_reach_source(&transfer, begun ? 0 : words.from, !begun);
    if (!status) status = transfer_move(&transfer);
    if (status) return status;
    if (transfer.source.process < 0) return report(&transfer, "completed: %s holds the lock", transfer.target.name);
    return report(&transfer, "handed over from %s to %s", transfer.source.name, transfer.target.name);
}

/* ---- inactivate --------------------------------------------------------------------------------------------- */

int inactivate_main(int argc, char **argv)
{
    static struct transfer transfer;
    struct words words = {.command = "inactivate"};
    int status = parse_words(argc, argv, true, false, &words);
    if (status != GO_ON) return status;
    status = transfer_open(&transfer, words.image, "cannot inactivate");
    if (!status) status = transfer_reach_source(&transfer, words.from, true);
    if (!status) status = transfer_give_up(&transfer);
    if (status) return status;
    return report(&transfer, "%s is inactive, and nobody holds the lock", transfer.source.name);
}

/* ---- activate ----------------------------------------------------------------------------------------------- */

int activate_main(int argc, char **argv)
{
    static struct transfer transfer;
    struct words words = {.command = "activate"};
    int status = parse_words(argc, argv, false, true, &words);
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
    status = transfer_move(&transfer);
    return status ? status : report(&transfer, "%s holds the lock", transfer.target.name);
}
