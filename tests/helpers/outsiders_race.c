/* outsiders_race.c: outsiders_race writer|blocking|not-blocking SECONDS IMAGE: opens an image again and again.  writer,
 * for the library: for writing, with threads beside it that have every signal's default, looking for what a question
 * may leave behind.  The others, without it: for reading; they say how long the longest of their opens took, in
 * milliseconds.
 *
 * An open that the library held up for good would wait until the lease is broken, 45 seconds
 * (/proc/sys/fs/lease-break-time).  EWOULDBLOCK is what an open that does not block gets from any lease. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *idle(void *argument)
{
    for (;;) pause();
    return argument;
}

static void note(int number)
{
    static const char line[] = "a signal reached the program\n";
    if (number != SIGTERM && write(1, line, sizeof line - 1) < 0) _exit(3);
}

static int open_again_and_again(const char *image, double end)
{
    pthread_t thread;
    long opens = 0;
    signal(SIGURG, note);
    for (int i = 0; i < 3; i++)
        if (pthread_create(&thread, NULL, idle, NULL) != 0) return 2;
    while (now() < end) {
        const int descriptor = open(image, O_RDWR | O_CLOEXEC);
        if (descriptor < 0) return perror("wrapped"), 1;
        if (fcntl(descriptor, F_GETOWN) != 0 || fcntl(descriptor, F_GETSIG) != 0) return 1;
        close(descriptor);
        opens++;
    }
    return opens > 0 ? 0 : 1;
}

static int open_bare(const char *image, double end, bool blocking)
{
    double worst = 0;
    long opens = 0;
    while (now() < end) {
        const double start = now();
        const int descriptor = open(image, O_RDONLY | O_CLOEXEC | (blocking ? 0 : O_NONBLOCK));
        const double took = now() - start;
        if (descriptor < 0 && (errno != EWOULDBLOCK || blocking)) return perror("bare"), 1;
        if (took > worst) worst = took;
        if (descriptor >= 0) close(descriptor);
        opens++;
        /* While they have it open the kernel gives no lease that they could break. */
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    printf("%.0f\n", worst * 1000);
    return opens > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    const double end = now() + atof(argv[2]);
    return strcmp(argv[1], "writer") == 0 ? open_again_and_again(argv[3], end)
                                          : open_bare(argv[3], end, strcmp(argv[1], "blocking") == 0);
}
