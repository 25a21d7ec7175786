/* status_watch.c: imglock status --watch: the list anew whenever it changes.
 *
 * inotify tells of every open, close and write of a lock file, through a watch on the lock directory, and of every open
 * and close of an image.  Nothing is looked at while nothing happens.  Three things make it less simple:
 *
 *   Looking at a lock file is an open and a close itself.  So those that were looked at stay open.
 *
 *   A lock is taken a moment after the open, and dropped a moment after the event of the close, and neither is an
 * event. So what an event announces is looked at twice: at once, and when that moment is over.
 *
 *   The record of a lock is written a moment after the lock is taken.  So a list with a lock that has none is held back
 * until it has one, or that moment is over.
 *
 *   An image may be opened between the look at it and the watch on it.  So after a new watch there is another look. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "status.h"

enum {
    QUIET_MS = 10,   /* events come in groups: the list waits for the end of one */
    GROUP_MS = 100,  /* but not longer */
    SETTLE_MS = 150, /* from an open to the lock, from the event of a close to the end of the lock */
    LOCK_EVENTS = IN_OPEN | IN_CLOSE | IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO,
    IMAGE_EVENTS = IN_OPEN | IN_CLOSE | IN_DELETE_SELF | IN_MOVE_SELF
};

struct watch {
    struct question *question;
    const struct table_options *options;
    int inotify, signals;
    int directory; /* the watch on the lock directory */
    int newest;    /* watches are numbered in the order in which they were made */
    char *printed; /* what the list said that was printed last */
    bool first;
    int64_t held_since; /* in ms: when a list was held back first, since a lock of it has no record yet; 0: none is */
    int status;
};

/* ---- what has changed --------------------------------------------------------------------------------------- */

/* All that a list says but the times that go on by themselves. */
static char *describe(const struct usage_list *list)
{
    char *description = NULL;
    size_t size;
    FILE *stream = open_memstream(&description, &size);
    if (!stream) exit(complain("%s", strerror(ENOMEM)));
    for (size_t i = 0; i < list->count; i++) {
        const struct usage *usage = &list->usages[i];
        fprintf(stream, "%s\n%s %d %d %d %u %d %lld %s %s %x %s\n", usage->image ? usage->image : "", usage->name->hex,
                (int)usage->mode, (int)usage->kind, usage->pid, usage->uid, usage->descriptor,
                (long long)usage->since_ms, usage->host, usage->command, usage->block, usage->reason);
    }
    if (fclose(stream) != 0) exit(complain("%s", strerror(ENOMEM)));
    return description;
}

/* ---- watching ----------------------------------------------------------------------------------------------- */

/* Watches the images of the list and those asked for.  True when there is a new watch among them. */
static bool watch_images(struct watch *watch, const struct usage_list *list)
{
    bool fresh = false;
    const char *path;
    for (size_t i = 0; (path = usages_image(list, i)); i++) {
        int number = inotify_add_watch(watch->inotify, path, IMAGE_EVENTS);
        if (number > watch->newest) {
            watch->newest = number;
            fresh = true;
        } else if (number < 0 && errno == ENOSPC) {
            exit(complain("cannot watch %s: the user's limit of inotify watches is reached", path));
        }
    }
    return fresh;
}

static bool concerns(const struct watch *watch, const struct inotify_event *event)
{
    struct lock_name name, wanted;
    if (event->mask & IN_Q_OVERFLOW) return true;
    if (event->wd != watch->directory) return true; /* an image */
    if (!event->len || !lock_file_parse(event->name, &name)) return false;
    bool any = watch->question->count == 0;
    for (size_t i = 0; i < watch->question->count; i++) {
        if (watch->question->asked[i].directory) any = true;
        lock_name_of_path(watch->question->asked[i].path, &wanted);
        if (strcmp(wanted.hex, name.hex) == 0) any = true;
    }
    return any;
}

/* Takes the events off the queue.  True when one of them concerns the list. */
static bool take_events(const struct watch *watch)
{
    char events[16384] __attribute__((aligned(8)));
    bool any = false;
    ssize_t got;
    while ((got = read(watch->inotify, events, sizeof events)) > 0)
        for (char *at = events; at < events + got;) {
            const struct inotify_event *event = (const struct inotify_event *)at;
            any |= concerns(watch, event);
            at += sizeof *event + event->len;
        }
    return any;
}

enum reason { REASON_EVENT, REASON_TIME, REASON_SIGNAL };

/* Waits for an event that concerns the list, or the end of the time. */
static enum reason wait_for(const struct watch *watch, int milliseconds)
{
    struct pollfd polled[2] = {{.fd = watch->signals, .events = POLLIN}, {.fd = watch->inotify, .events = POLLIN}};
    for (;;) {
        int ready = poll(polled, 2, milliseconds);
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) exit(complain("cannot wait for events: %m"));
        if (polled[0].revents) return REASON_SIGNAL;
        if (ready == 0) return REASON_TIME;
        if (take_events(watch)) return REASON_EVENT;
    }
}

/* ---- printing ----------------------------------------------------------------------------------------------- */

static int print_list(struct watch *watch, const struct usage_list *list)
{
    if (!watch->first && watch->options->format != TABLE_JSON) putchar('\n');
    if (watch->first) status_note_unseen(list);
    if (!list->count && watch->options->format == TABLE_PLAIN && watch->options->headings) puts("nothing is in use");
    watch->first = false;
    int error = table_print(watch->options, list);
    if (error) return complain("cannot print: %s", strerror(error));
    return finish_output(0);
}

static bool has_unrecorded(const struct usage_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->usages[i].kind == KIND_UNRECORDED) return true;
    return false;
}

/* Not for longer than it takes a lock to settle. */
static bool hold_back(struct watch *watch)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t milliseconds = now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
    if (!watch->held_since) watch->held_since = milliseconds;
    return milliseconds - watch->held_since < SETTLE_MS;
}

/* Lists, and prints when something has changed.  settled: no event has come for a while.  0, or the exit status. */
static int look(struct watch *watch, bool settled)
{
    struct usage_list list;
    usages_collect(watch->question, &list);
    while (watch_images(watch, &list)) {
        usages_free(&list);
        usages_collect(watch->question, &list);
    }
    int status = 0;
    char *description = describe(&list);
    bool changed = !watch->printed || strcmp(description, watch->printed) != 0;
    bool held_back = changed && !settled && has_unrecorded(&list) && hold_back(watch);
    if (!held_back) watch->held_since = 0;
    if (changed && !held_back) {
        status = print_list(watch, &list);
        free(watch->printed);
        watch->printed = description;
    } else {
        free(description);
    }
    watch->status = status_of_list(&list);
    usages_free(&list);
    return status;
}

static int watch_until_signal(struct watch *watch)
{
    int status = look(watch, true);
    bool settling = false;
    while (!status) {
        enum reason reason = wait_for(watch, settling ? SETTLE_MS : -1);
        for (int waited = 0; reason == REASON_EVENT && waited < GROUP_MS; waited += QUIET_MS)
            if (wait_for(watch, QUIET_MS) == REASON_TIME) break;
        if (reason == REASON_SIGNAL) return watch->status;
        settling = reason == REASON_EVENT;
        status = look(watch, !settling);
    }
    return status;
}

int status_watch(struct question *question, const struct table_options *options)
{
    struct watch watch = {.question = question, .options = options, .newest = 0, .first = true};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    watch.signals = signalfd(-1, &signals, SFD_CLOEXEC);
    watch.inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch.inotify < 0 || watch.signals < 0) return complain("cannot watch: %m");
    watch.directory = inotify_add_watch(watch.inotify, question->settings->directory, LOCK_EVENTS | IN_ONLYDIR);
    if (watch.directory < 0) return complain("cannot watch the lock directory %s: %m", question->settings->directory);
    watch.newest = watch.directory;
    question->cache = lock_cache_make();
    return watch_until_signal(&watch);
}
