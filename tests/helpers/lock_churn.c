/* lock_churn.c: lock_churn FILE [BYTES [QUEUE]]: locks sixty bytes of a file one after the other, lets go of all at
 * once, and so on until it is killed; and so many more processes wait for one byte, have it, and wait again.  Says
 * "ready" when it has begun.  What reads /proc/locks meanwhile meets a list that changes between two pages. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { ROUNDS_FIRST = 10 };

static void queue(const char *name)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1000000, .l_len = 1};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int descriptor = open(name, O_RDWR | O_CLOEXEC);
    for (;; lock.l_type = lock.l_type == F_UNLCK ? F_WRLCK : F_UNLCK)
        if (fcntl(descriptor, F_OFD_SETLKW, &lock) < 0) exit(1);
}

int main(int argc, char **argv)
{
    const int bytes = argc > 2 ? atoi(argv[2]) : 60, waiting = argc > 3 ? atoi(argv[3]) : 0;
    const int descriptor = argc > 1 ? open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (descriptor < 0) {
        fprintf(stderr, "usage: lock_churn FILE [BYTES [QUEUE]]\n");
        return 2;
    }
    for (int i = 0; i < waiting; i++)
        if (fork() == 0) queue(argv[1]);
    for (unsigned round = 0;; round++) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
        for (lock.l_start = 0; lock.l_start < 2 * bytes; lock.l_start += 2)
            if (fcntl(descriptor, F_OFD_SETLK, &lock) < 0) return 1;
        if (round == ROUNDS_FIRST) {
            puts("ready");
            fflush(stdout);
        }
        lock = (struct flock){.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = 2 * bytes};
        if (fcntl(descriptor, F_OFD_SETLK, &lock) < 0) return 1;
    }
}
