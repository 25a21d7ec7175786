/* lateness.c: lateness: prints by how many milliseconds the latest of 20 sleeps of 10 ms came to its end too late. */
#include <stdio.h>
#include <time.h>

int main(void)
{
    enum { SLEEPS = 20, NAP_NS = 10 * 1000 * 1000 };
    const struct timespec nap = {.tv_nsec = NAP_NS};
    long latest = 0;
    for (int i = 0; i < SLEEPS; i++) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        nanosleep(&nap, NULL);
        clock_gettime(CLOCK_MONOTONIC, &after);
        const long late = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec - NAP_NS;
        if (late > latest) latest = late;
    }
    printf("%ld\n", latest / 1000000);
    return 0;
}
