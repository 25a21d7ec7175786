/* audit.c: imglock audit: runs a command with a log of everything that it and its descendants do to images.
 *
 * The library writes the log.  What it cannot write is how a process ended that did not close its images: it has no
 * destructor, and SIGKILL would not run one.  So imglock stays, reads the log as it grows, holds a pidfd for each
 * process that appears in it, and adds a line when one is gone. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <search.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit.h"
#include "audit_log.h"
#include "child.h"
#include "cli.h"
#include "holders.h"
#include "run.h"

/* The library's lines are 128 KiB at most.  What is longer is none of them. */
enum { LONGEST_LINE = 256 * 1024 };

struct seen {
    pid_t pid;
    unsigned long long start;
    int pidfd; /* -1: its exit is in the log, or cannot be told */
};

struct watch {
    const char *path; /* of the log */
    int log, inotify, signals, epoll;
    char *pending; /* the start of a line whose end is not there yet */
    size_t length;
    bool too_long; /* the line goes on, and is not kept */
    void *seen;    /* a tree of struct seen */
};

/* What an event of epoll is about, where it is about no process. */
static char log_grew, signal_came, command_ended;

/* ---- processes ---------------------------------------------------------------------------------------------- */

static int compare_seen(const void *left, const void *right)
{
    const struct seen *a = left, *b = right;
    if (a->pid != b->pid) return a->pid < b->pid ? -1 : 1;
    return a->start < b->start ? -1 : a->start > b->start;
}

static bool is_running(const struct seen *seen)
{
    uint64_t start;
    pid_t parent;
    /* In the /proc of another PID namespace the number is somebody else's. */
    if (!process_is(getpid(), getpid())) return seen->pidfd >= 0;
    return process_read_stat(seen->pid, &start, &parent, NULL) && start == seen->start;
}

static void note_exit(const struct watch *watch, struct seen *seen)
{
    if (seen->pidfd >= 0) close(seen->pidfd);
    seen->pidfd = -1;
    audit_exit(watch->path, seen->pid, seen->start);
}

static bool add_event(const struct watch *watch, int descriptor, void *about)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = about};
    return epoll_ctl(watch->epoll, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

static void note_process(struct watch *watch, pid_t pid, unsigned long long start)
{
    struct seen sought = {.pid = pid, .start = start};
    struct seen **found = tsearch(&sought, &watch->seen, compare_seen);
    if (!found || *found != &sought) return;
    struct seen *seen = malloc(sizeof *seen);
    if (!seen) {
        tdelete(&sought, &watch->seen, compare_seen);
        return;
    }
    *found = seen;
    *seen = (struct seen){.pid = pid, .start = start, .pidfd = pidfd_open(pid, 0)};
    /* It may be over already, and its number another's. */
    if (!is_running(seen))
        note_exit(watch, seen);
    else if (seen->pidfd >= 0 && !add_event(watch, seen->pidfd, seen))
        close(seen->pidfd);
}

/* ---- the log as it grows ------------------------------------------------------------------------------------ */

/* The number behind the first "key": of a line.  The process's own fields stand before all strings. */
static bool field(const char *line, const char *key, unsigned long long *number)
{
    const char *at = strstr(line, key);
    char *end;
    if (!at) return false;
    *number = strtoull(at + strlen(key), &end, 10);
    return end != at + strlen(key);
}

static void look_at_line(struct watch *watch, const char *line)
{
    unsigned long long pid, start;
    if (field(line, "\"pid\":", &pid) && field(line, "\"start\":", &start) && pid <= INT_MAX &&
        !strstr(line, "\"about_pid\":"))
        note_process(watch, (pid_t)pid, start);
}

static void read_lines(struct watch *watch)
{
    for (ssize_t got; (got = read(watch->log, watch->pending + watch->length, LONGEST_LINE - watch->length)) > 0;) {
        size_t length = watch->length + (size_t)got;
        char *line = watch->pending, *end;
        for (; (end = memchr(line, '\n', length - (size_t)(line - watch->pending))); line = end + 1) {
            *end = '\0';
            if (!watch->too_long) look_at_line(watch, line);
            watch->too_long = false;
        }
        watch->length = length - (size_t)(line - watch->pending);
        memmove(watch->pending, line, watch->length);
        if (watch->length < LONGEST_LINE) continue;
        watch->too_long = true;
        watch->length = 0;
    }
}

static void empty_inotify(const struct watch *watch)
{
    char events[4096];
    while (read(watch->inotify, events, sizeof events) > 0) continue;
}

/* ---- the command -------------------------------------------------------------------------------------------- */

static void pass_on_signals(const struct watch *watch, pid_t child)
{
    struct signalfd_siginfo info;
    while (read(watch->signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_code <= 0) kill(child, (int)info.ssi_signo);
}

/* Handles what has happened, waiting for it at most so many milliseconds.  Has a process ended?  *over: the command
 * has. */
static bool watch_once(struct watch *watch, pid_t child, int milliseconds, bool *over)
{
    struct epoll_event events[64];
    struct seen *gone[64];
    int gone_count = 0;
    int count = epoll_wait(watch->epoll, events, sizeof events / sizeof *events, milliseconds);
    for (int i = 0; i < count; i++) {
        void *about = events[i].data.ptr;
        if (about == &log_grew)
            empty_inotify(watch);
        else if (about == &signal_came)
            pass_on_signals(watch, child);
        else if (about == &command_ended)
            *over = true;
        else
            gone[gone_count++] = about;
    }
    /* The last lines of a process before that of its exit. */
    read_lines(watch);
    for (int i = 0; i < gone_count; i++) note_exit(watch, gone[i]);
    return gone_count > 0;
}

/* Each process of the log takes a descriptor.  The command has its own limit. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* Watches until the command is over.  Returns its wait status, or -1. */
static int watch_command(struct watch *watch, pid_t child)
{
    int status, child_pidfd = pidfd_open(child, 0);
    bool over = child_pidfd < 0 || !add_event(watch, child_pidfd, &command_ended);
    raise_descriptor_limit();
    while (!over) watch_once(watch, child, -1, &over);
    pid_t ended;
    while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR) continue;
    /* What has ended by now; the command's own end would stay ready. */
    close(child_pidfd);
    read_lines(watch);
    while (watch_once(watch, child, 0, &over)) continue;
    return ended == child ? status : -1;
}

/* Makes the memory in which all processes note what is not watched.  Without it a program may have several lines. */
static void share_memory(void)
{
    static char path[48];
    uint64_t magic = AUDIT_TOLD_MAGIC;
    struct sigaction before;
    int descriptor = memfd_create("imglock-audit", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), descriptor);
    unsetenv(AUDIT_TOLD_VARIABLE);
    /* It may be more than the limit on the size of files allows. */
    sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, &before);
    if (descriptor >= 0 && ftruncate(descriptor, AUDIT_TOLD_SIZE) == 0 &&
        pwrite(descriptor, &magic, sizeof magic, 0) == sizeof magic &&
        fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
        setenv(AUDIT_TOLD_VARIABLE, path, 1);
    sigaction(SIGXFSZ, &before, NULL);
}

static int fail_to_watch(const char *path)
{
    return complain("%s: cannot watch the audit log: %m", path);
}

static int run_audited(struct audit_log *log, char **command)
{
    struct watch watch = {.path = log->path,
                          .log = log->descriptor,
                          .inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK),
                          .epoll = epoll_create1(EPOLL_CLOEXEC),
                          .pending = malloc(LONGEST_LINE)};
    sigset_t signals;
    child_signals(&signals);
    watch.signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (!watch.pending || watch.inotify < 0 || watch.epoll < 0 || watch.signals < 0 ||
        inotify_add_watch(watch.inotify, log->path, IN_MODIFY) < 0 || !add_event(&watch, watch.inotify, &log_grew) ||
        !add_event(&watch, watch.signals, &signal_came))
        return fail_to_watch(log->path);
    if (setenv("IMGLOCK_AUDIT", log->path, 1) < 0) return complain("%m");
    share_memory();
    pid_t child = child_fork(&signals);
    if (child < 0) return complain("cannot start a process: %m");
    if (child == 0) _exit(run_command(command[0], command));
    int status = watch_command(&watch, child);
    if (status < 0) return complain("cannot wait for the command: %m");
    if (isatty(STDERR_FILENO)) complain("the audit log is in %s; 'imglock report %s' shows it", log->path, log->path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const struct option_row audit_options[] = {
    {.code = 'o',
     .name = "output",
     .argument = "<log>",
     .completes = COMPLETES_FILE,
     .help = "the log; by default a new one, imglock-audit.jsonl or\nimglock-audit-2.jsonl and so on"},
    {0}};

static int audit_main(int argc, char **argv)
{
    const char *name = NULL;
    int status;
    for (int option; (option = options_next(&audit_subcommand, argc, argv, &status)) != OPTIONS_END;) {
        switch (option) {
        case 'o':
            name = optarg;
            break;
        default:
            return status;
        }
    }
    if (optind == argc) return complain_usage("no command given");
    struct audit_log log;
    if (!audit_log_open(&log, name)) return STATUS_FAILED;
    status = run_audited(&log, argv + optind);
    free(log.path);
    return status;
}

const struct subcommand audit_subcommand = {
    .name = "audit",
    .synopsis = "[-o <log>] [--] <command> [<argument>...]",
    .summary = "Run a command, refuse nothing, and log what it does to images",
    .notes = "'imglock report' tells what the log holds.",
    .options = audit_options,
    .operands = COMPLETES_PROGRAM,
    .command = true,
    .main = audit_main,
};
