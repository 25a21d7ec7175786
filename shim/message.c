#include "message.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <string.h>

#include "blocker.h"
#include "errors.h"
#include "message_line.h"
#include "obstacle.h"
#include "record.h"
#include "sys.h"
#include "text.h"
#include "who.h"

static void append_waited(struct text *line, int64_t waited_ns)
{
    if (waited_ns <= 0) return;
    text_append(line, "; waited ");
    const int64_t seconds = (waited_ns + 500000000) / 1000000000;
    if (seconds) {
        text_append_duration(line, seconds);
        return;
    }
    text_append_number(line, waited_ns / 1000000);
    text_append(line, " ms");
}

/* What to do next, where there is something.  holder: the one who alone is in the way, or 0. */
static void append_advice(struct text *line, const struct settings *settings, const struct message_advice *advice,
                          pid_t holder)
{
    const char *before = "; ";
    append_waited(line, advice->waited_ns);
    if (advice->may_wait && !settings->wait_ns) {
        text_append(line, "; 'imglock -w 60' waits for it");
        before = ", ";
    }
    if (advice->may_read && settings->mode == MODE_AUTO) {
        text_append(line, before);
        text_append(line, "'--mode force-share' reads it as it is, perhaps torn");
        before = ", ";
    }
    const size_t length = line->length;
    text_append(line, before);
    text_append(line, "'systemctl ");
    if (holder && who_stop(line, holder)) {
        text_append(line, "' ends the other");
        return;
    }
    line->length = length;
    line->bytes[length] = '\0';
}

void message_conflict(const struct settings *settings, const char *path, const char *action, int lock_descriptor,
                      enum lock_mode wanted, unsigned operations, const struct marker *marker,
                      const struct message_advice *advice)
{
    struct text line;
    bool alone;
    if (message_line_was_said(settings, path, action) || !message_line_begin(settings, LOG_CONFLICTS, &line, path))
        return;
    text_append(&line, action);
    text_append(&line, ": ");
    pid_t named = 0;
    if (marker) {
        obstacle_append_marker(&line, marker, path);
        if (!marker->pid && !marker->use) obstacle_append_sharers(&line, lock_descriptor);
    } else {
        named = obstacle_append_holders(&line, lock_descriptor, wanted, &alone);
        obstacle_append_blocker(&line, lock_descriptor, operations, named);
    }
    obstacle_append_keeper(&line, path);
    if (advice) append_advice(&line, settings, advice, !marker && alone ? named : 0);
    message_line_end(settings, &line);
}

void message_blocked(const struct settings *settings, const char *path, const char *action, int lock_descriptor,
                     enum operation operation)
{
    struct text line;
    struct holder holder;
    if (message_line_was_said(settings, path, action) || !message_line_begin(settings, LOG_CONFLICTS, &line, path))
        return;
    text_append(&line, action);
    if (lock_descriptor >= 0 && blocker_holder(lock_descriptor, operation, &holder)) {
        text_append(&line, ": blocked ");
        obstacle_append_holder(&line, &holder, 0, false);
    } else {
        text_append(&line, ": another program performs it just now, or blocks it and left no record of itself");
    }
    message_line_end(settings, &line);
}

void message_outsider(const struct settings *settings, const char *path, const char *action,
                      const struct outsider *outsider)
{
    struct text line;
    if (message_line_was_said(settings, path, action) || !message_line_begin(settings, LOG_CONFLICTS, &line, path))
        return;
    text_append(&line, action);
    text_append(&line, ": ");
    obstacle_append_outsider(&line, outsider);
    obstacle_append_keeper(&line, path);
    message_line_end(settings, &line);
}

void message_degraded(const struct settings *settings, const char *path, int lock_descriptor, int error,
                      const struct marker *marker)
{
    struct text line;
    bool alone;
    static const char action[] = "opened read-only instead of for writing";
    if (message_line_was_said(settings, path, action) || !message_line_begin(settings, LOG_CONFLICTS, &line, path))
        return;
    text_append(&line, action);
    text_append(&line, ": ");
    if (error)
        text_append(&line, error_description(error));
    else if (marker)
        obstacle_append_marker(&line, marker, path);
    else
        obstacle_append_holders(&line, lock_descriptor, LOCK_EXCLUSIVE, &alone);
    message_line_end(settings, &line);
}

void message_mode(const struct settings *settings, const char *path, const char *action, const char *why)
{
    struct text line;
    if (!message_line_begin(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, action);
    text_append(&line, ": ");
    text_append(&line, why);
    text_append(&line, "; IMGLOCK_MODE or IMGLOCK_RULES sets the mode");
    message_line_end(settings, &line);
}

void message_lost(const struct settings *settings, const struct message_loss *loss)
{
    struct text line;
    bool alone;
    char path[PATH_MAX];
    if (loss->lock_descriptor < 0 || !record_read_header(loss->lock_descriptor, path)) strcpy(path, "an image");
    if (!message_line_begin(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, "its lock is lost, ");
    text_append(&line, loss->why);
    text_append(&line, "; now ");
    if (loss->marker)
        obstacle_append_marker(&line, loss->marker, path);
    else
        obstacle_append_holders(&line, loss->lock_descriptor, loss->mode, &alone);
    if (loss->fails) text_append(&line, "; writing to it fails from now on");
    message_line_end(settings, &line);
}

int64_t message_waits_until(const struct settings *settings, int said)
{
    const int64_t second = 1000000000;
    char terminal[64]; /* the kernel's struct termios, 36 bytes */
    if (settings->log_level == LOG_DEBUG ||
        (settings->log_target <= LOG_TO_DESKTOP && sys_call(SYS_ioctl, 2, TCGETS, (long)terminal, 0, 0, 0) == 0))
        return said ? WAIT_FOREVER : second;
    return said ? said * 60 * second : 10 * second;
}

void message_waiting(const struct settings *settings, const char *path, int lock_descriptor, enum lock_mode wanted,
                     const struct marker *marker)
{
    struct text line;
    bool alone;
    if (!message_line_begin(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, "waiting; ");
    if (marker)
        obstacle_append_marker(&line, marker, path);
    else
        obstacle_append_holders(&line, lock_descriptor, wanted, &alone);
    message_line_end(settings, &line);
}

void message_waiting_outsider(const struct settings *settings, const char *path, const struct outsider *outsider)
{
    struct text line;
    if (!message_line_begin(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, "waiting; ");
    obstacle_append_outsider(&line, outsider);
    message_line_end(settings, &line);
}

void message_problem(const struct settings *settings, const char *path, const char *action,
                     const struct lock_name *name, const struct lock_problem *problem)
{
    struct text line;
    char lock_file[PATH_MAX];
    if (!message_line_begin(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, action);
    text_append(&line, ": ");
    text_append(&line, problem->what);
    if (name) {
        lock_path(settings->directory, name, lock_file);
        text_append(&line, " ");
        text_append_untrusted(&line, lock_file, strlen(lock_file));
    }
    if (problem->error) {
        const char *why = error_description(problem->error);
        text_append(&line, ": ");
        text_append(&line, why);
    }
    if (problem->owner != (uid_t)-1) {
        text_append(&line, "; it belongs to user ");
        who_append_user(&line, problem->owner);
    } else if (!name) {
        if (problem->error == ENOENT) text_append(&line, "; is /proc mounted, for this PID namespace?");
    } else if (problem->error == ENOENT || problem->error == ENOTDIR) {
        text_append(&line, "; the lock directory has to exist");
    } else if (!problem->error || problem->error == EISDIR || problem->error == ENXIO || problem->error == ENODEV) {
        text_append(&line, "; somebody put it there, have its owner remove it");
    }
    message_line_end(settings, &line);
}

void message_bad_setting(const struct settings *settings, const char *path, const char *action)
{
    struct text line;
    if (!message_line_begin(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, action);
    text_append(&line, ": ");
    text_append(&line, settings->bad_variable);
    text_append(&line, "=");
    text_append_untrusted(&line, settings->bad_value, strlen(settings->bad_value));
    text_append(&line, " makes no sense; it takes ");
    text_append(&line, settings->bad_expects);
    message_line_end(settings, &line);
}

void message_debug(const struct settings *settings, const char *path, const char *text)
{
    struct text line;
    if (!message_line_begin(settings, LOG_DEBUG, &line, path)) return;
    text_append(&line, text);
    message_line_end(settings, &line);
}
