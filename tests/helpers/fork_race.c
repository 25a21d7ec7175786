// link: -shared -fPIC
/* fork_race.c: a library to preload behind imglock, so that its constructor, and its fork handlers, come before
 * imglock's. When the program ends, it forks; in the midst of that another thread opens IMAGE for writing and for
 * reading, and closes the first: the process's first image.  It says whether the child has the image for writing, and
 * checks the lock. */
#include <pthread.h>
#include <semaphore.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"

static sem_t go, done;
static bool forking;
static int writing = -1;

static void *open_and_close(void *argument)
{
    sem_wait(&go);
    writing = open(getenv("IMAGE"), O_RDWR | O_CLOEXEC);
    int reading = open(getenv("IMAGE"), O_RDONLY | O_CLOEXEC);
    check(writing >= 0 && reading >= 0, "the opens");
    sem_post(&done);
    sem_wait(&go);
    close(writing);
    sem_post(&done);
    return argument;
}

/* Lets the other thread go on.  It may have to wait until the fork is over, so not for ever. */
static void let_go_on(void)
{
    struct timespec end;
    if (!forking) return;
    sem_post(&go);
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += 300000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    sem_timedwait(&done, &end);
}

static void race(void)
{
    pthread_t other;
    int told[2], ends[2];
    char has = '?';
    if (pipe(told) < 0 || pipe(ends) < 0 || pthread_create(&other, NULL, open_and_close, NULL) != 0) _exit(8);
    forking = true;
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(ends[1]);
        has = writing >= 0 && fcntl(writing, F_GETFL) >= 0 ? 'y' : 'n';
        if (write(told[1], &has, 1) != 1) _exit(8);
        _exit(read(ends[0], &byte, 1) < 0);
    }
    forking = false;
    if (read(told[0], &has, 1) != 1) _exit(8);
    pthread_join(other, NULL);
    check_lock(has == 'y' ? "exclusive" : "shared", "has the child the image for writing: %c", has);
    close(ends[1]);
    waitpid(child, NULL, 0);
    if (write(1, "raced\n", 6) != 6 || checks_failed) _exit(9);
}

__attribute__((constructor)) static void begin(void)
{
    sem_init(&go, 0, 0);
    sem_init(&done, 0, 0);
    pthread_atfork(let_go_on, let_go_on, NULL);
    atexit(race);
}
