/* status_watch.c: imglock status --watch and --follow: the list, or what is new in it, whenever it changes.
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
#include "lock_cache.h"
#include "lock_name.h"
#include "memory.h"
#include "screen.h"
#include "status.h"
#include "usage_list.h"

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
    int directory;            /* the watch on the lock directory */
    int newest;               /* watches are numbered in the order in which they were made */
    struct usage_list shown;  /* the list that was shown last */
    struct usage_list before; /* the one before: what has gone since is drawn still */
    struct usage_list drawn;  /* what is on the screen; its strings are those of the two */
    bool any;                 /* there is one */
    bool first;
    int64_t held_since; /* in ms: when a list was held back first, since a lock of it has no record yet; 0: none is */
    int status;
};

/* ---- what has changed --------------------------------------------------------------------------------------- */

static bool has_alike(const struct usage_list *list, const struct usage *usage)
{
    for (size_t i = 0; i < list->count; i++)
        if (usages_are_alike(&list->usages[i], usage)) return true;
    return false;
}

/* Marks what is new in the list.  True when anything is, or anything has gone that was shown. */
static bool mark_changes(const struct watch *watch, struct usage_list *list)
{
    bool changed = !watch->any;
    for (size_t i = 0; i < list->count; i++) {
        bool fresh = !has_alike(&watch->shown, &list->usages[i]);
        list->usages[i].mark = fresh ? '+' : '\0';
        changed |= fresh;
    }
    for (size_t i = 0; i < watch->shown.count; i++) {
        const struct usage *before = &watch->shown.usages[i];
        changed |= !has_alike(list, before);
    }
    return changed;
}

/* The list, and what has gone since the last one was shown; its strings are those of both lists. */
static struct usage_list with_those_gone(const struct watch *watch, const struct usage_list *list)
{
    struct usage_list both = {0};
    for (size_t i = 0; i < list->count; i++) {
        both.usages = array_grow(both.usages, both.count, &both.room, sizeof *both.usages);
        both.usages[both.count++] = list->usages[i];
    }
    for (size_t i = 0; i < watch->shown.count; i++) {
        if (has_alike(list, &watch->shown.usages[i])) continue;
        both.usages = array_grow(both.usages, both.count, &both.room, sizeof *both.usages);
        both.usages[both.count] = watch->shown.usages[i];
        both.usages[both.count++].mark = '-';
    }
    if (both.count) qsort(both.usages, both.count, sizeof *both.usages, usages_order);
    return both;
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
    struct stat status;
    if (event->mask & IN_Q_OVERFLOW) return true;
    if (event->wd != watch->directory) return true; /* an image */
    if (!event->len || !lock_file_parse(event->name, &name)) return false;
    bool any = watch->question->count == 0;
    for (size_t i = 0; i < watch->question->count; i++) {
        if (watch->question->named[i].directory) any = true;
        const char *path = watch->question->named[i].path;
        lock_name_of_image(path, stat(path, &status) < 0 ? NULL : &status, &wanted);
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

/* ---- printing ----------------------------------------------------------------------------------------------- */

/* In place: what is drawn is kept, since the times in it go on. */
static void draw(const struct watch *watch, const struct usage_list *list)
{
    char head[256], clock[64];
    time_t now = time(NULL);
    struct tm local;
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) count += list->usages[i].mark != '-';
    strftime(clock, sizeof clock, "%a %b %e %H:%M:%S %Y", localtime_r(&now, &local));
    snprintf(head, sizeof head, "imglock status: %zu in use, %s   (q ends)", count, clock);
    char *text = table_text(watch->options, list);
    screen_draw(head, list->count && text ? text : "nothing is in use\n");
    free(text);
}

/* ---- waiting ------------------------------------------------------------------------------------------------ */

enum reason { REASON_EVENT, REASON_TIME, REASON_END };

/* Does what a signal asks for.  False: the watch is to end. */
static bool take_signal(const struct watch *watch)
{
    struct signalfd_siginfo signal;
    if (read(watch->signals, &signal, sizeof signal) != (ssize_t)sizeof signal) return true;
    if (signal.ssi_signo == SIGTSTP) {
        screen_leave();
        raise(SIGSTOP);
        screen_enter();
    } else if (signal.ssi_signo != SIGWINCH) {
        return false;
    }
    draw(watch, &watch->drawn);
    return true;
}

/* Waits for an event that concerns the list, or the end of the time; -1: without an end.  On a terminal the clock goes
 * on meanwhile. */
static enum reason wait_for(const struct watch *watch, int milliseconds)
{
    struct pollfd polled[] = {{.fd = watch->signals, .events = POLLIN},
                              {.fd = watch->inotify, .events = POLLIN},
                              {.fd = watch->options->marks ? STDIN_FILENO : -1, .events = POLLIN}};
    bool ticking = watch->options->marks && milliseconds < 0;
    for (;;) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        int ready = poll(polled, 3, ticking ? (int)(1001 - now.tv_nsec / 1000000) : milliseconds);
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) exit(complain("cannot wait for events: %m"));
        if (polled[0].revents && !take_signal(watch)) return REASON_END;
        if (polled[2].revents && screen_wants_to_quit()) return REASON_END;
        /* A terminal that is gone, or an input that has ended. */
        if (polled[2].revents & (POLLHUP | POLLERR | POLLNVAL)) polled[2].fd = -1;
        if (ready == 0 && !ticking) return REASON_TIME;
        if (ready == 0) draw(watch, &watch->drawn);
        if (polled[1].revents && take_events(watch)) return REASON_EVENT;
    }
}

/* ---- showing a list ----------------------------------------------------------------------------------------- */

static void print_changes(const struct watch *watch, const struct usage_list *both)
{
    for (size_t i = 0; i < both->count; i++)
        if (both->usages[i].mark) table_print_change(watch->options, &both->usages[i]);
}

static int print_again(const struct watch *watch, const struct usage_list *list)
{
    if (!watch->first && watch->options->format != TABLE_JSON) putchar('\n');
    if (!list->count && watch->options->format == TABLE_PLAIN && watch->options->headings) puts("nothing is in use");
    int error = table_print(watch->options, list);
    return error ? complain("cannot print: %s", strerror(error)) : 0;
}

/* Shows the list, and takes it over. */
static int show(struct watch *watch, struct usage_list *list)
{
    struct usage_list both = with_those_gone(watch, list);
    if (watch->first) status_note_unseen(list);
    int status = 0;
    if (watch->options->marks)
        draw(watch, &both);
    else if (watch->options->follow)
        print_changes(watch, &both);
    else
        status = print_again(watch, list);
    watch->first = false;
    free(watch->drawn.usages);
    watch->drawn = both;
    usages_free(&watch->before);
    watch->before = watch->shown;
    watch->shown = *list;
    watch->any = true;
    return status ? status : finish_output(0);
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
    bool changed = mark_changes(watch, &list);
    bool held_back = changed && !settled && has_unrecorded(&list) && hold_back(watch);
    if (!held_back) watch->held_since = 0;
    watch->status = status_of_list(&list);
    if (changed && !held_back)
        status = show(watch, &list);
    else
        usages_free(&list);
    return status;
}

static int watch_until_signal(struct watch *watch)
{
    int status = look(watch, true);
    bool settling = false;
    while (!status) {
        enum reason reason = wait_for(watch, settling ? SETTLE_MS : -1);
        /* Events come in groups: the look waits for the end of one, but not for long. */
        enum reason more = reason;
        for (int waited = 0; more == REASON_EVENT && waited < GROUP_MS; waited += QUIET_MS)
            more = wait_for(watch, QUIET_MS);
        if (more == REASON_END) return watch->status;
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
    if (options->marks) {
        sigaddset(&signals, SIGHUP);
        sigaddset(&signals, SIGQUIT);
        sigaddset(&signals, SIGTSTP);
        sigaddset(&signals, SIGWINCH);
    }
    sigprocmask(SIG_BLOCK, &signals, NULL);
    watch.signals = signalfd(-1, &signals, SFD_CLOEXEC);
    watch.inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch.inotify < 0 || watch.signals < 0) return complain("cannot watch: %m");
    watch.directory = inotify_add_watch(watch.inotify, question->settings->directory, LOCK_EVENTS | IN_ONLYDIR);
    if (watch.directory < 0) return complain("cannot watch the lock directory %s: %m", question->settings->directory);
    watch.newest = watch.directory;
    question->cache = lock_cache_make();
    if (options->marks) screen_enter();
    int status = watch_until_signal(&watch);
    screen_leave();
    return status;
}
