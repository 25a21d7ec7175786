/* lock_race.c: lock_race LOCK-FILE IMAGE PROCESSES ACQUISITIONS: that many processes open and close the image until
 * they had it that often in all, while the lock file is deleted all the time by those who may: every second owner
 * deletes it before it closes, and one more process does what "imglock gc" does.  A counter in shared memory says how
 * many are inside at once.  Prints "acquisitions N, violations N, deletions N"; the status is 0 when there was no
 * violation.
 *
 * Run it with the library, and with IMGLOCK_WAIT=forever, so that nobody spins. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    atomic_int inside, left, violations, deletions, failures;
} * shared;

static const char *lock_file;

static void delete_lock_file(void)
{
    if (unlink(lock_file) == 0) atomic_fetch_add(&shared->deletions, 1);
}

static void acquire(const char *image)
{
    for (int left; (left = atomic_fetch_sub(&shared->left, 1)) > 0;) {
        int descriptor = open(image, O_RDWR);
        if (descriptor < 0) {
            perror(image);
            atomic_fetch_add(&shared->failures, 1);
            return;
        }
        if (atomic_fetch_add(&shared->inside, 1) != 0) atomic_fetch_add(&shared->violations, 1);
        sched_yield();
        /* Who deletes the lock file is inside no longer: from that moment on another may be. */
        atomic_fetch_sub(&shared->inside, 1);
        if (left % 2) delete_lock_file();
        close(descriptor);
    }
}

/* Deletes the lock file while it is idle, by the rules: with the exclusive lock, after a look at the inode. */
static void collect(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (atomic_load(&shared->left) > 0) {
        struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 2};
        struct stat opened, named;
        int descriptor = open(lock_file, O_RDWR);
        if (descriptor >= 0 && fcntl(descriptor, F_OFD_SETLK, &range) == 0 && fstat(descriptor, &opened) == 0 &&
            stat(lock_file, &named) == 0 && opened.st_ino == named.st_ino)
            delete_lock_file();
        if (descriptor >= 0) close(descriptor);
        sched_yield();
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) return 2;
    lock_file = argv[1];
    int processes = atoi(argv[3]);
    int acquisitions = atoi(argv[4]);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 2;
    atomic_store(&shared->left, acquisitions);
    for (int i = 0; i <= processes; i++) {
        pid_t child = fork();
        if (child < 0) return 2;
        if (child == 0) {
            if (i == processes)
                collect();
            else
                acquire(argv[2]);
            _exit(0);
        }
    }
    while (wait(NULL) > 0 || errno == EINTR) continue;
    printf("acquisitions %d, violations %d, deletions %d\n", acquisitions, atomic_load(&shared->violations),
           atomic_load(&shared->deletions));
    return atomic_load(&shared->violations) || atomic_load(&shared->failures) ? 1 : 0;
}
