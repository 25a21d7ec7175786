// link: -ldl
/* faults.c: faults LIBRARY DIRECTORY: runs one scenario of opens, copies, a fork and closes under the library that
 * makes one of its system calls fail (tests/fault/fault.c), once for every call and every error.
 *
 * After each single failure: an open that failed has a reason in one line, and left no lock; an open that succeeded has
 * its lock, and keeps it until its last descriptor is closed; nothing hangs, and nothing is left at the end. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *lock_path;
static char complaint[256];

/* The lock as another process would find it: 0 free, 1 shared, 2 exclusive.  An open file description of its own sees
 * the locks of the library's. */
static int lock_state(void)
{
    /* This open goes through the library as well, and may be the one that meets the fault. */
    int descriptor = open(lock_path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) descriptor = open(lock_path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return 0;
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 2};
    int state = -1;
    if (fcntl(descriptor, F_OFD_GETLK, &range) == 0)
        state = range.l_type == F_UNLCK ? 0 : range.l_type == F_RDLCK ? 1 : 2;
    close(descriptor);
    return state;
}

static void expect_lock(int least, const char *when)
{
    int state = lock_state();
    if (state < least && !complaint[0])
        snprintf(complaint, sizeof complaint, "%s: lock state %d, not %d", when, state, least);
}

static int scenario(void)
{
    int writing = open("disk.img", O_RDWR);
    if (writing < 0) {
        printf("open failed: %d\n", errno);
        if (lock_state() != 0) printf("complaint: a failed open left a lock\n");
        return 0;
    }
    expect_lock(2, "after open");
    int reading = open("disk.img", O_RDONLY | O_CLOEXEC);
    expect_lock(2, "after a second open");
    int copy = dup(writing);
    expect_lock(2, "after dup");
    close(writing);
    if (copy >= 0) expect_lock(2, "after closing the first of two copies");
    int moved = copy >= 0 ? dup2(copy, 50) : -1;
    if (copy >= 0) close(copy);
    if (moved >= 0) expect_lock(2, "after dup2");
    if (moved >= 0) fcntl(moved, F_SETFD, FD_CLOEXEC);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 3; i < 64; i++) close(i);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    if (moved >= 0) expect_lock(2, "after a child closed everything");
    if (moved >= 0) close(moved);
    if (reading >= 0) expect_lock(1, "after the writer closed");
    if (reading >= 0) close(reading);
    if (lock_state() != 0 && !complaint[0]) snprintf(complaint, sizeof complaint, "the lock is left at the end");
    int created = open("new.qcow2", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (created >= 0) close(created);
    unlink("new.qcow2");
    if (complaint[0]) printf("complaint: %s\n", complaint);
    long (*count)(void) = (long (*)(void))dlsym(RTLD_DEFAULT, "imglock_fault_count");
    printf("calls: %ld\n", count ? count() : -1);
    return 0;
}

/* Runs the scenario with one fault.  Its standard output and standard error into output. */
static int run_once(const char *library, long at, int error, char *output, size_t size)
{
    int ends[2];
    char at_text[24], error_text[12];
    if (pipe(ends) < 0) return -1;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        snprintf(at_text, sizeof at_text, "%ld", at);
        snprintf(error_text, sizeof error_text, "%d", error);
        setenv("FAULT_AT", at_text, 1);
        setenv("FAULT_ERRNO", error_text, 1);
        setenv("LD_PRELOAD", library, 1);
        alarm(300);
        execl("/proc/self/exe", "faults", "scenario", lock_path, NULL);
        _exit(99);
    }
    close(ends[1]);
    size_t have = 0;
    for (ssize_t got; have < size - 1 && (got = read(ends[0], output + have, size - 1 - have)) > 0;)
        have += (size_t)got;
    output[have] = '\0';
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static const char *name_of(int error)
{
    return strerrorname_np(error);
}

int main(int argc, char **argv)
{
    static const int errors[] = {EINTR, EMFILE, ENOSPC, EIO, ENOLCK, ENOMEM};
    char output[4096];
    int failed = 0, refused = 0, runs = 0;
    if (argc == 3 && strcmp(argv[1], "scenario") == 0) {
        lock_path = argv[2];
        return scenario();
    }
    if (argc != 4 || chdir(argv[2]) < 0) return 2;
    lock_path = argv[3];
    if (run_once(argv[1], 0, 0, output, sizeof output) != 0) return 2;
    const char *count = strstr(output, "calls: ");
    long calls = count ? strtol(count + 7, NULL, 10) : 0;
    if (calls < 20 || strstr(output, "complaint")) {
        printf("without a fault: %s\n", output);
        return 1;
    }
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++) {
        for (long at = 1; at <= calls; at++) {
            int status = run_once(argv[1], at, errors[i], output, sizeof output);
            const char *why = NULL;
            runs++;
            if (status != 0) why = "ended badly";
            if (strstr(output, "complaint")) why = "broke a promise";
            if (strstr(output, "open failed")) {
                refused++;
                const char *line = strstr(output, "imglock: ");
                if (!line) why = "an open failed without a line";
            }
            if (lock_state() != 0) why = "a lock is left after the end";
            if (why) {
                failed++;
                printf("%s at call %ld of %ld: %s (status %d): %s\n", name_of(errors[i]), at, calls, why, status,
                       output);
            }
        }
    }
    printf("%d runs, %d opens refused, %d failed\n", runs, refused, failed);
    return failed || !refused;
}
