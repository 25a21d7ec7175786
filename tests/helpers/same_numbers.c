/* same_numbers.c: same_numbers CASE IMAGE: threads and vfork children that use the same descriptor numbers. */
// link: -pthread
#include "check.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../../shim/sys.h"

#ifndef SYS_dup2
#define SYS_dup2 SYS_dup3
#endif

static const char *image;
static _Atomic bool done;
static int target;

/* Another file, onto imglock's own number again and again. */
static void *take_number(void *data)
{
    while (!done) {
        dup2(*(int *)data, target);
        close(target);
    }
    return NULL;
}

/* While another thread takes the number that imglock's descriptor is about to get. */
static void stolen(void)
{
    enum { OPENS = 2000, SIZE = 5 };
    pthread_t thief;
    int data = open("data.txt", O_RDWR | O_CREAT | O_TRUNC, 0600);
    check(write(data, "data\n", SIZE) == SIZE, "data");
    int descriptor = open(image, O_RDWR);
    target = private_descriptor();
    close(descriptor);
    check(pthread_create(&thief, NULL, take_number, &data) == 0, "a thread");
    for (int i = 0; i < OPENS && !checks_failed; i++) {
        descriptor = open(image, O_RDWR);
        check(descriptor >= 0, "open %d", i);
        check_lock("exclusive", "open %d", i);
        close(descriptor);
        check_lock("free", "close %d", i);
    }
    done = true;
    pthread_join(thief, NULL);
    check(lseek(data, 0, SEEK_END) == SIZE, "imglock's record is in the program's file");
}

enum { NUMBERS = 4, FIRST_NUMBER = 50, COPIES = 20000 };

static void *copy_to_numbers(void *descriptor)
{
    for (unsigned i = 0; i < COPIES; i++) {
        dup2(*(int *)descriptor, FIRST_NUMBER + (int)(i % NUMBERS));
        if (i % 3 == 0) close(FIRST_NUMBER + (int)((i / 3) % NUMBERS));
    }
    return NULL;
}

/* Two threads that copy the image to the same numbers. */
static void shared(void)
{
    pthread_t other;
    int descriptor = open(image, O_RDWR);
    check(pthread_create(&other, NULL, copy_to_numbers, &descriptor) == 0, "a thread");
    copy_to_numbers(&descriptor);
    pthread_join(other, NULL);
    check_lock("exclusive", "it is open");
    for (int i = 0; i < NUMBERS; i++) close(FIRST_NUMBER + i);
    close(descriptor);
    check_lock("free", "all is closed");
}

static void *wait_forever(void *unused)
{
    for (;;) pause();
    return unused;
}

/* A vfork child of a program with threads copies the image to a high number, and something onto imglock's own. */
static void vforked(void)
{
    enum { HIGH = 600 };
    pthread_t idle;
    check(pthread_create(&idle, NULL, wait_forever, NULL) == 0, "a thread");
    for (int way = 0; way < 2; way++) {
        volatile int descriptor = open(image, O_RDWR | O_CLOEXEC);
        target = private_descriptor();
        pid_t child = vfork();
        if (child == 0) {
            dup2(way ? 0 : descriptor, way ? target : HIGH);
            _exit(0);
        }
        waitpid(child, NULL, 0);
        check_lock("exclusive", "the child has ended, way %d", way);
        close(descriptor);
        check_lock("free", "the image is closed, way %d", way);
        check(private_descriptor() < 0, "nothing of imglock's is left, way %d", way);
    }
}

/* A connection that has to be closed with unsent data in it, which takes a second. */
static int slow_to_close(void)
{
    static char bytes[1 << 20];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const struct linger linger = {1, 1};
    const int small = 4096;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int end = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    check(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0 &&
              getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
              connect(end, (struct sockaddr *)&address, size) == 0,
          "a connection");
    while (send(end, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
    setsockopt(end, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    return end;
}

static _Atomic pid_t replacing;

static void *replace(void *data)
{
    replacing = sys_gettid();
    dup2(*(int *)data, target);
    done = true;
    return NULL;
}

/* Is the thread in this system call? */
static bool is_in(pid_t thread, long number)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
    int file = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    sys_read(file, text, sizeof text - 1);
    sys_close(file);
    return atol(text) == number;
}

/* An image is opened while another thread's dup2 waits for what it closes. */
static void slow(void)
{
    pthread_t thread;
    int data = open("data.txt", O_RDWR | O_CREAT, 0600);
    int end = slow_to_close();
    target = fcntl(end, F_DUPFD, 600);
    close(end);
    check(pthread_create(&thread, NULL, replace, &data) == 0, "a thread");
    while (!replacing || (!done && !is_in(replacing, SYS_dup2))) continue;
    int descriptor = open(image, O_RDWR);
    check(descriptor >= 0 && !done, "the open waited for another thread's dup2");
    pthread_join(thread, NULL);
    close(descriptor);
}

/* A call that imglock cannot see closes its descriptor, and another image's gets the number. */
static void taken(void)
{
    int other = open("other.img", O_RDWR | O_CREAT, 0600);
    sys_close(private_descriptor());
    int descriptor = open(image, O_RDWR);
    check_lock("exclusive", "it is open");
    close(other);
    check_lock("exclusive", "the other image is closed");
    close(descriptor);
    check_lock("free", "it is closed");
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"stolen", stolen}, {"shared", shared}, {"vforked", vforked}, {"slow", slow}, {"taken", taken}};
    if (argc != 3) return 2;
    image = argv[2];
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
