/* audit.c: imglock audit: runs a command with a log of everything that it and its descendants do to images.
 *
 * The library writes the log.  What it cannot write is how a process ended that did not close its images: it has no
 * destructor, and SIGKILL would not run one.  So imglock stays, reads the log as it grows, holds a pidfd for each
 * process that appears in it, and adds a line when one is gone. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit.h"
#include "cli.h"
#include "holders.h"
#include "run.h"

static const char default_log[] = "imglock-audit.jsonl";

struct seen {
    pid_t pid;
    unsigned long long start;
    int pidfd; /* -1: its exit is in the log */
};

struct watch {
    const char *path; /* of the log */
    int log;          /* for reading */
    int inotify;
    char *pending; /* the start of a line whose end is not there yet */
    size_t pending_length;
    struct seen *seen;
    struct pollfd *poll; /* inotify, then a pidfd each */
    size_t seen_count;
    size_t seen_room;
};

static bool is_running(const struct seen *seen)
{
    uint64_t start;
    pid_t parent;
    /* In the /proc of another PID namespace the number is somebody else's. */
    if (!holders_is_process(getpid(), getpid())) return seen->pidfd >= 0;
    return holders_look_up(seen->pid, &start, &parent, NULL) && start == seen->start;
}

static void note_process(struct watch *watch, pid_t pid, unsigned long long start)
{
    for (size_t i = 0; i < watch->seen_count; i++)
        if (watch->seen[i].pid == pid && watch->seen[i].start == start) return;
    if (watch->seen_count == watch->seen_room) {
        size_t room = watch->seen_room ? 2 * watch->seen_room : 64;
        struct seen *seen = realloc(watch->seen, room * sizeof *seen);
        if (seen) watch->seen = seen;
        struct pollfd *polls = realloc(watch->poll, (room + 1) * sizeof *polls);
        if (polls) watch->poll = polls;
        if (!seen || !polls) return;
        watch->seen_room = room;
    }
    struct seen *seen = &watch->seen[watch->seen_count++];
    *seen = (struct seen){.pid = pid, .start = start, .pidfd = pidfd_open(pid, 0)};
    /* It may be over already, and its number another's. */
    if (!is_running(seen)) {
        if (seen->pidfd >= 0) close(seen->pidfd);
        seen->pidfd = -1;
        audit_exit(watch->path, seen->pid, seen->start);
    }
}

/* The number behind the first "key": of a line.  The process's own fields stand before all strings. */
static bool field(const char *line, const char *key, unsigned long long *number)
{
    const char *at = strstr(line, key);
    char *end;
    if (!at) return false;
    *number = strtoull(at + strlen(key), &end, 10);
    return end != at + strlen(key);
}

static void read_lines(struct watch *watch)
{
    char bytes[65536];
    for (ssize_t got; (got = read(watch->log, bytes, sizeof bytes)) > 0;) {
        char *pending = realloc(watch->pending, watch->pending_length + (size_t)got + 1);
        if (!pending) return;
        memcpy(pending + watch->pending_length, bytes, (size_t)got);
        watch->pending = pending;
        watch->pending_length += (size_t)got;
        pending[watch->pending_length] = '\0';
        char *line = pending;
        for (char *end; (end = strchr(line, '\n')); line = end + 1) {
            unsigned long long pid, start;
            *end = '\0';
            if (field(line, "\"pid\":", &pid) && field(line, "\"start\":", &start) && pid <= INT_MAX &&
                !strstr(line, "\"about_pid\":"))
                note_process(watch, (pid_t)pid, start);
        }
        watch->pending_length -= (size_t)(line - pending);
        memmove(pending, line, watch->pending_length);
    }
}

static void note_exits(struct watch *watch)
{
    for (size_t i = 0; i < watch->seen_count; i++) {
        struct seen *seen = &watch->seen[i];
        struct pollfd one = {.fd = seen->pidfd, .events = POLLIN};
        if (seen->pidfd < 0 || poll(&one, 1, 0) != 1) continue;
        close(seen->pidfd);
        seen->pidfd = -1;
        audit_exit(watch->path, seen->pid, seen->start);
    }
}

/* Watches until the command is over.  Returns its wait status. */
static int watch_command(struct watch *watch, pid_t child)
{
    int status;
    int child_pidfd = pidfd_open(child, 0);
    for (;;) {
        struct pollfd first[2] = {{.fd = watch->inotify, .events = POLLIN}, {.fd = child_pidfd, .events = POLLIN}};
        nfds_t count = 2;
        struct pollfd *polls = calloc(watch->seen_count + 2, sizeof *polls);
        if (polls) {
            memcpy(polls, first, sizeof first);
            for (size_t i = 0; i < watch->seen_count; i++)
                polls[count++] = (struct pollfd){.fd = watch->seen[i].pidfd, .events = POLLIN};
        }
        if (poll(polls ? polls : first, count, -1) < 0 && errno != EINTR) break;
        bool over = (polls ? polls : first)[1].revents != 0;
        free(polls);
        char events[4096];
        while (read(watch->inotify, events, sizeof events) > 0) continue;
        if (over) break;
        read_lines(watch);
        note_exits(watch);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    read_lines(watch);
    note_exits(watch);
    return status;
}

static int run_audited(const char *path, char **command)
{
    struct watch watch = {.path = path, .inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)};
    /* The library's own flags: several audits may share a log. */
    int created = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC, 0666);
    watch.log = open(path, O_RDONLY | O_CLOEXEC);
    if (created < 0 || watch.log < 0) return complain("%s: cannot write the audit log: %m", path);
    close(created);
    lseek(watch.log, 0, SEEK_END);
    if (watch.inotify < 0 || inotify_add_watch(watch.inotify, path, IN_MODIFY) < 0)
        return complain("%s: cannot watch the audit log: %m", path);
    if (setenv("IMGLOCK_AUDIT", path, 1) < 0) return complain("%m");
    /* ^C ends the command; imglock ends when the command has. */
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    pid_t child = fork();
    if (child < 0) return complain("cannot start a process: %m");
    if (child == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGQUIT, SIG_DFL);
        _exit(run_command(command[0], command));
    }
    int status = watch_command(&watch, child);
    if (isatty(STDERR_FILENO)) complain("the audit log is in %s; 'imglock report %s' shows it", path, path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const struct option_row audit_options[] = {{.code = 'o',
                                                   .name = "output",
                                                   .argument = "<log>",
                                                   .completes = COMPLETES_FILE,
                                                   .help = "the log, imglock-audit.jsonl by default"},
                                                  {0}};

static int audit_main(int argc, char **argv)
{
    const char *log = default_log;
    int status;
    for (int option; (option = options_next(&audit_subcommand, argc, argv, &status)) != OPTIONS_END;) {
        switch (option) {
        case 'o':
            log = optarg;
            break;
        default:
            return status;
        }
    }
    if (optind == argc) return complain_usage("no command given");
    char *path = audit_log_path(log);
    if (!path) return complain("%s: cannot tell its path: %m", log);
    status = run_audited(path, argv + optind);
    free(path);
    return status;
}

char *audit_log_path(const char *name)
{
    char *path;
    char *directory = name[0] == '/' ? strdup("") : getcwd(NULL, 0);
    if (!directory || asprintf(&path, "%s%s%s", directory, *directory ? "/" : "", name) < 0) path = NULL;
    free(directory);
    return path;
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
