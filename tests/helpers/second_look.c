/* second_look.c: second_look CASE FILE [ARGUMENT]: what programs do that is none of our business, or asks for more than
 * a single call.  The cases are the rows of the table at the end. */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static const char *file, *argument;

/* ---- record locks --------------------------------------------------------------------------------------- */

/* Does this process still have its record lock on the file?  A child can tell, to whom it is another's. */
static bool has_record_lock(const char *path, short type)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
        /* Bare: neither an open of an image nor a lock of a program that has one is to be in the way of the question.
         */
        int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        if (descriptor < 0 || fcntl(descriptor, F_GETLK, &lock) < 0) _exit(2);
        _exit(lock.l_type == F_UNLCK);
    }
    waitpid(child, &status, 0);
    if (status != 0 && status != 0x100) exit(2);
    return status == 0;
}

/* A program takes a record lock and replaces itself by another, as s6-setlock does, and daemons that start themselves
 * anew. */
static void through_exec(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int descriptor = open(file, (strcmp(argument, "w") == 0 ? O_WRONLY : O_RDWR) | O_CREAT, 0600);
    if (descriptor < 0 || fcntl(descriptor, F_SETLK, &lock) < 0) exit(2);
    setenv("LD_PRELOAD", getenv("SHIM"), 1);
    execl("/proc/self/exe", "second_look", "after-exec", file, NULL);
    exit(2);
}

static void after_exec(void)
{
    unsetenv("LD_PRELOAD");
    check(has_record_lock(file, F_WRLCK), "the record lock that came through exec is lost");
}

/* An open that is refused does not cost the program the record locks that it has on the file by another descriptor. */
static void refused_beside_lock(void)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int descriptor = open(file, O_RDONLY);
    if (descriptor < 0 || fcntl(descriptor, F_SETLK, &lock) < 0) exit(2);
    check(open(file, O_RDWR) < 0, "the open for writing is not refused");
    check(open(file, O_WRONLY | O_TRUNC) < 0, "the open that truncates is not refused");
    check(fopen(file, "w") == NULL, "fopen is not refused");
    check(has_record_lock(file, F_WRLCK), "the refusal has dropped the program's own lock");
}

/* ---- a small signal stack ------------------------------------------------------------------------------- */

static char other[4096];

static void handle(int number)
{
    (void)number;
    int result = -1;
    if (strcmp(argument, "unlink") == 0) result = unlink(file);
    if (strcmp(argument, "rename") == 0) result = rename(file, other);
    if (strcmp(argument, "create") == 0) result = open(other, O_CREAT | O_WRONLY | O_APPEND, 0600);
    if (strcmp(argument, "truncate") == 0) result = truncate(file, 0);
    if (strcmp(argument, "open-truncate") == 0) result = open(file, O_WRONLY | O_TRUNC);
    if (strcmp(argument, "read") == 0) result = open(file, O_RDONLY);
    if (strcmp(argument, "openat") == 0) result = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR);
    _exit(result < 0 ? 5 : 0);
}

/* A handler on a signal stack of 8 KiB, SIGSTKSZ of old, does that to a file that is no image. */
static void small_stack(void)
{
    enum { PAGE = 4096, SIZE = 8192 };
    snprintf(other, sizeof other, "%s.other", file);
    pid_t child = fork();
    if (child == 0) {
        char *memory = mmap(NULL, PAGE + SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory + PAGE, SIZE, PROT_READ | PROT_WRITE) < 0) _exit(2);
        const stack_t stack = {.ss_sp = memory + PAGE, .ss_size = SIZE};
        const struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
        if (sigaltstack(&stack, NULL) < 0 || sigaction(SIGTERM, &action, NULL) < 0) _exit(2);
        raise(SIGTERM);
        _exit(9);
    }
    int status;
    const pid_t ended = waitpid(child, &status, 0);
    check(ended == child && status == 0, "%s on a stack of 8 KiB: the program ends with %#x", argument, status);
}

/* ---- a new file ----------------------------------------------------------------------------------------- */

/* Creates the file in every way, with set-user-ID and set-group-ID bits, and prints its mode and what a watcher is
 * told. */
static void create(void)
{
    const int ways = 4;
    umask(0);
    for (int way = 0; way < ways; way++) {
        const int watcher = inotify_init1(IN_NONBLOCK);
        if (watcher < 0 || inotify_add_watch(watcher, ".", IN_ALL_EVENTS) < 0) exit(2);
        int descriptor = way == 0   ? creat(file, 06777)
                         : way == 1 ? open(file, O_WRONLY | O_CREAT | O_TRUNC, 06755)
                         : way == 2 ? open(file, O_RDWR | O_CREAT | O_EXCL | O_TRUNC, 02755)
                                    : open(file, O_RDWR | O_CREAT, 04711);
        struct stat status;
        if (descriptor < 0 || fstat(descriptor, &status) < 0) exit(2);
        printf("way %d: mode %o, told", way, status.st_mode);
        char events[4096] __attribute__((aligned(8)));
        for (ssize_t got; (got = read(watcher, events, sizeof events)) > 0;)
            for (char *at = events; at < events + got;) {
                const struct inotify_event *event = (const struct inotify_event *)at;
                if (event->len && strcmp(event->name, file) == 0) printf(" %#x", event->mask);
                at += sizeof *event + event->len;
            }
        putchar('\n');
        close(descriptor);
        close(watcher);
        unlink(file);
    }
}

/* ---- waiting -------------------------------------------------------------------------------------------- */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static volatile bool stop;
static int64_t longest_delay;

/* How much later than told a process is woken just now: the longest of many sleeps. */
static void *sleep_meanwhile(void *unused)
{
    const struct timespec nap = {.tv_nsec = 20 * 1000 * 1000};
    while (!stop) {
        const int64_t start = now();
        nanosleep(&nap, NULL);
        const int64_t delay = now() - start - nap.tv_nsec;
        if (delay > longest_delay) longest_delay = delay;
    }
    return unused;
}

/* Waits for the file, which somebody holds; IMGLOCK_WAIT is ARGUMENT seconds.  It may take half a second longer, and
 * longer by what a bare sleep in the same seconds shows the machine to be late. */
static void wait_as_told(void)
{
    enum { TIMES = 20 };
    pthread_t sleeper;
    const int64_t told = (int64_t)(atof(argument) * 1e9);
    pthread_create(&sleeper, NULL, sleep_meanwhile, NULL);
    const int64_t start = now();
    int descriptor = open(file, O_RDWR);
    const int64_t took = now() - start;
    stop = true;
    pthread_join(sleeper, NULL);
    check(descriptor < 0, "the open is not refused");
    check(took >= told, "it took %.3f s of %.3f", (double)took / 1e9, (double)told / 1e9);
    check(took <= told + 500000000 + TIMES * longest_delay,
          "it took %.3f s of %.3f, where a sleep is late by %.3f s at most", (double)took / 1e9, (double)told / 1e9,
          (double)longest_delay / 1e9);
}

/* Tries for the file a thousand times a second, until its input ends. */
static void knock(void)
{
    char byte;
    const struct timespec nap = {.tv_nsec = 1000 * 1000};
    fcntl(0, F_SETFL, O_NONBLOCK);
    while (read(0, &byte, 1) < 0 && errno == EAGAIN) {
        int descriptor = open(file, O_RDWR);
        if (descriptor >= 0) close(descriptor);
        nanosleep(&nap, NULL);
    }
}

/* Has nothing to do and does it all the time, until its input ends. */
static void hog(void)
{
    char byte;
    fcntl(0, F_SETFL, O_NONBLOCK);
    while (read(0, &byte, 1) < 0 && errno == EAGAIN)
        for (volatile int i = 0; i < 1000000; i++) continue;
}

/* ---- a hostile user ------------------------------------------------------------------------------------- */

static void say_ready(void)
{
    if (write(1, "ready\n", 6) != 6) exit(2);
    for (;;) pause();
}

/* Holds the lock, and all slots, each by a description of its own: ARGUMENT is shared-up, exclusive-down ... */
static void hold_slots(void)
{
    enum { SLOTS = 4096, SLOT_BYTE = 1024 };
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 2};
    const short type = strncmp(argument, "shared", 6) == 0 ? F_RDLCK : F_WRLCK;
    const bool up = strstr(argument, "-up");
    const struct rlimit limit = {SLOTS + 100, SLOTS + 100};
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) exit(3);
    int descriptor = open(file, O_RDWR);
    if (descriptor < 0 || fcntl(descriptor, F_OFD_SETLK, &range) < 0) exit(2);
    for (int i = 0; i < SLOTS; i++) {
        range = (struct flock){
            .l_type = type, .l_whence = SEEK_SET, .l_start = SLOT_BYTE + (up ? i : SLOTS - 1 - i), .l_len = 1};
        descriptor = open(file, O_RDWR);
        if (descriptor < 0 || fcntl(descriptor, F_OFD_SETLK, &range) < 0) exit(2);
    }
    say_ready();
}

/* A lease on a file of one's own, which is never given back. */
static void hold_lease(void)
{
    signal(SIGIO, SIG_IGN);
    int descriptor = open(file, O_RDWR | O_CREAT, 0666);
    if (descriptor < 0 || fchmod(descriptor, 0666) < 0 || fcntl(descriptor, F_SETLEASE, F_WRLCK) < 0) exit(2);
    say_ready();
}

/* The lock is held by a description that no process has: it lies in a socket. */
static void hold_in_flight(void)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 2};
    int sockets[2];
    int descriptor = open(file, O_RDWR | O_CREAT, 0666);
    if (descriptor < 0 || fchmod(descriptor, 0666) < 0 || fcntl(descriptor, F_OFD_SETLK, &range) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) < 0)
        exit(2);
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof descriptor)];
    } control = {0};
    struct iovec part = {"x", 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    control.header =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof descriptor), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    if (sendmsg(sockets[0], &message, 0) != 1) exit(2);
    close(descriptor);
    say_ready();
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"through-exec", through_exec}, /* w|rw */
        {"after-exec", after_exec},
        {"refused-beside-lock", refused_beside_lock},
        {"small-stack", small_stack}, /* CALL */
        {"create", create},
        {"wait-as-told", wait_as_told}, /* SECONDS */
        {"knock", knock},
        {"hog", hog},
        {"hold-slots", hold_slots}, /* shared|exclusive-up|down */
        {"hold-lease", hold_lease},
        {"hold-in-flight", hold_in_flight},
    };
    if (argc < 3) return 2;
    file = argv[2];
    argument = argc > 3 ? argv[3] : "";
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
