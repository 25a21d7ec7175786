/* outsiders_race.c: outsiders_race writer|bare SECONDS IMAGE: opens an image again and again.  writer, for the library:
 * for writing, with a thread beside it, looking for what a question may leave behind.  bare: for reading, in turn
 * blocking and not; says how many of its opens were late.
 *
 * An open that the library held up would wait until the lease is given back, 45 seconds at the worst
 * (/proc/sys/fs/lease-break-time); late is a second.  EAGAIN, for the opens that do not block, is no error. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
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

static int open_bare(const char *image, double end)
{
    long late = 0;
    for (int turn = 0; now() < end; turn++) {
        const double start = now();
        const int descriptor = open(image, O_RDONLY | O_CLOEXEC | (turn % 2 ? O_NONBLOCK : 0));
        if (descriptor < 0 && (errno != EAGAIN || turn % 2 == 0)) return perror("bare"), 1;
        late += now() - start > 1;
        if (descriptor >= 0) close(descriptor);
    }
    printf("late %ld\n", late);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    const double end = now() + atof(argv[2]);
    return strcmp(argv[1], "bare") == 0 ? open_bare(argv[3], end) : open_again_and_again(argv[3], end);
}
