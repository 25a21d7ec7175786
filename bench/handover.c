/* handover.c: handover [ROUNDS]: how long after a release a waiter has the lock, beside F_OFD_SETLKW.
 *
 * LD_PRELOAD=build/libimglock.so build/bench/handover: one process holds, another waits, ROUNDS times (200).  By turns
 * the lock is imglock's, on an image that the holder closes and the waiter opens with IMGLOCK_WAIT=forever, and a bare
 * lock on a file, which the holder drops by closing and the waiter takes with F_OFD_SETLKW.  The two take turns so that
 * what else the machine does hits both.  Holder and waiter each have a processor of their own, where there are two, as
 * they have while both do something else; on one the waiter often is woken before the holder has closed.
 *
 * Prints a line for each: how long it took from just before the close until the waiter's call returned, median, 90th of
 * 100, longest; then the ratio of the medians.  Status 1 where the ratio is over 2, 2 where it could not be measured.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MILLISECOND INT64_C(1000000)

enum kind { BARE, IMGLOCK, KINDS };

/* Shared by the two processes.  Each side writes its step, the other polls it. */
static struct {
    _Atomic int held;    /* the holder has the lock of this round */
    _Atomic int waiting; /* the waiter is about to make the call that waits */
    _Atomic int taken;
    _Atomic int64_t taken_at;
} * steps;

static char directory[] = "/tmp/handover.XXXXXX";
static char image[sizeof directory + 16], bare[sizeof directory + 16];

static void die(const char *what)
{
    fprintf(stderr, "handover: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void pause_for(int64_t nanoseconds)
{
    const struct timespec time = {.tv_nsec = nanoseconds};
    nanosleep(&time, NULL);
}

/* Where there is no such processor the kernel goes on choosing. */
static void stay_on_processor(int number)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(number, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void await(const _Atomic int *step, int round)
{
    while (*step < round) pause_for(MILLISECOND / 10);
}

static int open_file(const char *path)
{
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) die(path);
    return descriptor;
}

/* The lock, by waiting for it if need be.  Returns the descriptor whose close drops it. */
static int take(enum kind kind)
{
    if (kind == IMGLOCK) return open_file(image);
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 2};
    int descriptor = open_file(bare);
    if (fcntl(descriptor, F_OFD_SETLKW, &range) < 0) die("F_OFD_SETLKW");
    return descriptor;
}

static void wait_for_rounds(int rounds)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    stay_on_processor(1);
    for (int round = 1; round <= rounds * KINDS; round++) {
        await(&steps->held, round);
        steps->waiting = round;
        int descriptor = take(round % KINDS);
        steps->taken_at = now();
        close(descriptor);
        steps->taken = round;
    }
    _exit(0);
}

/* The state letter in /proc/PID/stat: does the waiter sleep, as it does once it has queued up? */
static bool sleeps(pid_t pid)
{
    char path[40], text[128] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = descriptor < 0 ? -1 : read(descriptor, text, sizeof text - 1);
    if (descriptor >= 0) close(descriptor);
    const char *state = got > 0 ? strrchr(text, ')') : NULL;
    return state && state[1] == ' ' && state[2] == 'S';
}

static void hold_for_rounds(int rounds, pid_t waiter, int64_t *times[KINDS])
{
    for (int round = 1; round <= rounds * KINDS; round++) {
        int descriptor = take(round % KINDS);
        steps->held = round;
        await(&steps->waiting, round);
        /* It may sleep on its way there; two milliseconds later it has come to wait. */
        do pause_for(2 * MILLISECOND);
        while (!sleeps(waiter));
        int64_t released = now();
        close(descriptor);
        await(&steps->taken, round);
        times[round % KINDS][(round - 1) / KINDS] = steps->taken_at - released;
    }
}

static int compare(const void *left, const void *right)
{
    const int64_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static double report(const char *name, int64_t *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, compare);
    double median = (double)times[count / 2] / 1000;
    printf("%-14s median %7.1f us   90 of 100 within %7.1f us   longest %8.1f us\n", name, median,
           (double)times[count * 9 / 10] / 1000, (double)times[count - 1] / 1000);
    return median;
}

/* Without the library both processes would have the image, and nothing would be measured. */
static bool is_locked(void)
{
    int first = open_file(image);
    pid_t child = fork();
    if (child == 0) {
        setenv("IMGLOCK_WAIT", "0", 1);
        execl("/bin/sh", "sh", "-c", "exec 2>/dev/null; : <>\"$0\"", image, (char *)NULL);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    close(first);
    return status != 0;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 200;
    if (argc > 2 || rounds < 1 || rounds > 1000000) {
        fprintf(stderr, "usage: handover [ROUNDS]\n");
        return 2;
    }
    if (!getenv("IMGLOCK_WAIT")) {
        /* The library reads its settings when the program starts. */
        setenv("IMGLOCK_WAIT", "forever", 1);
        setenv("IMGLOCK_FAMILY", "off", 1);
        execv("/proc/self/exe", argv);
        die("exec");
    }
    int64_t *times[KINDS];
    for (int kind = 0; kind < KINDS; kind++) times[kind] = calloc((size_t)rounds, sizeof(int64_t));
    steps = mmap(NULL, sizeof *steps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!times[BARE] || !times[IMGLOCK] || steps == MAP_FAILED) die("memory");
    if (!mkdtemp(directory) || chmod(directory, 0755) < 0) die(directory);
    snprintf(image, sizeof image, "%s/disk.img", directory);
    snprintf(bare, sizeof bare, "%s/bare", directory);
    close(open(image, O_WRONLY | O_CREAT | O_EXCL, 0666));
    close(open(bare, O_WRONLY | O_CREAT | O_EXCL, 0666));
    bool locked = is_locked();
    pid_t waiter = locked ? fork() : -1;
    if (waiter == 0) wait_for_rounds(rounds);
    if (waiter > 0) {
        stay_on_processor(0);
        hold_for_rounds(rounds, waiter, times);
        waitpid(waiter, NULL, 0);
    }
    unlink(image);
    unlink(bare);
    rmdir(directory);
    if (!locked) {
        fprintf(stderr, "handover: the library is not there: run it with LD_PRELOAD=libimglock.so\n");
        return 2;
    }
    double theirs = report("F_OFD_SETLKW", times[BARE], rounds), ours = report("imglock", times[IMGLOCK], rounds);
    printf("%-14s %.2f times\n", "ratio", ours / theirs);
    return ours > 2 * theirs;
}
