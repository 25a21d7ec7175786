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
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "audit.h"
#include "child.h"
#include "cli.h"
#include "device.h"
#include "held_image.h"
#include "lock.h"
#include "memory.h"
#include "message.h"
#include "message_line.h"
#include "name.h"
#include "notify.h"
#include "pause.h"
#include "setting.h"
#include "sys.h"

struct wanted {
    struct lock_name name;
    const char *image; /* its real path */
    dev_t device;      /* of a block device; 0: it is none */
    struct lock lock;
    struct held_image own; /* of a file's lock by path: the file itself; path NULL: none */
    bool left_out;         /* IMGLOCK_ON_CONFLICT=warn, IMGLOCK_ON_ERROR=allow */
    bool lost;             /* a server has lost it, and others have it: told */
};

struct hold {
    struct settings settings;
    enum lock_mode mode; /* LOCK_NONE: operations are blocked, and nothing is locked */
    unsigned block;      /* 1 << enum operation, each */
    const char *reason;  /* or NULL */
    int64_t deadline;    /* CLOCK_MONOTONIC, ns; 0: no waiting; WAIT_FOREVER */
    struct wanted *wanted;
    size_t count;
};

/* ---- which locks -------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct wanted *)a)->name.hex, ((const struct wanted *)b)->name.hex);
}

static bool want_image(struct hold *hold, const char *image)
{
    char path[PATH_MAX];
    bool exists;
    struct stat status;
    int error = name_real_path(image, path, &exists, &status);
    if (!error && exists && !S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        complain("%s: cannot hold: it is neither a regular file nor a block device", image);
        return false;
    }
    char *kept = error ? NULL : strdup(path);
    if (!kept) {
        complain("%s: cannot tell its lock's path: %s", word_shown(image), strerror(error ? error : ENOMEM));
        return false;
    }
    struct wanted *wanted = &hold->wanted[hold->count++];
    *wanted = (struct wanted){.image = kept, .lock.descriptor = -1};
    lock_name_of_image(kept, exists ? &status : NULL, &wanted->name);
    if (exists && S_ISBLK(status.st_mode)) wanted->device = status.st_rdev;
    if (!wanted->device && hold->mode != LOCK_NONE)
        wanted->own = (struct held_image){.settings = &hold->settings,
                                          .path = kept,
                                          .mode = hold->mode,
                                          .announces = hold->settings.on_conflict != CONFLICT_WARN,
                                          .descriptor = -1};
    if (hold->settings.key_inode && exists && !S_ISBLK(status.st_mode)) {
        wanted = &hold->wanted[hold->count++];
        *wanted = (struct wanted){.image = kept, .lock.descriptor = -1};
        lock_name_of_inode(&status, &wanted->name);
    }
    return true;
}

/* In one order everywhere, and each once: two names of one image are one lock, which would exclude itself. */
static void sort_wanted(struct hold *hold)
{
    size_t kept = 0;
    qsort(hold->wanted, hold->count, sizeof *hold->wanted, by_name);
    for (size_t i = 0; i < hold->count; i++)
        if (kept == 0 || by_name(&hold->wanted[kept - 1], &hold->wanted[i]) != 0)
            hold->wanted[kept++] = hold->wanted[i];
    hold->count = kept;
}

/* ---- taking them -------------------------------------------------------------------------------------------- */

/* The lock that is waited for: none of the others is held meanwhile, so that two who each wait for what the other has
 * cannot come about. */
struct awaited {
    struct lock_waiter waiter;
    struct wanted *lock;      /* NULL: none */
    int opened;               /* its lock file */
    int inotify;              /* for the next wait; close-on-exec */
    struct pause pause;       /* the next one where no lock is waited for, */
    struct wanted *elsewhere; /* but for who has the storage of this one; NULL: for nobody */
};

enum { FIRST_PAUSE_NS = 5 * 1000 * 1000 }; /* as long as an open's, which waits for the same */

static void stop_waiting(struct awaited *awaited)
{
    if (!awaited->lock) return;
    /* The gate belongs to the open lock file, which by now may be the lock's own descriptor. */
    lock_wait_end(&awaited->waiter, awaited->opened >= 0 ? awaited->opened : awaited->lock->lock.descriptor);
    lock_wait_unwatch(awaited->waiter.inotify, awaited->waiter.watch);
    awaited->inotify = awaited->waiter.inotify;
    if (awaited->opened >= 0) close(awaited->opened);
    awaited->lock = NULL;
    awaited->opened = -1;
}

static void give_back(struct hold *hold)
{
    for (size_t i = 0; i < hold->count; i++) {
        struct wanted *wanted = &hold->wanted[i];
        if (wanted->own.path) held_image_give_back(&wanted->own);
        lock_release(&wanted->lock);
    }
}

static const struct hold *asking;

static bool is_own_lock(const struct lock_name *name)
{
    for (size_t i = 0; i < asking->count; i++)
        if (asking->wanted[i].lock.descriptor >= 0 && strcmp(asking->wanted[i].name.hex, name->hex) == 0) return true;
    return false;
}

/* A block device whose lock has been taken: has nobody its storage by another one, or by a mount?  As try_all. */
static enum lock_result look_at_device(const struct hold *hold, const struct wanted *wanted, struct device_taken *taken)
{
    const int descriptor = open(wanted->image, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    const bool minds_use = hold->mode == LOCK_EXCLUSIVE && hold->settings.outsiders != OUTSIDERS_IGNORE;
    const struct device_question question = {.settings = &hold->settings,
                                             .device = wanted->device,
                                             .descriptor = descriptor,
                                             .mode = hold->mode,
                                             .writes = minds_use,
                                             .is_own = is_own_lock};
    asking = hold;
    const enum device_answer answer = device_ask(&question, taken);
    if (descriptor >= 0) close(descriptor);
    if (answer == DEVICE_UNKNOWN) return LOCK_FAILED;
    if (answer == DEVICE_FREE) return LOCK_TAKEN;
    if (taken->lock_descriptor >= 0 || hold->settings.outsiders != OUTSIDERS_WARN) return LOCK_BUSY;
    message_conflict(&hold->settings, wanted->image, "held all the same", -1, hold->mode, 0,
                     &(struct marker){.use = taken->use}, NULL);
    return LOCK_TAKEN;
}

/* What keeps us from holding all. */
struct obstacle {
    struct wanted *blocked;
    int opened;                /* its lock file */
    bool elsewhere;            /* the lock was to be had, but not beside who has the same storage: */
    struct device_taken taken; /* by the lock of another device, or as use says */
    bool on_image;             /* nor beside who has the image itself, as blocked->own says */
    struct lock_problem problem;
};

static struct lock_request request_of(const struct hold *hold, const struct wanted *wanted, int64_t deadline)
{
    return (struct lock_request){.name = &wanted->name,
                                 .directory = hold->settings.directory,
                                 .image_path = wanted->image,
                                 .mode = hold->mode,
                                 .relatives = hold->settings.family,
                                 .patient = hold->deadline != 0,
                                 .block = hold->block,
                                 .reason = hold->reason,
                                 .deadline = deadline};
}

/* Tries all once.  LOCK_TAKEN: all are held.  Else none is, and *obstacle tells why. */
static enum lock_result try_all(struct hold *hold, struct awaited *awaited, struct obstacle *obstacle)
{
    for (size_t i = 0; i < hold->count; i++) {
        struct wanted *wanted = &hold->wanted[i];
        const struct lock_request request =
            request_of(hold, wanted, hold->deadline ? hold->deadline : sys_monotonic() + LOCK_GRACE_NS);
        if (wanted->left_out) continue;
        int fresh = -1;
        bool first = wanted == awaited->lock;
        int *at = first ? &awaited->opened : &fresh;
        enum lock_result result = lock_take(&request, &wanted->lock, at, &obstacle->problem);
        if (first && result != LOCK_BUSY) stop_waiting(awaited);
        if (result == LOCK_TAKEN && wanted->device && hold->mode != LOCK_NONE) {
            result = look_at_device(hold, wanted, &obstacle->taken);
            obstacle->elsewhere = result == LOCK_BUSY;
            if (result == LOCK_FAILED) obstacle->problem = obstacle->taken.problem;
        }
        if (result == LOCK_TAKEN && wanted->own.path) {
            result = held_image_take(&wanted->own, &wanted->lock, &obstacle->problem);
            obstacle->on_image = result == LOCK_BUSY;
        }
        if (result == LOCK_TAKEN) continue;
        give_back(hold);
        obstacle->blocked = wanted;
        obstacle->opened = *at;
        return result;
    }
    return LOCK_TAKEN;
}

static const char *action_of(enum lock_mode mode)
{
    return mode == LOCK_EXCLUSIVE ? "cannot hold exclusively"
           : mode == LOCK_SHARED  ? "cannot hold shared"
                                  : "cannot block operations";
}

/* Who is told of: the open lock file whose records name them, or what they use the storage for. */
static int descriptor_to_ask(const struct awaited *awaited, const struct obstacle *obstacle)
{
    return obstacle->elsewhere ? obstacle->taken.lock_descriptor : awaited->opened;
}

static const struct marker *use_of(const struct obstacle *obstacle, struct marker *use)
{
    if (obstacle->on_image) return &obstacle->blocked->own.stranger.marker;
    *use = (struct marker){.use = obstacle->taken.use};
    return obstacle->elsewhere && obstacle->taken.lock_descriptor < 0 ? use : NULL;
}

static bool is_outsider(const struct obstacle *obstacle)
{
    return obstacle->on_image && obstacle->blocked->own.stranger.counted;
}

static void tell_conflict(const struct hold *hold, const struct awaited *awaited, const struct obstacle *obstacle,
                          int64_t waited_ns)
{
    const bool refused = hold->settings.on_conflict == CONFLICT_DENY;
    const struct message_advice advice = {.waited_ns = hold->deadline ? waited_ns : 0, .may_wait = !hold->deadline};
    const char *image = obstacle->blocked->image;
    struct marker use;
    char action[48];
    if (obstacle->on_image) {
        stranger_tell(&hold->settings, image, action_of(hold->mode), awaited->opened, &obstacle->blocked->own.stranger,
                      refused ? &advice : NULL);
        return;
    }
    if (!obstacle->problem.blocked) {
        message_conflict(&hold->settings, image, action_of(hold->mode), descriptor_to_ask(awaited, obstacle),
                         hold->mode, 0, use_of(obstacle, &use), refused ? &advice : NULL);
        return;
    }
    enum operation operation = (enum operation)(obstacle->problem.blocked - 1);
    snprintf(action, sizeof action, "cannot block %s", settings_operation_name(operation));
    message_blocked(&hold->settings, image, action, awaited->opened, operation);
}

/* Until it is worth while to try again.  False: the time is over. */
static bool wait_for(const struct hold *hold, struct awaited *awaited, const struct obstacle *obstacle)
{
    bool interrupted;
    if (obstacle->on_image) return lock_wait(&awaited->waiter, -1, hold->mode, &interrupted);
    if (!obstacle->elsewhere) return lock_wait(&awaited->waiter, awaited->opened, hold->mode, &interrupted);
    /* Nothing tells of the end of a mount; and the lock that is waited for is free. */
    return pause_sleep(&awaited->pause);
}

static void start_waiting(const struct hold *hold, struct awaited *awaited, const struct obstacle *obstacle)
{
    if (obstacle->elsewhere || obstacle->blocked != awaited->lock) stop_waiting(awaited);
    struct wanted *elsewhere = obstacle->elsewhere ? obstacle->blocked : NULL;
    if (elsewhere && elsewhere != awaited->elsewhere) awaited->pause = pause_begin(FIRST_PAUSE_NS, hold->deadline);
    awaited->elsewhere = elsewhere;
    if (obstacle->elsewhere || obstacle->blocked == awaited->lock) return;
    awaited->lock = obstacle->blocked;
    awaited->opened = obstacle->on_image ? -1 : obstacle->opened;
    lock_wait_start(&awaited->waiter, hold->settings.directory, &obstacle->blocked->name, hold->deadline,
                    awaited->inotify);
    if (obstacle->on_image) lock_wait_for_image(&awaited->waiter, obstacle->blocked->own.descriptor);
}

/* The lock cannot be evaluated.  Goes on without it, or not. */
static bool goes_on(struct hold *hold, struct awaited *awaited, const struct obstacle *obstacle)
{
    message_problem(&hold->settings, obstacle->blocked->image, action_of(hold->mode), &obstacle->blocked->name,
                    &obstacle->problem);
    stop_waiting(awaited);
    obstacle->blocked->left_out = hold->settings.allow_on_error;
    return hold->settings.allow_on_error;
}

/* After a wait that was worth one look. */
static bool is_there_still(const struct awaited *awaited, const struct obstacle *obstacle)
{
    if (obstacle->on_image) return held_image_is_busy(&obstacle->blocked->own);
    return !obstacle->elsewhere && awaited->waiter.still;
}

/* Waits until another try is worth while, and says that it waits when it is time to.  False: it is not to wait any
 * longer. */
static bool wait_longer(const struct hold *hold, struct awaited *awaited, const struct obstacle *obstacle,
                        int64_t start, int *said)
{
    struct marker use;
    if (hold->deadline == 0) return false;
    do {
        /* An operation that cannot be blocked yet is one of a moment, and nobody's lock. */
        if (!obstacle->problem.blocked && sys_monotonic() - start > message_waits_until(&hold->settings, *said)) {
            if (is_outsider(obstacle))
                message_waiting_outsider(&hold->settings, obstacle->blocked->image,
                                         &obstacle->blocked->own.stranger.outsider);
            else
                message_waiting(&hold->settings, obstacle->blocked->image, descriptor_to_ask(awaited, obstacle),
                                hold->mode, use_of(obstacle, &use));
            ++*said;
        }
        if (!wait_for(hold, awaited, obstacle)) return false;
    } while (is_there_still(awaited, obstacle));
    return true;
}

enum { ALL_TAKEN = -1 };

/* Takes all, waiting where that is allowed.  ALL_TAKEN, or the exit status. */
static int take_all(struct hold *hold, int conflict_status)
{
    struct awaited awaited = {.opened = -1, .inotify = -1};
    const int64_t start = sys_monotonic();
    int said = 0;
    for (;;) {
        struct obstacle obstacle = {.opened = -1, .taken.lock_descriptor = -1, .problem.owner = (uid_t)-1};
        enum lock_result result = try_all(hold, &awaited, &obstacle);
        if (result == LOCK_TAKEN) return ALL_TAKEN;
        if (result == LOCK_FAILED) {
            if (!goes_on(hold, &awaited, &obstacle)) return STATUS_FAILED;
            continue;
        }
        start_waiting(hold, &awaited, &obstacle);
        const bool again = wait_longer(hold, &awaited, &obstacle, start, &said);
        if (!again) tell_conflict(hold, &awaited, &obstacle, sys_monotonic() - start);
        if (obstacle.taken.lock_descriptor >= 0) close(obstacle.taken.lock_descriptor);
        if (again) continue;
        stop_waiting(&awaited);
        if (hold->settings.on_conflict == CONFLICT_DENY) return conflict_status;
        if (obstacle.on_image)
            obstacle.blocked->own.path = NULL; /* the lock itself is to be had */
        else
            obstacle.blocked->left_out = true;
    }
}

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
    const struct lock_request request = request_of(hold, wanted, sys_monotonic() + LOCK_GRACE_NS);
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
        if (!want_image(&hold, argv[i])) return STATUS_FAILED;
    }
    sort_wanted(&hold);
    message_line_remember_stderr();
    take_name(argv[separator + 1]);
    status = take_all(&hold, conflict_status);
    return status != ALL_TAKEN ? status : run_held(&hold, argv + separator + 1);
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
