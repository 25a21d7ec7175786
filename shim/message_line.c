#include "message_line.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "log_file.h"
#include "memo.h"
#include "sys.h"

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

void message_line_remember_stderr(void)
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

/* ---- a line --------------------------------------------------------------------------------------------- */

bool message_line_begin(const struct settings *settings, enum log_level level, struct text *line, const char *path)
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

void message_line_end(const struct settings *settings, struct text *line)
{
    emit(settings, line);
    sys_munmap(line->bytes, LINE_SIZE);
}

bool message_line_was_said(const struct settings *settings, const char *path, const char *action)
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
