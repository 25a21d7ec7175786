/* status_turns.c: status_turns PROCESSES IMAGE: until the input ends, the processes open the image for writing, look
 * whether another one has it too, close it and rest for a moment, so that its lock is idle again and again.  Says
 * "acquisitions N, refusals N, violations N"; the status is 0 when there was no violation. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct {
    atomic_int inside, acquisitions, refusals, violations;
    atomic_bool stop;
} * shared;

static void take_turns(const char *image)
{
    unsigned seed = (unsigned)getpid();
    while (!atomic_load(&shared->stop)) {
        int descriptor = open(image, O_RDWR);
        if (descriptor < 0) {
            atomic_fetch_add(&shared->refusals, 1);
        } else {
            if (atomic_fetch_add(&shared->inside, 1) != 0) atomic_fetch_add(&shared->violations, 1);
            atomic_fetch_add(&shared->acquisitions, 1);
            sched_yield();
            atomic_fetch_sub(&shared->inside, 1);
            close(descriptor);
        }
        struct timespec rest = {.tv_nsec = rand_r(&seed) % 500000};
        nanosleep(&rest, NULL);
    }
}

int main(int argc, char **argv)
{
    char byte;
    if (argc != 3) return 2;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 2;
    for (int i = atoi(argv[1]); i > 0; i--) {
        pid_t child = fork();
        if (child < 0) return 2;
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            take_turns(argv[2]);
            _exit(0);
        }
    }
    while (read(0, &byte, 1) > 0) continue;
    atomic_store(&shared->stop, true);
    while (wait(NULL) > 0) continue;
    printf("acquisitions %d, refusals %d, violations %d\n", shared->acquisitions, shared->refusals, shared->violations);
    return shared->violations != 0;
}
