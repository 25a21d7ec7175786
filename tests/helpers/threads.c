/* threads.c: threads IMAGE SECONDS: sixteen threads open, copy and close one image, another forks meanwhile, for that
 * long at least.  While one of them has the image for writing the lock is exclusive; when all is closed it is free. */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 16 };

static const char *image;
static atomic_bool stop;
static atomic_long rounds;
static atomic_long forks;

static void expect_at_least(const char *wanted)
{
    const char *lock_file = getenv("LOCK_FILE");
    const char *state = lock_file ? lock_state(lock_file) : wanted;
    check(strcmp(state, "exclusive") == 0 || strcmp(state, wanted) == 0, "a thread needs it %s, and it is %s", wanted,
          state);
}

static void one_round(int thread, unsigned *seed)
{
    bool writing = rand_r(seed) % 2;
    int descriptor = open(image, (writing ? O_RDWR : O_RDONLY) | (rand_r(seed) % 2 ? O_CLOEXEC : 0));
    if (!check(descriptor >= 0, "open gives %d", descriptor)) return;
    int copy = -1;
    switch (rand_r(seed) % 6) {
    case 0:
        copy = dup(descriptor);
        break;
    case 1:
        copy = dup2(descriptor, 200 + thread);
        break;
    case 2:
        copy = dup3(descriptor, 200 + thread, O_CLOEXEC);
        break;
    case 3:
        copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 100);
        break;
    case 4:
        copy = (int)syscall(SYS_dup, descriptor);
        break;
    default:
        break;
    }
    if (copy >= 0) {
        close(descriptor);
        descriptor = copy;
    }
    if (rand_r(seed) % 8 == 0) expect_at_least(writing ? "exclusive" : "shared");
    if (rand_r(seed) % 4 == 0) fcntl(descriptor, F_SETFD, rand_r(seed) % 2);
    int other = open("/dev/null", O_RDONLY);
    if (rand_r(seed) % 2) {
        check(dup2(other, descriptor) == descriptor, "dup2");
        close(other);
    } else {
        check(close(other) == 0, "close of another file");
    }
    check(close(descriptor) == 0, "close");
}

static void *work(void *argument)
{
    int thread = (int)(long)argument;
    unsigned seed = (unsigned)thread + 1;
    while (!stop) {
        one_round(thread, &seed);
        rounds++;
    }
    return NULL;
}

/* What a child of a program with threads may do: little, and open and close are among it. */
static void act_as_child(void)
{
    int descriptor = open(image, O_RDWR);
    int copy = dup(descriptor);
    close(descriptor);
    bool good = descriptor >= 0 && copy >= 0 && close(copy) == 0;
    close_range(3, ~0U, 0);
    _exit(good ? 0 : 1);
}

static void *make_children(void *argument)
{
    pid_t (*const ways[])(void) = {fork, _Fork};
    while (!stop) {
        pid_t child = ways[forks++ % 2]();
        if (child == 0) act_as_child();
        int status = 0;
        const pid_t ended = waitpid(child, &status, 0);
        check(ended == child && status == 0, "a child ends with %#x", status);
    }
    return argument;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS + 1];
    if (argc != 3) return 2;
    image = argv[1];
    closefrom(3); /* whatever the test runner left open */
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    pthread_create(&threads[THREADS], NULL, make_children, NULL);
    const double seconds = atof(argv[2]);
    const struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
    /* On a machine with much to do it takes longer until enough has happened. */
    const struct timespec more = {.tv_nsec = 10 * 1000 * 1000};
    while (!checks_failed && (rounds <= 100 || forks <= 3)) nanosleep(&more, NULL);
    stop = true;
    for (int i = 0; i <= THREADS; i++) pthread_join(threads[i], NULL);
    check_lock("free", "all is closed");
    check(private_descriptor() < 0, "a private descriptor is left");
    for (int number = 3; number < 4096; number++) check(fcntl(number, F_GETFD) < 0, "%d is open", number);
    return checked();
}
