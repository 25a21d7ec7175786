/* outsiders_left.c: outsiders_left FLAGS IMAGE: what an open leaves behind for the program to find: owner and signal of
 * the descriptor, signals pending, its number, flags and position.  The same bare and wrapped. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t signals;

static void note(int number)
{
    (void)number;
    signals++;
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    for (int number = 1; number < 32; number++) signal(number, note);
    const int descriptor = open(argv[2], (int)strtol(argv[1], NULL, 8));
    if (descriptor < 0) {
        perror(argv[2]);
        return 1;
    }
    struct f_owner_ex owner = {0};
    fcntl(descriptor, F_GETOWN_EX, &owner);
    printf("descriptor %d flags %o close-on-exec %d position %ld\n", descriptor, fcntl(descriptor, F_GETFL),
           fcntl(descriptor, F_GETFD), (long)lseek(descriptor, 0, SEEK_CUR));
    printf("owner %d signal %d lease %d signals %d\n", owner.pid, fcntl(descriptor, F_GETSIG),
           fcntl(descriptor, F_GETLEASE), (int)signals);
    return 0;
}
