/* same_numbers.c: same_numbers stolen|shared IMAGE: threads that use the same descriptor numbers. */
// link: -pthread
#include "check.h"

#include <pthread.h>

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

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {{"stolen", stolen}, {"shared", shared}};
    if (argc != 3) return 2;
    image = argv[2];
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
