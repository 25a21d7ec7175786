/* lock_churn.c: lock_churn FILE: locks sixty bytes of a file one after the other, lets go of all at once, and so on
 * until it is killed.  Says "ready" when it has begun.  What reads /proc/locks meanwhile meets a list that changes
 * between two pages. */
#include <fcntl.h>
#include <stdio.h>

enum { BYTES = 60, ROUNDS_FIRST = 10 };

int main(int argc, char **argv)
{
    const int descriptor = argc == 2 ? open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (descriptor < 0) {
        fprintf(stderr, "usage: lock_churn FILE\n");
        return 2;
    }
    for (unsigned round = 0;; round++) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
        for (lock.l_start = 0; lock.l_start < 2 * BYTES; lock.l_start += 2)
            if (fcntl(descriptor, F_OFD_SETLK, &lock) < 0) return 1;
        if (round == ROUNDS_FIRST) {
            puts("ready");
            fflush(stdout);
        }
        lock = (struct flock){.l_type = F_UNLCK, .l_whence = SEEK_SET};
        if (fcntl(descriptor, F_OFD_SETLK, &lock) < 0) return 1;
    }
}
