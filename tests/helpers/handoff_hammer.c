/* handoff_hammer.c: handoff_hammer IMAGE: opens the image for reading and for writing, again and again, until SIGTERM;
 * then prints how often it tried and how often it got in.  Says "ready" after the hundredth try. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void end(int number)
{
    (void)number;
    ended = 1;
}

int main(int argc, char **argv)
{
    long tries = 0, successes = 0;
    if (argc != 2) return 2;
    struct sigaction action = {.sa_handler = end, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    while (!ended) {
        int descriptor = open(argv[1], (tries & 1 ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        if (descriptor >= 0) {
            successes++;
            close(descriptor);
        }
        if (++tries == 100) {
            puts("ready");
            fflush(stdout);
        }
    }
    printf("%ld %ld\n", tries, successes);
    return 0;
}
