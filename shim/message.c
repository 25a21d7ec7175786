#include "message.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "blocker.h"
#include "bytes.h"
#include "errors.h"
#include "holders.h"
#include "log_file.h"
#include "memo.h"
#include "sys.h"
#include "text.h"
#include "who.h"

/* A path of 4,095 bytes, each escaped as \xHH, and the rest of the line. */
enum { LINE_SIZE = 5 * PATH_MAX };

/* ---- where lines go ------------------------------------------------------------------------------------- */

/* Writes without letting a SIGPIPE or a SIGXFSZ through: the program did not write that line, so it must not die of it.
 */
static void write_quietly(int descriptor, const char *line, size_t length)
{
    const sys_signals deadly = (sys_signals)1 << (SIGPIPE - 1) | (sys_signals)1 << (SIGXFSZ - 1);
    sys_signals before, pending;
    sys_sigpending(&pending);
    sys_sigmask(SIG_BLOCK, &deadly, &before);
    ssize_t written;
    do {
        written = sys_write(descriptor, line, length);
    } while (written == -EINTR);
    const sys_signals sent = written == -EPIPE   ? (sys_signals)1 << (SIGPIPE - 1)
                             : written == -EFBIG ? (sys_signals)1 << (SIGXFSZ - 1)
                                                 : 0;
    if (sent && !(pending & sent)) sys_sigtake(&sent, NULL);
    sys_sigmask(SIG_SETMASK, &before, NULL);
}

static dev_t error_device;
static ino_t error_inode;

void message_start(void)
{
    struct stat status;
    if (sys_fstat(2, &status) < 0) return;
    error_device = status.st_dev;
    error_inode = status.st_ino;
}

/* Is number 2 still where messages go?  Terminals, pipes, sockets and devices are; of regular files, only the one that
 * the program was started with: another may be its data. */
static bool error_is_for_messages(void)
{
    struct stat status;
    if (sys_fstat(2, &status) < 0) return false;
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) return true;
    return status.st_dev == error_device && status.st_ino == error_inode;
}

static void write_to_file(const char *path, const char *line, size_t length)
{
    int descriptor = log_file_open(path, O_WRONLY | O_APPEND);
    if (descriptor < 0) return;
    write_quietly(descriptor, line, length);
    sys_close(descriptor);
}

static void send_to_syslog(const char *line, size_t length)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    int descriptor = (int)sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0, 0, 0);
    if (descriptor < 0) return;
    char priority[] = "<12>"; /* user.warning */
    struct iovec parts[2] = {{priority, sizeof priority - 1}, {(void *)line, length}};
    struct msghdr message = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = parts, .msg_iovlen = 2};
    sys_call(SYS_sendmsg, descriptor, (long)&message, MSG_NOSIGNAL, 0, 0, 0);
    sys_close(descriptor);
}

static void emit(const struct settings *settings, struct text *line)
{
    if (settings->log_target == LOG_TO_SYSLOG) {
        send_to_syslog(line->bytes, line->length);
        return;
    }
    /* What was cut still ends in a newline. */
    if (line->length + 1 >= line->size) line->length = line->size - 2;
    text_append(line, "\n");
    if (settings->log_target == LOG_TO_FILE)
        write_to_file(settings->log_file, line->bytes, line->length);
    else if (error_is_for_messages())
        write_quietly(2, line->bytes, line->length);
}

/* The line's start, in memory mapped for this one line: refusals are rare, and a signal handler's stack may be
 * 8 KiB.  False when there is nothing to say or no memory to say it. */
static bool start_line(const struct settings *settings, enum log_level level, struct text *line, const char *path)
{
    if (settings->log_level < level) return false;
    char *buffer = sys_mmap(LINE_SIZE);
    if (!buffer) return false;
    *line = text_in(buffer, LINE_SIZE);
    text_append(line, "imglock: ");
    text_append_untrusted(line, path, strlen(path));
    text_append(line, ": ");
    return true;
}

static void end_line(const struct settings *settings, struct text *line)
{
    emit(settings, line);
    sys_munmap(line->bytes, LINE_SIZE);
}

/* ---- what they say -------------------------------------------------------------------------------------- */

/* The user's name from /etc/passwd, else the number: the name service is nothing for a signal handler. */
static void append_user(struct text *line, uid_t uid)
{
    char wanted[16];
    struct text digits = text_in(wanted, sizeof wanted);
    text_append_number(&digits, uid);
    char bytes[1024];
    size_t have = 0;
    int descriptor = sys_openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC, 0);
    bool found = false;
    while (descriptor >= 0 && !found) {
        ssize_t got = sys_read(descriptor, bytes + have, sizeof bytes - 1 - have);
        if (got <= 0) break;
        have += (size_t)got;
        bytes[have] = '\0';
        char *entry = bytes;
        for (char *end; !found && (end = strchr(entry, '\n')); entry = end + 1) {
            *end = '\0';
            const char *name_end = strchr(entry, ':');
            const char *number = name_end ? strchr(name_end + 1, ':') : NULL;
            if (!number || strncmp(number + 1, wanted, digits.length) != 0 || number[1 + digits.length] != ':')
                continue;
            text_append_untrusted(line, entry, (size_t)(name_end - entry));
            found = true;
        }
        have -= (size_t)(entry - bytes);
        memmove(bytes, entry, have);
        if (have == sizeof bytes - 1) have = 0;
    }
    if (descriptor >= 0) sys_close(descriptor);
    if (!found) text_append(line, wanted);
}

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
    append_user(line, status.st_uid);
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

/* "by COMMAND (pid N, user U, guest G, unit X) and 2 others for T: REASON", and "on HOST " before it where that is
 * another; unfinished: of others not all were looked at. */
static void append_holder(struct text *line, const struct holder *holder, int others, bool unfinished)
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
    append_user(line, user);
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

/* Returns the pid of the holder that it names; 0: none.  *alone: nobody else is in the way. */
static pid_t append_holders(struct text *line, int lock_descriptor, enum lock_mode wanted, bool *alone)
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
    append_holder(line, &named.first, named.others, named.unfinished);
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

/* "locked exclusively by COMMAND (pid N, user U) as OTHER", "in use by qemu-img (pid N, user U): QEMU's own lock:
 * writes, shares nothing". */
static void append_marker(struct text *line, const struct marker *marker, const char *path)
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
        append_user(line, user);
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

/* Behind who is in the way: of a machine of libvirt, virtlockd as well. */
static void append_keeper(struct text *line, const char *path)
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

/* Who blocks what was tried, where that is another than the one who is named already. */
static void append_blocker(struct text *line, int lock_descriptor, unsigned operations, pid_t named)
{
    struct holder holder;
    int blocked = lock_descriptor >= 0 ? blocker_find(lock_descriptor, operations) : 0;
    if (!blocked || !blocker_holder(lock_descriptor, (enum operation)(blocked - 1), &holder) ||
        holder.process.pid == named)
        return;
    text_append(line, "; blocked ");
    append_holder(line, &holder, 0, false);
}

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

/* Programs try again: qemu-img opens an image twice before it gives up, losetup as often as it can.  One line a second
 * on one image is enough; where opens are let through, one for each thing that was done to it. */
static bool said_just_now(const struct settings *settings, const char *path, const char *action)
{
    static _Atomic uint64_t last_path;
    static _Atomic int64_t last_time;
    struct timespec now = {0};
    uint64_t hash = memo_text(MEMO_START, path);
    if (settings->on_conflict == CONFLICT_WARN) hash = memo_text(hash, action);
    sys_clock(CLOCK_MONOTONIC, &now);
    int64_t milliseconds = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (settings->log_level < LOG_DEBUG && memo_is(&last_path, hash) && milliseconds - last_time < 1000) return true;
    memo_note(&last_path, hash);
    last_time = milliseconds;
    return false;
}

/* Whose marks nobody can be shown to have set may be those of another user's program that has the lock, too. */
static void append_sharers(struct text *line, int lock_descriptor)
{
    struct named named;
    name_holders(lock_descriptor, LOCK_EXCLUSIVE, &named);
    if (!named.first.recorded) return;
    text_append(line, "; it is locked shared ");
    append_holder(line, &named.first, named.others, named.unfinished);
}

void message_conflict(const struct settings *settings, const char *path, const char *action, int lock_descriptor,
                      enum lock_mode wanted, unsigned operations, const struct marker *marker,
                      const struct message_advice *advice)
{
    struct text line;
    bool alone;
    if (said_just_now(settings, path, action) || !start_line(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, action);
    text_append(&line, ": ");
    pid_t named = 0;
    if (marker) {
        append_marker(&line, marker, path);
        if (!marker->pid && !marker->use) append_sharers(&line, lock_descriptor);
    } else {
        named = append_holders(&line, lock_descriptor, wanted, &alone);
        append_blocker(&line, lock_descriptor, operations, named);
    }
    append_keeper(&line, path);
    if (advice) append_advice(&line, settings, advice, !marker && alone ? named : 0);
    end_line(settings, &line);
}

void message_blocked(const struct settings *settings, const char *path, const char *action, int lock_descriptor,
                     enum operation operation)
{
    struct text line;
    struct holder holder;
    if (said_just_now(settings, path, action) || !start_line(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, action);
    if (lock_descriptor >= 0 && blocker_holder(lock_descriptor, operation, &holder)) {
        text_append(&line, ": blocked ");
        append_holder(&line, &holder, 0, false);
    } else {
        text_append(&line, ": another program performs it just now, or blocks it and left no record of itself");
    }
    end_line(settings, &line);
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
    append_user(line, user);
    who_append(line, pid);
    text_append(line, ")");
}

/* Who has the image outside imglock, and what. */
static void append_outsider(struct text *line, const struct outsider *outsider)
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

void message_outsider(const struct settings *settings, const char *path, const char *action,
                      const struct outsider *outsider)
{
    struct text line;
    if (said_just_now(settings, path, action) || !start_line(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, action);
    text_append(&line, ": ");
    append_outsider(&line, outsider);
    append_keeper(&line, path);
    end_line(settings, &line);
}

void message_degraded(const struct settings *settings, const char *path, int lock_descriptor, int error,
                      const struct marker *marker)
{
    struct text line;
    bool alone;
    static const char action[] = "opened read-only instead of for writing";
    if (said_just_now(settings, path, action) || !start_line(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, action);
    text_append(&line, ": ");
    if (error)
        text_append(&line, error_description(error));
    else if (marker)
        append_marker(&line, marker, path);
    else
        append_holders(&line, lock_descriptor, LOCK_EXCLUSIVE, &alone);
    end_line(settings, &line);
}

void message_mode(const struct settings *settings, const char *path, const char *action, const char *why)
{
    struct text line;
    if (!start_line(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, action);
    text_append(&line, ": ");
    text_append(&line, why);
    text_append(&line, "; IMGLOCK_MODE or IMGLOCK_RULES sets the mode");
    end_line(settings, &line);
}

void message_lost(const struct settings *settings, const struct message_loss *loss)
{
    struct text line;
    bool alone;
    char path[PATH_MAX];
    if (loss->lock_descriptor < 0 || !record_read_header(loss->lock_descriptor, path)) strcpy(path, "an image");
    if (!start_line(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, "its lock is lost, ");
    text_append(&line, loss->why);
    text_append(&line, "; now ");
    if (loss->marker)
        append_marker(&line, loss->marker, path);
    else
        append_holders(&line, loss->lock_descriptor, loss->mode, &alone);
    if (loss->fails) text_append(&line, "; writing to it fails from now on");
    end_line(settings, &line);
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
    if (!start_line(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, "waiting; ");
    if (marker)
        append_marker(&line, marker, path);
    else
        append_holders(&line, lock_descriptor, wanted, &alone);
    end_line(settings, &line);
}

void message_waiting_outsider(const struct settings *settings, const char *path, const struct outsider *outsider)
{
    struct text line;
    if (!start_line(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, "waiting; ");
    append_outsider(&line, outsider);
    end_line(settings, &line);
}

void message_problem(const struct settings *settings, const char *path, const char *action,
                     const struct lock_name *name, const struct lock_problem *problem)
{
    struct text line;
    char lock_file[PATH_MAX];
    if (!start_line(settings, LOG_CONFLICTS, &line, path)) return;
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
        append_user(&line, problem->owner);
    } else if (!name) {
        if (problem->error == ENOENT) text_append(&line, "; is /proc mounted, for this PID namespace?");
    } else if (problem->error == ENOENT || problem->error == ENOTDIR) {
        text_append(&line, "; the lock directory has to exist");
    } else if (!problem->error || problem->error == EISDIR || problem->error == ENXIO || problem->error == ENODEV) {
        text_append(&line, "; somebody put it there, have its owner remove it");
    }
    end_line(settings, &line);
}

void message_bad_setting(const struct settings *settings, const char *path, const char *action)
{
    struct text line;
    if (!start_line(settings, LOG_CONFLICTS, &line, path)) return;
    text_append(&line, action);
    text_append(&line, ": ");
    text_append(&line, settings->bad_variable);
    text_append(&line, "=");
    text_append_untrusted(&line, settings->bad_value, strlen(settings->bad_value));
    text_append(&line, " makes no sense; it takes ");
    text_append(&line, settings->bad_expects);
    end_line(settings, &line);
}

void message_debug(const struct settings *settings, const char *path, const char *text)
{
    struct text line;
    if (!start_line(settings, LOG_DEBUG, &line, path)) return;
    text_append(&line, text);
    end_line(settings, &line);
}
