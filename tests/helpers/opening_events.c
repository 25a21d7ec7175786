/* opening_events.c: opening_events FILE FLAGS MODE: opens a file, and prints what a watcher of its directory is told
 * (inotify), and the mode that it has: "modify open 6777".  FLAGS: of creat, trunc, excl, joined by +; MODE: octal. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    _Alignas(8) char bytes[4096];
    struct stat status;
    if (argc != 4) return 2;
    int flags = O_RDWR | (strstr(argv[2], "creat") ? O_CREAT : 0) | (strstr(argv[2], "trunc") ? O_TRUNC : 0) |
                (strstr(argv[2], "excl") ? O_EXCL : 0);
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    inotify_add_watch(watch, ".", IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_CLOSE_WRITE);
    umask(0);
    int descriptor = open(argv[1], flags, (mode_t)strtol(argv[3], NULL, 8));
    ssize_t length = read(watch, bytes, sizeof bytes);
    const struct inotify_event *event;
    for (ssize_t at = 0; at < length; at += (ssize_t)sizeof *event + event->len) {
        event = (const struct inotify_event *)(bytes + at);
        printf("%s", event->mask & IN_MODIFY   ? "modify "
                     : event->mask & IN_ATTRIB ? "attrib "
                     : event->mask & IN_CREATE ? "create "
                                               : "close-write ");
    }
    if (descriptor < 0 || fstat(descriptor, &status) < 0) return 1;
    printf("%o\n", status.st_mode & 07777);
    return 0;
}
