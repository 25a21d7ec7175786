/* notify.c: IMGLOCK_LOG=notify: refusals as notifications of the desktop. */
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "complain.h"
#include "memory.h"
#include "settings.h"

extern char **environ;

/* A notification; where there is no notify-send, none. */
static void show(char *line)
{
    char *const words[] = {(char *)"notify-send",
                           (char *)"--app-name=imglock",
                           (char *)"--icon=drive-harddisk",
                           (char *)"Disk image in use",
                           line,
                           NULL};
    pid_t pid;
    if (posix_spawnp(&pid, words[0], NULL, NULL, words, environ) == 0) waitpid(pid, NULL, 0);
}

struct relay {
    int log;
    char pending[2 * PATH_MAX];
    size_t length;
};

/* Passes on what has been written since. */
static void pass_on(struct relay *relay)
{
    ssize_t got;
    while ((got = read(relay->log, relay->pending + relay->length, sizeof relay->pending - 1 - relay->length)) > 0) {
        relay->length += (size_t)got;
        char *line = relay->pending, *end;
        while ((end = memchr(line, '\n', relay->length - (size_t)(line - relay->pending)))) {
            if (write(STDERR_FILENO, line, (size_t)(end + 1 - line)) < 0) {
                /* Whoever reads it is gone; the notification is left. */
            }
            *end = '\0';
            show(line);
            line = end + 1;
        }
        relay->length -= (size_t)(line - relay->pending);
        memmove(relay->pending, line, relay->length);
        /* A line that is longer than any of ours. */
        if (relay->length == sizeof relay->pending - 1) relay->length = 0;
    }
}

/* Until the process is gone that the pidfd stands for.  directory/log is the library's. */
static void relay_until(int process, char *directory, char *path) __attribute__((noreturn));
static void relay_until(int process, char *directory, char *path)
{
    static struct relay relay;
    char events[4096];
    struct pollfd polled[] = {{.fd = process, .events = POLLIN},
                              {.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), .events = POLLIN}};
    relay.log = open(path, O_RDONLY | O_CLOEXEC);
    inotify_add_watch(polled[1].fd, path, IN_MODIFY);
    do {
        pass_on(&relay);
        poll(polled, 2, -1);
        while (read(polled[1].fd, events, sizeof events) > 0) continue;
    } while (!polled[0].revents);
    pass_on(&relay);
    unlink(path);
    rmdir(directory);
    _exit(EXIT_SUCCESS);
}

void notify_start(void)
{
    char directory[PATH_MAX - 64], path[PATH_MAX], value[PATH_MAX + 16];
    const char *temporary = getenv("TMPDIR");
    struct settings settings;
    if (!settings_parse(environ, &settings, false) || settings.log_target != LOG_TO_DESKTOP) return;
    if (snprintf(directory, sizeof directory, "%s/imglock-notify-XXXXXX",
                 temporary && *temporary == '/' ? temporary : "/tmp") >= (int)sizeof directory)
        return;
    int process = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (process < 0 || !mkdtemp(directory)) return;
    fcntl(process, F_SETFD, FD_CLOEXEC);
    snprintf(path, sizeof path, "%s/log", directory);
    int log = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (log >= 0) close(log);
    /* Twice, so that the command is not its parent: who waits for all children is not to find one more. */
    pid_t child = log < 0 ? -1 : fork();
    if (child == 0) {
        if (fork() != 0) _exit(EXIT_SUCCESS);
        signal(SIGINT, SIG_IGN);
        signal(SIGQUIT, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        close(STDIN_FILENO);
        close(STDOUT_FILENO);
        relay_until(process, directory, path);
    }
    close(process);
    if (child < 0) {
        rmdir(directory);
        return;
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
    snprintf(value, sizeof value, "%s,%s",
             settings.log_level == LOG_DEBUG   ? "debug"
             : settings.log_level == LOG_QUIET ? "quiet"
                                               : "conflicts",
             path);
    setenv("IMGLOCK_LOG", value, 1);
}
