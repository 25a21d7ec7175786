/* hiding.c: hiding open|truncate|half|unlock|raise|moment|page|linger|wiped IMAGE TIMES: has the image open for
 * reading, and a child that opens it for writing, or truncates it by its name.  The parent hides a stranger from it,
 * and no test has to win a race.
 *
 * open, truncate: when the child has come to the marks, the parent has the image once whenever the child reads the list
 * of all locks, and twice whenever it looks at the parent: TIMES times, then once.
 *
 * half: an open, too; the same at two readings of the list, and at the next two it has the image twice, and so on.
 *
 * unlock: an open, too; when the child has looked at the parent and comes to the list, the parent takes back its marks
 * by a lock of its own, and closes nothing: once, if TIMES is not 0.
 *
 * raise: an open, too; likewise, and the marks are there again when the child comes to the parent: TIMES times.
 *
 * moment: an open, too; the parent has marks only from when the child comes to it until it comes to the list: TIMES
 * times.
 *
 * page: an open, too; when the child begins to read the list of all locks, the parent locks so many bytes of another
 * file that the stranger's row is on the second page, and before that is read it lets go of them: TIMES times.
 *
 * linger: an open, too; when the child comes to the image, the parent closes it, but its lock stays, as one that
 * somebody was just looking at when it was closed: until the child has looked whether the parent has it, and has let
 * others go first TIMES times.  wiped: the same, and the parent's record is gone.
 *
 * Says how often it was done; the status is 0 if the child may, 1 if it is refused. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FAILED = 99, MARKS_START = 100, MARKS_END = 204, ROWS = 200 };

static const char *image;
static char own[32]; /* the parent's directory in /proc */
static pid_t child;
static int times, done;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "hiding: %s: %s\n", what, strerror(errno));
    exit(FAILED);
}

static void read_of_child(unsigned long long address, void *bytes, size_t size)
{
    struct iovec here = {bytes, size}, there = {(void *)(unsigned long)address, size};
    memset(bytes, 0, size);
    if (process_vm_readv(child, &here, 1, &there, 1, 0) <= 0) die("process_vm_readv");
}

static bool opens(const struct __ptrace_syscall_info *info, const char *wanted)
{
    char path[32];
    if (info->entry.nr != SYS_openat) return false;
    read_of_child(info->entry.args[1], path, sizeof path - 1);
    path[sizeof path - 1] = '\0';
    return strcmp(path, wanted) == 0;
}

/* The same of a read from it. */
static bool reads(const struct __ptrace_syscall_info *info, const char *wanted)
{
    char link[64], path[32];
    if (info->entry.nr != SYS_read) return false;
    snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)child, (int)info->entry.args[0]);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return false;
    path[length] = '\0';
    return strcmp(path, wanted) == 0;
}

/* Does it ask for others' marks? */
static bool asks(const struct __ptrace_syscall_info *info)
{
    struct flock lock;
    if (info->entry.nr != SYS_fcntl || info->entry.args[1] != F_OFD_GETLK) return false;
    read_of_child(info->entry.args[2], &lock, sizeof lock);
    return (lock.l_start == 1 && lock.l_len == 0) || (lock.l_start >= MARKS_START && lock.l_start < MARKS_END);
}

static bool every_other, wiped;

static void hide_by_closing(const struct __ptrace_syscall_info *info)
{
    static bool marked, counted;
    static int twice = -1;
    marked |= asks(info);
    if (!marked) return;
    if (opens(info, "/proc/locks")) {
        static int lists;
        if (every_other && lists++ / 2 % 2 == 1) return;
        counted = true;
        if (twice >= 0) close(twice);
        twice = -1;
    } else if (counted && done < times && opens(info, own)) {
        counted = false;
        done++;
        twice = open(image, O_RDONLY | O_CLOEXEC);
        if (twice < 0) die(image);
    }
}

static int first = -1; /* the parent's descriptor */

static void hide_by_unlocking(const struct __ptrace_syscall_info *info)
{
    static bool marked, seen;
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 5000, .l_len = 1};
    marked |= asks(info);
    if (!marked) return;
    seen |= opens(info, own);
    if (!seen || done == times || !opens(info, "/proc/locks")) return;
    done++;
    if (fcntl(first, F_SETLK, &lock) < 0) die("F_SETLK");
}

/* The parent's marks, past the library. */
static void mark(short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
    if (syscall(SYS_fcntl, first, F_OFD_SETLK, &lock) < 0) die("byte 100");
    lock.l_start = 201;
    lock.l_len = 3;
    if (syscall(SYS_fcntl, first, F_OFD_SETLK, &lock) < 0) die("bytes 201-203");
}

static void hide_by_raising(const struct __ptrace_syscall_info *info)
{
    static bool marked, seen;
    marked |= asks(info);
    if (!marked) return;
    if (opens(info, own)) {
        seen = true;
        mark(F_RDLCK);
    } else if (seen && done < times && opens(info, "/proc/locks")) {
        seen = false;
        done++;
        mark(F_UNLCK);
    }
}

static void hide_by_a_moment(const struct __ptrace_syscall_info *info)
{
    static bool marked, set;
    if (!marked && asks(info)) {
        marked = true;
        mark(F_UNLCK);
    }
    if (!marked || done == times) return;
    if (opens(info, own)) {
        set = true;
        mark(F_RDLCK);
    } else if (set && opens(info, "/proc/locks")) {
        set = false;
        done++;
        mark(F_UNLCK);
    }
}

static void hide_behind_page(const struct __ptrace_syscall_info *info)
{
    static int other = -1, pages = -1;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    if (other < 0) other = memfd_create("other", MFD_CLOEXEC);
    if (done < times && opens(info, "/proc/locks")) {
        for (; lock.l_start < 2 * ROWS; lock.l_start += 2)
            if (fcntl(other, F_OFD_SETLK, &lock) < 0) die("other");
        pages = 0;
    } else if (pages >= 0 && reads(info, "/proc/locks") && ++pages == 2) {
        pages = -1;
        done++;
        lock = (struct flock){.l_type = F_UNLCK, .l_whence = SEEK_SET};
        if (fcntl(other, F_OFD_SETLK, &lock) < 0) die("other");
    }
}

/* On its way to nobody: no process has it. */
static void send_away(int sockets[2], int descriptor)
{
    char byte = 0;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct iovec text = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0 || sendmsg(sockets[0], &message, 0) != 1)
        die("socketpair");
}

static void wipe_records(int descriptor)
{
    enum { RECORDS_AT = 4096, RECORD_SIZE = 256 };
    static const char nothing[8 * RECORD_SIZE];
    if (pwrite(descriptor, nothing, sizeof nothing, RECORDS_AT) != sizeof nothing) die("records");
}

static void let_linger(const struct __ptrace_syscall_info *info)
{
    static int sockets[2], private = -1;
    static bool looked;
    char look[24];
    if (private < 0 && opens(info, image)) {
        private = private_descriptor();
        if (private < 0) die("no lock file");
        send_away(sockets, private);
        if (wiped) wipe_records(private);
        close(first);
    }
    snprintf(look, sizeof look, "fdinfo/%d", private);
    looked |= private >= 0 && (wiped || opens(info, look));
    if (!looked || info->entry.nr != SYS_sched_yield || done == times || ++done < times) return;
    close(sockets[0]);
    close(sockets[1]);
}

static const struct {
    const char *name;
    void (*hide)(const struct __ptrace_syscall_info *info);
} ways[] = {{"open", hide_by_closing},     {"truncate", hide_by_closing}, {"half", hide_by_closing},
            {"unlock", hide_by_unlocking}, {"raise", hide_by_raising},    {"moment", hide_by_a_moment},
            {"page", hide_behind_page},    {"linger", let_linger},        {"wiped", let_linger}};

/* Runs the child until it ends, and returns its status. */
static int follow(void (*hide)(const struct __ptrace_syscall_info *info))
{
    int status;
    if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) die("waitpid");
    if (ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0) die("PTRACE_SETOPTIONS");
    for (long deliver = 0;;) {
        struct __ptrace_syscall_info info;
        if (ptrace(PTRACE_SYSCALL, child, NULL, deliver) < 0) die("PTRACE_SYSCALL");
        if (waitpid(child, &status, 0) < 0) die("waitpid");
        if (!WIFSTOPPED(status)) return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
        deliver = 0;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) <= 0) die("PTRACE_GET_SYSCALL_INFO");
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY) hide(&info);
        } else if (WSTOPSIG(status) != SIGTRAP) {
            deliver = WSTOPSIG(status);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) return FAILED;
    image = argv[2];
    if (argc == 3)
        return strcmp(argv[1], "truncate") == 0 ? truncate(image, 0) < 0 : open(image, O_RDWR | O_CLOEXEC) < 0;
    times = atoi(argv[3]);
    snprintf(own, sizeof own, "/proc/%d", (int)getpid());
    if ((first = open(image, O_RDONLY | O_CLOEXEC)) < 0) die(image);
    size_t way = 0;
    while (strcmp(ways[way].name, argv[1]) != 0)
        if (++way == sizeof ways / sizeof *ways) return FAILED;
    every_other = strcmp(argv[1], "half") == 0;
    wiped = strcmp(argv[1], "wiped") == 0;
    child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0) die("PTRACE_TRACEME");
        raise(SIGSTOP);
        execl("/proc/self/exe", argv[0], argv[1], image, NULL);
        die(argv[0]);
    }
    const int status = follow(ways[way].hide);
    printf("%d\n", done);
    return status;
}
