#include "obstacle.h"

#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "blocker.h"
#include "bytes.h"
#include "fdinfo.h"
#include "mark.h"
#include "sys.h"
#include "who.h"

/* Who owns a process's directory in /proc. */
static bool user_of(pid_t pid, uid_t *user)
{
    char name[24];
    struct stat status;
    struct text text = text_in(name, sizeof name);
    text_append(&text, "/proc/");
    text_append_number(&text, pid);
    if (sys_fstatat(AT_FDCWD, name, &status, 0) < 0) return false;
    *user = status.st_uid;
    return true;
}

static void append_pid(struct text *line, pid_t pid)
{
    text_append(line, " (pid ");
    text_append_number(line, pid);
}

/* Whose lock file it is: where nobody is known to hold it, who may have made it, and can say more. */
static void append_owner(struct text *line, int lock_descriptor)
{
    struct stat status;
    if (lock_descriptor < 0 || sys_fstat(lock_descriptor, &status) < 0) return;
    text_append(line, "; the lock file belongs to user ");
    who_append_user(line, status.st_uid);
}

/* A holder that locks by fcntl without a record: for F_SETLK locks the kernel knows the pid. */
static void append_unrecorded(struct text *line, int lock_descriptor, enum lock_mode wanted)
{
    struct bytes_found found;
    uint64_t start;
    pid_t parent;
    char command[17];
    bool known =
        lock_descriptor >= 0 && bytes_held(lock_descriptor, bytes_type(wanted), LOCK_BYTE, LOCK_BYTES, &found) > 0;
    text_append(line, !known ? "locked by " : found.type == F_WRLCK ? "locked exclusively by " : "locked shared by ");
    if (known && found.pid > 0 && process_is(found.pid, found.pid) &&
        process_read_stat(found.pid, &start, &parent, command)) {
        text_append_untrusted(line, command, strlen(command));
        append_pid(line, found.pid);
        text_append(line, ")");
    } else {
        text_append(line, "a program that left no record of itself");
        append_owner(line, lock_descriptor);
    }
}

void obstacle_append_holder(struct text *line, const struct holder *holder, int others, bool unfinished)
{
    struct timespec now = {0};
    const struct process_identity *self = process_self(), *process = &holder->process;
    char command[17];
    uid_t user = holder->uid;
    const bool elsewhere = process_is_of_another_host(process);
    if (elsewhere) {
        text_append(line, "on ");
        text_append_escaped(line, process->host);
        text_append(line, " ");
    }
    text_append(line, "by ");
    /* A program that was started by another keeps its record, which has the other's name. */
    const bool seen = process_look_at(process, &user, command);
    sys_clock(CLOCK_REALTIME, &now);
    if (seen)
        text_append_untrusted(line, command, strlen(command));
    else
        text_append_escaped(line, process->command);
    append_pid(line, process->pid);
    text_append(line, ", user ");
    who_append_user(line, user);
    if (seen) who_append(line, process->pid);
    if (!elsewhere && self->pid_space && process->pid_space && process->pid_space != self->pid_space)
        text_append(line, ", in another PID namespace");
    text_append(line, ")");
    if (others) {
        text_append(line, " and ");
        text_append_number(line, others);
        text_append(line, others == 1 ? " other" : " others");
    }
    if (unfinished) text_append(line, " and more");
    text_append(line, " for ");
    text_append_duration(line, now.tv_sec - holder->since_ms / 1000);
    if (*holder->reason) {
        text_append(line, ": ");
        text_append_escaped(line, holder->reason);
    }
}

enum { RECORD_NS = 10 * 1000 * 1000 };

/* The holders that the records tell of, and are in the way. */
struct named {
    struct holder first;
    int others;
    int unrecorded;  /* slots that are claimed, and have no record yet, or never */
    bool unfinished; /* there are more slots than there was time for */
};

static void name_holders(int lock_descriptor, enum lock_mode wanted, struct named *named)
{
    struct holder holder;
    struct holders_walk walk = holders_begin(lock_descriptor);
    *named = (struct named){.others = 0};
    while (holders_walk(&walk, &holder)) {
        named->unrecorded += !holder.recorded;
        if (!holder.recorded || holder.mode < LOCK_SHARED) continue;
        /* Shared holders are no obstacle to a reader. */
        if (wanted == LOCK_SHARED && holder.mode == LOCK_SHARED) continue;
        if (named->first.recorded)
            named->others++;
        else
            named->first = holder;
    }
    named->unfinished = walk.unfinished || named->unrecorded > 1;
}

pid_t obstacle_append_holders(struct text *line, int lock_descriptor, enum lock_mode wanted, bool *alone)
{
    struct named named;
    const int64_t deadline = sys_monotonic() + RECORD_NS;
    /* A holder that has only just got the lock is about to write its record. */
    do {
        name_holders(lock_descriptor, wanted, &named);
    } while (!named.first.recorded && lock_descriptor >= 0 &&
             (named.unrecorded || lock_in_the_way(lock_descriptor, LOCK_EXCLUSIVE) == 1) && sys_pause(deadline));
    if (!named.first.recorded) {
        append_unrecorded(line, lock_descriptor, wanted);
        if (named.unfinished) text_append(line, " and more");
        *alone = false;
        return 0;
    }
    text_append(line, named.first.mode == LOCK_EXCLUSIVE ? "locked exclusively " : "locked shared ");
    obstacle_append_holder(line, &named.first, named.others, named.unfinished);
    *alone = !named.others && !named.unfinished && process_look_at(&named.first.process, &(uid_t){0}, (char[17]){0});
    return named.first.process.pid;
}

/* The name that a process has the image by, where that is another than ours. */
static void append_other_name(struct text *line, const struct marker *marker, const char *path)
{
    char link[48], name[PATH_MAX];
    struct text text = text_in(link, sizeof link);
    text_append(&text, "/proc/");
    text_append_number(&text, marker->pid);
    text_append(&text, "/fd/");
    text_append_number(&text, marker->descriptor);
    const ssize_t length = sys_readlinkat(AT_FDCWD, link, name, sizeof name - 1);
    if (length <= 0) return;
    name[length] = '\0';
    if (strcmp(name, path) == 0) return;
    text_append(line, " as ");
    text_append_untrusted(line, name, (size_t)length);
}

void obstacle_append_marker(struct text *line, const struct marker *marker, const char *path)
{
    char command[17];
    uint64_t start;
    pid_t parent;
    uid_t user;
    if (marker->use) {
        marker_append_has(line, marker);
        return;
    }
    if (!marker->pid || !process_read_stat(marker->pid, &start, &parent, command)) {
        text_append(line, "in use by a program that cannot be seen from here: another user's, a container's, or on "
                          "another host");
        return;
    }
    text_append(line, !marker->imglock                      ? "in use by "
                      : marker->writes || marker->exclusive ? "locked exclusively by "
                                                            : "locked shared by ");
    text_append_untrusted(line, command, strlen(command));
    append_pid(line, marker->pid);
    if (user_of(marker->pid, &user)) {
        text_append(line, ", user ");
        who_append_user(line, user);
    }
    who_append(line, marker->pid);
    text_append(line, ")");
    append_other_name(line, marker, path);
    if (marker->imglock) return;
    text_append(line, ": ");
    marker_append_has(line, marker);
}

struct kept {
    struct stat image;
    pid_t keeper; /* 0: none */
};

static bool note_keeper(const struct fdinfo_lock *lock, void *argument)
{
    struct kept *kept = argument;
    if (mark_is_keepers(lock) && lock->inode == kept->image.st_ino &&
        makedev(lock->major, lock->minor) == kept->image.st_dev)
        kept->keeper = lock->pid;
    return !kept->keeper;
}

void obstacle_append_keeper(struct text *line, const char *path)
{
    char command[17];
    uint64_t start;
    pid_t parent;
    struct kept kept = {.keeper = 0};
    if (sys_fstatat(AT_FDCWD, path, &kept.image, 0) < 0) return;
    fdinfo_each_lock(AT_FDCWD, "/proc/locks", note_keeper, &kept);
    if (kept.keeper <= 0 || !process_read_stat(kept.keeper, &start, &parent, command)) return;
    text_append(line, "; kept by ");
    text_append_untrusted(line, command, strlen(command));
    append_pid(line, kept.keeper);
    text_append(line, "), too");
}

void obstacle_append_blocker(struct text *line, int lock_descriptor, unsigned operations, pid_t named)
{
    struct holder holder;
    int blocked = lock_descriptor >= 0 ? blocker_find(lock_descriptor, operations) : 0;
    if (!blocked || !blocker_holder(lock_descriptor, (enum operation)(blocked - 1), &holder) ||
        holder.process.pid == named)
        return;
    text_append(line, "; blocked ");
    obstacle_append_holder(line, &holder, 0, false);
}

void obstacle_append_sharers(struct text *line, int lock_descriptor)
{
    struct named named;
    name_holders(lock_descriptor, LOCK_EXCLUSIVE, &named);
    if (!named.first.recorded) return;
    text_append(line, "; it is locked shared ");
    obstacle_append_holder(line, &named.first, named.others, named.unfinished);
}

/* "COMMAND (pid N, user U, guest G)" of a process by its number in /proc. */
static void append_process(struct text *line, pid_t pid, uint64_t start)
{
    struct process_identity process = *process_self();
    uid_t user = (uid_t)-1;
    char command[17] = "";
    process.pid = pid;
    process.start = start;
    if (!process_look_at(&process, &user, command)) {
        text_append(line, "a program that has ended since");
        append_pid(line, pid);
        text_append(line, ")");
        return;
    }
    text_append_untrusted(line, command, strlen(command));
    append_pid(line, pid);
    text_append(line, ", user ");
    who_append_user(line, user);
    who_append(line, pid);
    text_append(line, ")");
}

void obstacle_append_outsider(struct text *line, const struct outsider *outsider)
{
    const size_t before = line->length;
    switch (outsider->kind) {
    case OUTSIDER_UNSEEN:
        text_append(line, sys_geteuid() == 0 ? "a program that /proc does not show" : "a program of another user");
        break;
    case OUTSIDER_PROCESS:
    case OUTSIDER_MAPPING:
        append_process(line, outsider->pid, outsider->start);
        break;
    case OUTSIDER_LOOP:
        text_append(line, "loop device /dev/loop");
        text_append_number(line, outsider->loop);
        const size_t named = line->length;
        text_append(line, ", mounted on ");
        if (outsiders_append_mount(line, outsider->loop)) {
            text_append(line, ",");
        } else {
            line->length = named;
            line->bytes[named] = '\0';
        }
        break;
    }
    if (line->length == before) return;
    text_append(line, " ");
    outsider_append_has(line, outsider);
}
