/* lock_stream.c: lock_stream IMAGE READERS: that many processes open the image for reading, keep it for 20 ms, and
 * close it, over and over, so that there is hardly a moment without a reader.  Says "ready" when every one of them has
 * had it; ends when its input does. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void read_over_and_over(const char *image, int ready)
{
    const struct timespec use = {.tv_nsec = 20 * 1000 * 1000};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int round = 0;; round++) {
        int descriptor = open(image, O_RDONLY);
        if (descriptor < 0) _exit(1);
        nanosleep(&use, NULL);
        if (round == 0 && write(ready, "", 1) != 1) _exit(1);
        close(descriptor);
    }
}

int main(int argc, char **argv)
{
    int ready[2];
    char byte;
    if (argc != 3 || pipe(ready) < 0) return 2;
    int readers = atoi(argv[2]);
    pid_t children[64];
    if (readers < 1 || readers > 64) return 2;
    for (int i = 0; i < readers; i++) {
        children[i] = fork();
        if (children[i] < 0) return 2;
        if (children[i] == 0) read_over_and_over(argv[1], ready[1]);
    }
    close(ready[1]);
    for (int i = 0; i < readers; i++)
        if (read(ready[0], &byte, 1) != 1) return 1;
    if (write(1, "ready\n", 6) != 6) return 1;
    while (read(0, &byte, 1) > 0) continue;
    for (int i = 0; i < readers; i++) kill(children[i], SIGKILL);
    while (wait(NULL) > 0) continue;
    return 0;
}
