/* closing.c: closing CASE IMAGE: what other threads do between the kernel's close of an image and the end of ours.
 * A second preloaded library, closing_hook.c, calls on_close in there. */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

static const char *image;
static void (**on_close)(int descriptor, bool closed);
static int watched;
static sem_t reopened, go_on;

/* Another thread gets the number for something else, and copies that. */
static void reuse_number(int descriptor, bool closed)
{
    if (descriptor != watched || !closed) return;
    *on_close = NULL;
    check(eventfd(0, 0) == descriptor, "the number is not free");
    check(dup(descriptor) >= 0, "dup of what has the number now");
}

static void copy_of_next(void)
{
    watched = open(image, O_RDWR);
    *on_close = reuse_number;
    check(close(watched) == 0, "close");
    check_lock("free", "the image is closed, and what got its number was copied");
}

/* Another thread opens another image, whose private descriptor gets the number. */
static void open_other(int descriptor, bool closed)
{
    if (descriptor != watched || !closed) return;
    *on_close = NULL;
    check(open("other.img", O_RDWR | O_CREAT, 0600) >= 0, "the other image");
    check(fcntl(descriptor, F_GETFD) == -1 && syscall(SYS_fcntl, descriptor, F_GETFD) == -1, "it is the program's");
}

static void private_of_next(void)
{
    int low = open(image, O_RDWR);
    /* The next number above imglock's own. */
    watched = fcntl(low, F_DUPFD, private_descriptor());
    close(low);
    *on_close = open_other;
    check(close(watched) == 0, "close");
    check_lock("free", "the image is closed, and imglock has its number for another");
}

/* Another thread opens the image anew, under the same number, and is about to close it. */
static void stop_before_close(int descriptor, bool closed)
{
    if (descriptor != watched || closed) return;
    sem_post(&reopened);
    sem_wait(&go_on);
}

static void *open_and_close(void *unused)
{
    *on_close = stop_before_close;
    check(open(image, O_RDWR) == watched, "the image has another number now");
    check(close(watched) == 0, "the second close");
    return unused;
}

static pthread_t second;

static void start_second(int descriptor, bool closed)
{
    if (descriptor != watched || !closed) return;
    pthread_create(&second, NULL, open_and_close, NULL);
    sem_wait(&reopened);
}

static void closed_anew(void)
{
    sem_init(&reopened, 0, 0);
    sem_init(&go_on, 0, 0);
    watched = open(image, O_RDWR);
    *on_close = start_second;
    check(close(watched) == 0, "the first close");
    *on_close = NULL;
    check_lock("exclusive", "the second thread has not closed it yet");
    sem_post(&go_on);
    pthread_join(second, NULL);
    check_lock("free", "both have closed");
}

/* A dup2 onto the number fails in the midst of the close, and takes its own mark back. */
static void fail_onto(int descriptor, bool closed)
{
    if (descriptor != watched || closed) return;
    *on_close = NULL;
    check(dup2(1000, descriptor) == -1 && errno == EBADF, "dup2 of what is not open");
}

static void failed_dup2(void)
{
    watched = open(image, O_RDWR);
    *on_close = fail_onto;
    check(close(watched) == 0, "close");
    eventfd(0, 0); /* an open that got the number would find the entry */
    check_lock("free", "the image is closed, and a dup2 onto it had failed");
}

/* ---- a fork in another thread ---------------------------------------------------------------------------- */

static bool fork_when_closed;
static pid_t child;

/* The child copies what is being closed and closes it itself, or finds it gone. */
static void *fork_now(void *unused)
{
    int ready[2];
    char byte;
    if (pipe2(ready, O_CLOEXEC) < 0) exit(2);
    child = fork();
    if (child == 0) {
        if (!fork_when_closed) dup2(watched, 500);
        if (!fork_when_closed) close(watched);
        if (write(ready[1], "", 1) == 1) pause();
        _exit(1);
    }
    check(read(ready[0], &byte, 1) == 1, "the child has ended");
    close(ready[0]);
    close(ready[1]);
    return unused;
}

static void fork_meanwhile(int descriptor, bool closed)
{
    if (descriptor != watched || closed != fork_when_closed) return;
    *on_close = NULL;
    pthread_create(&second, NULL, fork_now, NULL);
    pthread_join(second, NULL);
}

static void forked(bool closed, const char *expected)
{
    fork_when_closed = closed;
    watched = open(image, O_RDWR);
    *on_close = fork_meanwhile;
    check(close(watched) == 0, "close");
    eventfd(0, 0);
    check_lock(expected, "the parent has closed it");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    check_lock("free", "the child has ended");
}

static void forked_before(void)
{
    forked(false, "exclusive");
}

static void forked_behind(void)
{
    forked(true, "free");
}

/* ---- others ---------------------------------------------------------------------------------------------- */

static int copy;

static void copy_it(int descriptor, bool closed)
{
    if (descriptor != watched || closed) return;
    *on_close = NULL;
    copy = dup(descriptor);
}

static void copied_before(void)
{
    watched = open(image, O_RDWR);
    *on_close = copy_it;
    check(close(watched) == 0, "close");
    check_lock("exclusive", "a copy is open");
    close(copy);
    check_lock("free", "the copy is closed");
}

static void close_range_refused(void)
{
    bool *refuse = dlsym(RTLD_DEFAULT, "refuse_close_range");
    watched = open(image, O_RDWR);
    *refuse = true;
    check(close_range((unsigned)watched, (unsigned)watched, 0) == -1 && errno == EPERM, "close_range");
    check_lock("exclusive", "nothing was closed");
    *refuse = false;
    check(close_range((unsigned)watched, (unsigned)watched, 0) == 0, "close_range");
    check_lock("free", "it was closed");
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"copy-of-next", copy_of_next},   {"private-of-next", private_of_next},
        {"closed-anew", closed_anew},     {"failed-dup2", failed_dup2},
        {"forked-before", forked_before}, {"forked-behind", forked_behind},
        {"copied-before", copied_before}, {"close_range-refused", close_range_refused}};
    if (argc != 3) return 2;
    image = argv[2];
    on_close = dlsym(RTLD_DEFAULT, "on_close");
    if (!on_close) return 2;
    closefrom(3);
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
