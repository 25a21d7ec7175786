/* cancel.c: cancel CASE IMAGE: threads that are cancelled in open, in close, while they wait for a lock.  No lock is
 * left and nobody hangs. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

static const char *image;
static int descriptor = -1;
static atomic_bool started;

static void *cancelled(pthread_t thread)
{
    void *result;
    pthread_join(thread, &result);
    check(result == PTHREAD_CANCELED, "the thread was not cancelled");
    return result;
}

static void *loop(void *argument)
{
    for (;;) {
        int one = open(image, O_RDWR);
        int two = dup(one);
        close(one);
        int three = openat(AT_FDCWD, image, O_RDONLY | O_CLOEXEC);
        close(two);
        close(three);
        int four = creat("new.img", 0600);
        close(four);
        started = true;
    }
    return argument;
}

static void in_the_midst(void)
{
    unsigned seed = 1;
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        started = false;
        pthread_create(&thread, NULL, loop, NULL);
        while (!started) usleep(10);
        usleep(rand_r(&seed) % 200);
        pthread_cancel(thread);
        cancelled(thread);
        /* The thread has lost what it had open. */
        closefrom(3);
        check_lock("free", "cancellation %d", i);
    }
    check(private_descriptor() < 0, "a private descriptor is left");
}

/* With a cancellation pending, bare open opens nothing and bare close closes nothing. */
static void *open_cancelled(void *argument)
{
    pthread_cancel(pthread_self());
    descriptor = open(image, O_RDWR);
    return argument;
}

static void *create_cancelled(void *argument)
{
    pthread_cancel(pthread_self());
    descriptor = open("other.img", O_RDWR | O_CREAT | O_TRUNC, 0600);
    return argument;
}

static void *fopen_cancelled(void *argument)
{
    pthread_cancel(pthread_self());
    descriptor = fileno(fopen(image, "r+"));
    return argument;
}

static void *close_cancelled(void *argument)
{
    pthread_cancel(pthread_self());
    close(*(int *)argument);
    return NULL;
}

static void *copy_cancelled(void *argument)
{
    pthread_cancel(pthread_self());
    int copy = dup(*(int *)argument);
    copy = dup2(copy, 40);
    fcntl(copy, F_SETFD, FD_CLOEXEC);
    pthread_testcancel();
    return NULL;
}

static void *close_shielded(void *argument)
{
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cancel(pthread_self());
    int one = open(image, O_RDWR);
    check(one >= 0 && close(one) == 0, "calls of a thread that may not be cancelled");
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_testcancel();
    return argument;
}

static void run_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    pthread_create(&thread, NULL, run, argument);
    cancelled(thread);
}

static void show_descriptors(void)
{
    printf("open:");
    for (int number = 0; number < 5000; number++)
        if (fcntl(number, F_GETFD) >= 0) printf(" %d", number);
    putchar('\n');
}

static void pending(void)
{
    run_thread(open_cancelled, NULL);
    show_descriptors();
    check_lock("free", "open with a cancellation pending");
    run_thread(create_cancelled, NULL);
    show_descriptors();
    printf("created %d\n", access("other.img", F_OK));
    run_thread(fopen_cancelled, NULL);
    show_descriptors();
    closefrom(3);
    check_lock("free", "fopen with a cancellation pending");
    int one = open(image, O_RDWR);
    run_thread(close_cancelled, &one);
    show_descriptors();
    check_lock("exclusive", "close with a cancellation pending");
    run_thread(copy_cancelled, &one);
    show_descriptors();
    check_lock("exclusive", "dup with a cancellation pending");
    run_thread(close_shielded, NULL);
    show_descriptors();
    close(one);
    check_lock("exclusive", "copies of a thread that is gone are left");
    closefrom(3);
    show_descriptors();
    check_lock("free", "all is closed");
}

static void *wait_for_lock(void *argument)
{
    started = true;
    descriptor = open(image, *(int *)argument);
    return NULL;
}

/* Another process holds the image, and IMGLOCK_WAIT says to wait. */
static void while_waiting(void)
{
    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        int before = open_descriptors();
        started = false;
        pthread_create(&thread, NULL, wait_for_lock, &(int){i % 2 ? O_RDWR : O_RDONLY});
        while (!started) usleep(100);
        usleep(i < 2 ? 0 : 100000);
        pthread_cancel(thread);
        cancelled(thread);
        check(descriptor == -1, "the image is open");
        check(open_descriptors() == before, "%d descriptors, and %d before", open_descriptors(), before);
        check(strcmp(lock_state_at(getenv("LOCK_FILE"), 2, 1), "free") == 0, "the gate is closed");
    }
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"midst", in_the_midst},
        {"pending", pending},
        {"wait", while_waiting},
    };
    if (argc != 3) return 2;
    image = argv[2];
    closefrom(3); /* whatever the test runner left open */
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
