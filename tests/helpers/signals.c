// link: -Wl,--no-as-needed -lpthread
/* signals.c: signals CASE IMAGE: handlers that open, copy and close the image while the program does the same, and
 * handlers that jump out of it.  With libpthread, which a linker may leave out, and without which libc runs no cleanups
 * before 2.34. */
#include "check.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

static const char *image;
static atomic_long handled;
static atomic_long jumped;
static sigjmp_buf out;

static void start_timer(long microseconds)
{
    const struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* Each case runs for a time, and on a busy machine for as long as it takes to have something to look at. */
static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static volatile long again_after;

static void handle(int number)
{
    int saved = errno;
    int descriptor = open(image, handled++ % 2 ? O_RDWR : O_RDONLY);
    int copy = dup(descriptor);
    dup2(copy, 300);
    close(descriptor);
    close(300);
    fcntl(copy, F_SETFD, FD_CLOEXEC);
    close(copy);
    if (descriptor < 0 || copy < 0) _exit(3 + (number == 0));
    /* From the end of this one: where a handler takes longer than that, the program would come to nothing. */
    setitimer(ITIMER_REAL, &(const struct itimerval){{0, 0}, {0, again_after}}, NULL);
    errno = saved;
}

static void install(void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
}

static void one_round(int round)
{
    int descriptor = open(image, round % 2 ? O_RDWR : O_RDONLY);
    check(descriptor >= 0, "open gives %d", descriptor);
    int copy = round % 3 ? dup(descriptor) : dup2(descriptor, 250);
    check(close(descriptor) == 0, "close");
    int third = fcntl(copy, F_DUPFD_CLOEXEC, 10);
    check(close(copy) == 0 && close(third) == 0, "close of the copies");
    errno = 77;
    descriptor = open(image, O_RDWR);
    check(errno == 77, "errno after open in the midst of handlers");
    close_range((unsigned)descriptor, (unsigned)descriptor, 0);
}

static void in_handlers(void)
{
    install(handle, SA_RESTART);
    again_after = 100;
    start_timer(again_after);
    double end = now() + 1;
    for (int round = 0; now() < end || handled <= 20; round++) one_round(round);
    again_after = 0;
    start_timer(0);
    check_lock("free", "all is closed");
    check(private_descriptor() < 0, "a private descriptor is left");
}

static void jump(int number)
{
    jumped++;
    siglongjmp(out, number);
}

static void round_of_jumps(int round)
{
    int descriptor = open(image, round % 2 ? O_RDWR : O_RDONLY | O_CLOEXEC);
    switch (round % 7) {
    case 0:
        if (dup(descriptor) < 0) return;
        break;
    case 1:
        dup2(descriptor, 250);
        break;
    case 2:
        fcntl(descriptor, F_DUPFD, 10);
        break;
    case 3:
        syscall(SYS_dup, descriptor);
        break;
    case 4:
        dup3(0, descriptor, 0);
        break;
    case 5:
        open("new.img", O_RDWR | O_CREAT, 0600);
        break;
    default:
        creat(image, 0600);
        break;
    }
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    if (round % 3 == 0)
        closefrom(3);
    else
        close(descriptor);
}

/* Out of any place in any of our calls.  The descriptors that the program has lost by that are its own doing; when it
 * closes them all, no lock is left. */
static void out_of_calls(void)
{
    static volatile int round;
    install(jump, SA_NODEFER);
    double end = now() + 2;
    static volatile int burst;
    while (now() < end || jumped <= 50) {
        /* Armed where a jump leads here: on a busy machine the first signal comes before the next line does. */
        for (burst++; sigsetjmp(out, 1) == 0;) {
            start_timer(100 + burst % 37);
            for (;;) round_of_jumps(round++);
        }
        start_timer(0);
        /* One may be on its way. */
        if (sigsetjmp(out, 1) == 0) usleep(0);
        if (burst % 50 == 0) {
            closefrom(3);
            check_lock("free", "all is closed after %ld jumps", (long)jumped);
            check(private_descriptor() < 0, "a private descriptor is left after %ld jumps", (long)jumped);
            if (checks_failed) return;
        }
    }
    closefrom(3);
    check_lock("free", "all is closed");
    check(private_descriptor() < 0, "a private descriptor is left");
}

static bool survives_exec(int descriptor)
{
    char path[64], line[128];
    unsigned flags = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", descriptor);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) sscanf(line, "flags: %o", &flags);
    if (file) fclose(file);
    return file && !(flags & O_CLOEXEC);
}

/* Out of dup2 of a descriptor for reading onto one for writing of the same image, and onto one that exec closes: the
 * lock is what the descriptor that is open afterwards needs. */
static void out_of_copies(void)
{
    static volatile int reading, number;
    install(jump, SA_NODEFER);
    const char *lock_file = getenv("LOCK_FILE");
    close(open(image, O_RDONLY)); /* makes the lock file */
    reading = open(lock_file, O_RDWR | O_CLOEXEC);
    int others = fcntl(reading, F_DUPFD_CLOEXEC, 10000); /* behind what private_descriptor looks at */
    close(reading);
    for (double end = now() + 1; (now() < end || jumped <= 100) && !checks_failed;) {
        reading = open(image, O_RDONLY);
        number = open(image, O_RDWR | O_CLOEXEC);
        fcntl(reading, F_SETFD, FD_CLOEXEC);
        if (sigsetjmp(out, 1) == 0) {
            const struct itimerval once = {{0, 0}, {0, 20 + (long)jumped % 60}};
            setitimer(ITIMER_REAL, &once, NULL);
            for (;;) {
                dup2(reading, number);
                dup3(reading, number, 0x4000);
                close(number);
                number = -1;
                number = open(image, O_RDWR | O_CLOEXEC);
            }
        }
        struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 2};
        check(fcntl(others, F_OFD_GETLK, &range) == 0, "F_OFD_GETLK");
        bool writes = number >= 0 && (fcntl(number, F_GETFL) & O_ACCMODE) == O_RDWR;
        check(!writes || range.l_type == F_WRLCK, "after %ld jumps it is open for writing, and others may read",
              (long)jumped);
        int flags = number >= 0 ? fcntl(number, F_GETFD) : -1;
        check(flags != 0 || survives_exec(private_descriptor()), "after %ld jumps exec keeps it, and not its lock",
              (long)jumped);
        for (int i = 3; i < 64; i++) close(i);
    }
    check_lock("free", "all is closed");
}

/* For each byte in the pipe it sends SIGALRM to the parent once that waits: asleep, and not woken meanwhile. */
static void watch_parent(int pipe, pid_t parent)
{
    char path[32], byte, name[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)parent);
    while (read(pipe, &byte, 1) == 1) {
        long switches = -1;
        for (int seen = 0; seen < 5 && getppid() == parent; usleep(4000)) {
            char line[128];
            long now = -1;
            FILE *file = fopen(path, "r");
            while (file && fgets(line, sizeof line, file)) {
                sscanf(line, "State: %c", &state);
                if (sscanf(line, "%63s %ld", name, &now) == 2 && strcmp(name, "voluntary_ctxt_switches:") == 0) break;
            }
            if (file) fclose(file);
            seen = state == 'S' && now == switches ? seen + 1 : 0;
            switches = now;
        }
        kill(parent, SIGALRM);
    }
    _exit(0);
}

/* Another process holds the image, and IMGLOCK_WAIT says to wait. */
static void out_of_waiting(void)
{
    int ends[2];
    pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC) < 0) return (void)check(false, "pipe2");
    install(jump, 0);
    if (fork() == 0) {
        close(ends[1]);
        watch_parent(ends[0], parent);
    }
    close(ends[0]);
    int before = open_descriptors();
    for (volatile int i = 0; i < 5; i++) {
        if (sigsetjmp(out, 1) == 0) {
            check(write(ends[1], "", 1) == 1, "write");
            int descriptor = open(image, i % 2 ? O_RDONLY : O_RDWR);
            check(false, "open gives %d", descriptor);
        }
    }
    check(jumped == 5, "%ld jumps", (long)jumped);
    check(open_descriptors() == before, "%d descriptors, and %d before", open_descriptors(), before);
    check(strcmp(lock_state_at(getenv("LOCK_FILE"), 2, 1), "free") == 0, "the gate is closed");
}

static void count_only(int number)
{
    (void)number;
    handled++;
}

/* A handler without SA_RESTART ends the wait with EINTR; one with it lets it go on until its time is over. */
static void while_waiting(void)
{
    int before = open_descriptors();
    const struct itimerval often = {{0, 50000}, {0, 50000}};
    setitimer(ITIMER_REAL, &often, NULL);
    install(count_only, 0);
    int descriptor = open(image, O_RDWR);
    check(descriptor == -1 && errno == EINTR && handled >= 1, "open gives %d after %ld signals", descriptor,
          (long)handled);
    install(count_only, SA_RESTART);
    handled = 0;
    descriptor = open(image, O_RDWR);
    check(descriptor == -1 && errno == ETXTBSY && handled > 1, "open gives %d after %ld signals", descriptor,
          (long)handled);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    check(open_descriptors() == before, "%d descriptors, and %d before", open_descriptors(), before);
}

/* With a look at nothing else: strace counts the calls. */
static int listed_descriptors(void)
{
    int count = 0;
    DIR *list = opendir("/proc/self/fd");
    while (list && readdir(list)) count++;
    if (list) closedir(list);
    return count;
}

/* SIGURG comes from outside, once, somewhere between the two calls of getppid: no descriptor is left. */
static void out_of_guard(void)
{
    static volatile int before;
    struct sigaction action = {.sa_handler = jump};
    before = listed_descriptors();
    if (truncate(image, 4096) < 0) check(errno == EBUSY, "truncate");
    check(listed_descriptors() == before, "%d descriptors, and %d before", listed_descriptors(), before);
    sigaction(SIGURG, &action, NULL);
    if (sigsetjmp(out, 1) == 0) {
        syscall(SYS_getppid);
        if (truncate(image, 4096) < 0) check(errno == EBUSY, "truncate");
    }
    syscall(SYS_getppid);
    action.sa_handler = SIG_IGN;
    sigaction(SIGURG, &action, NULL);
    check(listed_descriptors() == before, "%d descriptors, and %d before", listed_descriptors(), before);
    check_lock("free", "the guard is over");
    printf("jumped %ld\n", (long)jumped);
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"handlers", in_handlers},          {"jumps", out_of_calls}, {"jump-from-copies", out_of_copies},
        {"jump-from-wait", out_of_waiting}, {"wait", while_waiting}, {"jump-from-guard", out_of_guard},
    };
    if (argc != 3) return 2;
    image = argv[2];
    closefrom(3); /* whatever the test runner left open */
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
