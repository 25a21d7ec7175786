/* runner.c: does one operation as often as it is told, and says how long that took.
 *
 *     runner OPERATION [ARGUMENT...]
 *
 * Each line of the standard input is a count; for each there is a line with the nanoseconds.  So one process can be
 * asked for many small batches, and two of them, one with a library and one without, in turn.
 *
 * The subjects call libc, as programs do.  The floors make the same system calls themselves and nothing else, so they
 * are what no library can be faster than. */
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../shim/sys.h"

static void die(const char *what)
{
    fprintf(stderr, "runner: %s: %s\n", what, strerror(errno));
    exit(1);
}

static long must(long result, const char *what)
{
    if (result >= 0) return result;
    errno = result < -1 ? (int)-result : errno;
    die(what);
    return -1;
}

/* By the system call: libfaketime changes libc's clock. */
static long long now(void)
{
    struct timespec time;
    sys_clock(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* ---- subjects: by libc ---------------------------------------------------------------------------------------- */

static void open_read(char **arguments)
{
    close((int)must(open(arguments[0], O_RDONLY | O_CLOEXEC), arguments[0]));
}

static void open_write(char **arguments)
{
    close((int)must(open(arguments[0], O_RDWR | O_CLOEXEC), arguments[0]));
}

static void duplicate(char **arguments)
{
    (void)arguments;
    close(dup(0));
}

static void control(char **arguments)
{
    (void)arguments;
    fcntl(0, F_GETFL);
}

static void close_bad(char **arguments)
{
    (void)arguments;
    close(1000);
}

/* A program from start to end.  $PRELOAD is its LD_PRELOAD; this process itself stays without. */
static void start_program(char **arguments)
{
    extern char **environ;
    pid_t pid;
    errno = posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ);
    if (errno) die(arguments[0]);
    int status;
    must(waitpid(pid, &status, 0), "waitpid");
    if (status != 0) die(arguments[0]);
}

/* ---- floors: by hand ------------------------------------------------------------------------------------------ */

/* What telling an image by its content takes: is it a regular file, of which size; its first bytes. */
static void look_by_hand(char **arguments)
{
    char bytes[2048];
    struct stat status;
    int file = (int)must(sys_openat(AT_FDCWD, arguments[0], O_RDONLY | O_CLOEXEC, 0), arguments[0]);
    sys_fstat(file, &status);
    sys_pread(file, bytes, sizeof bytes, 0);
    sys_close(file);
}

static void lock_byte(int descriptor, int command, short type, long start, long length)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    must(sys_fcntl(descriptor, command, (long)&range), "lock");
}

/* In a crowd each process needs a slot of its own. */
static int crowd_index;

/* A slot that nobody has, at or below this one; looked for once. */
static long free_slot(int lock, long slot)
{
    static long found = -1;
    for (slot += crowd_index; found < 0 && slot >= 0; slot--) {
        struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1024 + slot, .l_len = 1};
        must(sys_fcntl(lock, F_OFD_GETLK, (long)&range), "lock");
        if (range.l_type == F_UNLCK) found = slot;
    }
    return found;
}

/* How much of it: the lock's own calls; with what has to be asked about the image; with the lock's descriptor at a high
 * number, as the contract has it, so that the program's next open gets the number that it gets without us. */
enum extent { LOCK_ALONE, LOW_NUMBER, WHOLE };

/* An image's open and close with its lock, by hand: IMAGE LOCKFILE SLOT, the last where to look for a free one. */
static void image_by_hand(char **arguments, bool writing, enum extent extent)
{
    enum { HIGH = 768 };
    const bool whole = extent != LOCK_ALONE;
    char link[32], path[PATH_MAX], record[256];
    struct stat image_status, lock_status, named;
    const short type = writing ? F_WRLCK : F_RDLCK;
    /* The program's own call. */
    int image =
        (int)must(sys_openat(AT_FDCWD, arguments[0], (writing ? O_RDWR : O_RDONLY) | O_CLOEXEC, 0), arguments[0]);
    if (whole) {
        /* Regular or a block device; its device and inode, for the comparison below. */
        sys_fstat(image, &image_status);
        /* The real path names the lock.  One call where realpath(3) makes one a component. */
        snprintf(link, sizeof link, "/proc/self/fd/%d", image);
        path[must(sys_readlinkat(AT_FDCWD, link, path, sizeof path - 1), link)] = '\0';
    }
    /* The directory is world-writable: no symbolic link, no FIFO, no terminal. */
    int lock =
        (int)must(sys_openat(AT_FDCWD, arguments[1], O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0),
                  arguments[1]);
    /* The lock. */
    lock_byte(lock, F_OFD_SETLK, type, 0, 2);
    /* A holder's descendants lock these bytes; every other opener looks whether there are any. */
    if (whole) lock_byte(lock, F_OFD_GETLK, type, 4, 12);
    /* Is what was locked still what the name stands for?  Else two processes lock two files. */
    sys_fstat(lock, &lock_status);
    must(sys_fstatat(AT_FDCWD, arguments[1], &named, AT_SYMLINK_NOFOLLOW), arguments[1]);
    if (named.st_ino != lock_status.st_ino) die("the lock file was replaced");
    if (extent == WHOLE) {
        int low = lock;
        lock = (int)must(sys_fcntl(low, F_DUPFD_CLOEXEC, HIGH), "a high number");
        sys_close(low);
    }
    /* Claimed exclusively, so that the old record does not count; the record; then shared: from here on it counts. */
    const long slot = free_slot(lock, atol(arguments[2]));
    lock_byte(lock, F_OFD_SETLK, F_WRLCK, 1024 + slot, 1);
    memset(record, '.', sizeof record);
    must(sys_pwrite(lock, record, sizeof record, 4096 + slot * (long)sizeof record), "record");
    lock_byte(lock, F_OFD_SETLK, F_RDLCK, 1024 + slot, 1);
    /* Cleaners delete what is older than 30 days: the record has renewed the times of change, and the time of access is
     * renewed when it is an hour old. */
    /* Has the image been renamed or replaced since its open?  Then another path's lock is held. */
    if (whole) {
        must(sys_fstatat(AT_FDCWD, path, &named, AT_SYMLINK_NOFOLLOW), path);
        if (named.st_ino != image_status.st_ino) die("the image was replaced");
    }
    /* The lock goes after the image, and with its descriptor. */
    sys_close(image);
    sys_close(lock);
}

static void write_by_hand(char **arguments)
{
    image_by_hand(arguments, true, WHOLE);
}

static void write_by_hand_low(char **arguments)
{
    image_by_hand(arguments, true, LOW_NUMBER);
}

static void read_by_hand(char **arguments)
{
    image_by_hand(arguments, false, WHOLE);
}

static void write_lock_by_hand(char **arguments)
{
    image_by_hand(arguments, true, LOCK_ALONE);
}

/* ---- operations ----------------------------------------------------------------------------------------------- */

static const struct operation {
    const char *name;
    int arguments;
    void (*act)(char **arguments);
} operations[] = {
    {"open", 1, open_read},
    {"open-write", 1, open_write},
    {"dup", 0, duplicate},
    {"fcntl", 0, control},
    {"close-bad", 0, close_bad},
    {"start", 1, start_program},
    {"look-by-hand", 1, look_by_hand},
    {"write-by-hand", 3, write_by_hand},
    {"write-by-hand-low", 3, write_by_hand_low},
    {"read-by-hand", 3, read_by_hand},
    {"write-lock-by-hand", 3, write_lock_by_hand},
};

static const struct operation *find_operation(int count, char **words)
{
    for (size_t i = 0; count && i < sizeof operations / sizeof *operations; i++)
        if (strcmp(words[0], operations[i].name) == 0 && operations[i].arguments == count - 1) return &operations[i];
    fprintf(stderr, "runner: %s: no such operation, or not its arguments\n", count ? words[0] : "");
    exit(2);
}

static void repeat(const struct operation *operation, long count, char **arguments)
{
    while (count-- > 0) operation->act(arguments);
}

/* ---- several at once ------------------------------------------------------------------------------------------ */

/* count processes that do the operation at the same time, as often as each line says. */
static long long crowd(int processes, const struct operation *operation, char **arguments, long count)
{
    static int start[2], end[2], started;
    char byte = 0;
    if (!started++) {
        must(pipe2(start, O_CLOEXEC), "pipe");
        must(pipe2(end, O_CLOEXEC), "pipe");
        for (crowd_index = 0; crowd_index < processes; crowd_index++) {
            if (must(fork(), "fork")) continue;
            close(start[1]);
            close(end[0]);
            long times;
            while (read(start[0], &times, sizeof times) == (ssize_t)sizeof times) {
                repeat(operation, times, arguments);
                must(write(end[1], &byte, 1), "write");
            }
            _exit(0);
        }
        close(start[0]);
        close(end[1]);
    }
    long long before = now();
    for (int i = 0; i < processes; i++) must(write(start[1], &count, sizeof count), "write");
    for (int i = 0; i < processes; i++)
        if (read(end[0], &byte, 1) != 1) die("one of the crowd ended");
    return now() - before;
}

/* Opens count images of a directory, all at once, then closes them all. */
static long long many(const char *directory, long count)
{
    static int descriptors[100000];
    char path[PATH_MAX];
    if (count > (long)(sizeof descriptors / sizeof *descriptors)) exit(2);
    long long before = now();
    for (long i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%ld.qcow2", directory, i);
        descriptors[i] = (int)must(open(path, O_RDWR | O_CLOEXEC), path);
    }
    for (long i = 0; i < count; i++) close(descriptors[i]);
    return now() - before;
}

/* count processes that keep the image open for reading until the standard input ends. */
static void hold(int count, const char *path)
{
    int ready[2];
    char byte = 0;
    must(pipe2(ready, O_CLOEXEC), "pipe");
    for (int i = 0; i < count; i++) {
        if (must(fork(), "fork")) continue;
        must(open(path, O_RDONLY | O_CLOEXEC), path);
        must(write(ready[1], &byte, 1), "write");
        while (read(0, &byte, 1) > 0) continue;
        _exit(0);
    }
    close(ready[1]);
    for (int i = 0; i < count; i++)
        if (read(ready[0], &byte, 1) != 1) die("a holder ended");
    puts("ready");
    fflush(stdout);
    while (read(0, &byte, 1) > 0) continue;
    while (wait(NULL) > 0) continue;
}

/* ---- main ----------------------------------------------------------------------------------------------------- */

static void raise_limit(void)
{
    struct rlimit limit = {65536, 65536};
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int count, char **words)
{
    char line[32];
    const bool is_many = count == 3 && strcmp(words[1], "many") == 0;
    const bool is_crowd = count > 3 && strcmp(words[1], "crowd") == 0;
    if (count == 4 && strcmp(words[1], "hold") == 0) {
        hold(atoi(words[2]), words[3]);
        return 0;
    }
    const int first = is_crowd ? 3 : 1;
    const struct operation *operation = is_many ? NULL : find_operation(count - first, words + first);
    if (is_many) raise_limit();
    if (getenv("PRELOAD")) setenv("LD_PRELOAD", getenv("PRELOAD"), 1);
    while (fgets(line, sizeof line, stdin)) {
        const long times = atol(line);
        long long took;
        if (is_many) {
            took = many(words[2], times);
        } else if (is_crowd) {
            took = crowd(atoi(words[2]), operation, words + first + 1, times);
        } else {
            long long before = now();
            repeat(operation, times, words + first + 1);
            took = now() - before;
        }
        printf("%lld\n", took);
        fflush(stdout);
    }
    return 0;
}
