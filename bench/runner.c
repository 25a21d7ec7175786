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
#include "by_hand.h"

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

/* Of an image that this process has open already. */
static void open_again(char **arguments)
{
    static int image;
    if (!image) image = (int)must(open(arguments[0], O_RDWR | O_CLOEXEC), arguments[0]);
    open_read(arguments);
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

/* Which of the processes of a crowd this is. */
static int crowd_index;

struct hand {
    int image, lock;
    long slot;
};

/* An image's open with its lock, by hand: IMAGE LOCKFILE SLOT, the last where to look for a free one. */
static struct hand open_by_hand(char **arguments, bool writing, enum extent extent)
{
    char record[256];
    memset(record, '.', sizeof record);
    int flags = (writing ? O_RDWR : O_RDONLY) | O_CLOEXEC;
    int image = (int)must(sys_openat(AT_FDCWD, arguments[0], flags, 0), arguments[0]);
    /* In a crowd each process needs a slot of its own. */
    static long slot = -1;
    if (slot < 0) slot = must(by_hand_free_slot(arguments[1], atol(arguments[2]) + crowd_index), "a free slot");
    int lock = (int)must(by_hand_lock(image, arguments[1], writing, slot, record, extent), arguments[1]);
    return (struct hand){image, lock, slot};
}

static void image_by_hand(char **arguments, bool writing, enum extent extent)
{
    const struct hand hand = open_by_hand(arguments, writing, extent);
    sys_close(hand.image);
    sys_close(hand.lock);
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

/* What open_again takes, with and without the server being asked. */
static void again_by_hand(char **arguments, bool ask)
{
    static struct hand hand;
    struct stat status, named;
    char link[32], path[PATH_MAX];
    if (!hand.image) hand = open_by_hand(arguments, true, WHOLE);
    int image = (int)must(sys_openat(AT_FDCWD, arguments[0], O_RDONLY | O_CLOEXEC, 0), arguments[0]);
    /* Which image is it, and has the process its lock still? */
    sys_fstat(image, &status);
    snprintf(link, sizeof link, "/proc/self/fd/%d", image);
    sys_readlinkat(AT_FDCWD, link, path, sizeof path);
    sys_fstat(hand.lock, &status);
    if (ask) by_hand_ask(hand.image, hand.lock, hand.slot);
    by_hand_announce(image, false);
    sys_fstatat(AT_FDCWD, arguments[0], &named, AT_SYMLINK_NOFOLLOW);
    sys_close(image);
}

static void ask_by_hand(char **arguments)
{
    again_by_hand(arguments, true);
}

static void trust_by_hand(char **arguments)
{
    again_by_hand(arguments, false);
}

/* ---- operations ----------------------------------------------------------------------------------------------- */

static const struct operation {
    const char *name;
    int arguments;
    void (*act)(char **arguments);
} operations[] = {
    {"open", 1, open_read},
    {"open-write", 1, open_write},
    {"open-again", 1, open_again},
    {"dup", 0, duplicate},
    {"fcntl", 0, control},
    {"close-bad", 0, close_bad},
    {"start", 1, start_program},
    {"look-by-hand", 1, look_by_hand},
    {"write-by-hand", 3, write_by_hand},
    {"write-by-hand-low", 3, write_by_hand_low},
    {"read-by-hand", 3, read_by_hand},
    {"write-lock-by-hand", 3, write_lock_by_hand},
    {"ask-by-hand", 3, ask_by_hand},
    {"trust-by-hand", 3, trust_by_hand},
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
