/* check.h: what the test programs share.
 *
 * A program checks many things and reports each that is wrong on stderr; checked() is its exit status.  The lock is
 * asked for through an open file description of our own, which sees the library's lock as any other process does. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int checks_failed;

__attribute__((format(printf, 2, 3), unused)) static bool check(bool good, const char *format, ...)
{
    if (good) return true;
    int saved = errno;
    va_list arguments;
    checks_failed++;
    va_start(arguments, format);
    fputs("wrong: ", stderr);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (errno %d)\n", saved);
    va_end(arguments);
    errno = saved;
    return false;
}

__attribute__((unused)) static int checked(void)
{
    if (checks_failed) fprintf(stderr, "%d wrong\n", checks_failed);
    return checks_failed ? 1 : 0;
}

/* The range in which relatives lock beside a holder. */
enum { RELATIVES_START = 1 << 20, RELATIVES_LENGTH = 1 << 22 };

/* Does somebody else have a lock there that excludes this type? */
__attribute__((unused)) static bool is_excluded(int descriptor, short type, int start, int length)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(descriptor, F_OFD_GETLK, &range) < 0) {
        perror("F_OFD_GETLK");
        exit(2);
    }
    return range.l_type != F_UNLCK;
}

/* What others see of these bytes: "free", "shared" or "exclusive". */
__attribute__((unused)) static const char *lock_state_at(const char *lock_file, int start, int length)
{
    struct rlimit limit, raised;
    int saved = errno;
    /* A test that has come to its limit can still look. */
    getrlimit(RLIMIT_NOFILE, &limit);
    raised = (struct rlimit){limit.rlim_max, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &raised);
    int descriptor = open(lock_file, O_RDONLY | O_CLOEXEC);
    setrlimit(RLIMIT_NOFILE, &limit);
    if (descriptor < 0 && errno == ENOENT) {
        errno = saved;
        return "free";
    }
    if (descriptor < 0) {
        perror(lock_file);
        exit(2);
    }
    const char *state = is_excluded(descriptor, F_RDLCK, start, length)   ? "exclusive"
                        : is_excluded(descriptor, F_WRLCK, start, length) ? "shared"
                                                                          : "free";
    close(descriptor);
    errno = saved;
    return state;
}

/* What others see of the lock: bytes 0-1, and those of relatives. */
__attribute__((unused)) static const char *lock_state(const char *lock_file)
{
    const char *lock = lock_state_at(lock_file, 0, 2);
    const char *beside = lock_state_at(lock_file, RELATIVES_START, RELATIVES_LENGTH);
    return strcmp(lock, "exclusive") == 0 || strcmp(beside, "free") == 0 ? lock : beside;
}

/* Checks the lock of the image; LOCK_FILE names its lock file.  Without LOCK_FILE the program runs bare, to show what
 * it does then, and there is nothing to check. */
__attribute__((format(printf, 2, 3), unused)) static void check_lock(const char *expected, const char *format, ...)
{
    const char *lock_file = getenv("LOCK_FILE");
    if (!lock_file) return;
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    const char *state = lock_state(lock_file);
    check(strcmp(state, expected) == 0, "%s: the lock is %s, not %s", what, state, expected);
}

/* The same, once a process that is no child of ours has ended: waits for it. */
__attribute__((unused)) static void await_free_lock(const char *after)
{
    const char *lock_file = getenv("LOCK_FILE");
    for (int i = 0; lock_file && i < 12000 && strcmp(lock_state(lock_file), "free") != 0; i++) usleep(10000);
    check_lock("free", "%s", after);
}

/* The number of imglock's next descriptor for a lock file from this one on, or -1. */
__attribute__((unused)) static int private_descriptor_from(int number)
{
    for (; number < 9000; number++) {
        char link[64];
        char path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", number);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length <= 0) continue;
        path[length] = '\0';
        if (strstr(path, "/.qemu-") && strstr(path, ".lock")) return number;
    }
    return -1;
}

/* The first one: for tests that aim at it. */
__attribute__((unused)) static int private_descriptor(void)
{
    return private_descriptor_from(3);
}

struct test_case {
    const char *name;
    void (*run)(void);
};

/* Runs the case of that name, or says which there are. */
__attribute__((unused)) static void run_case(const struct test_case *cases, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(cases[i].name, name) == 0) {
            cases[i].run();
            return;
        }
    fprintf(stderr, "no case called %s; there are:", name);
    for (size_t i = 0; i < count; i++) fprintf(stderr, " %s", cases[i].name);
    fputc('\n', stderr);
    exit(2);
}

/* How many descriptors are open, imglock's among them.  noinline: called beside sigsetjmp. */
__attribute__((noinline, unused)) static int open_descriptors(void)
{
    int count = 0, watchers = 0;
    for (int number = 0; number < 8192; number++) {
        char link[64], path[32] = "";
        snprintf(link, sizeof link, "/proc/self/fd/%d", number);
        if (readlink(link, path, sizeof path - 1) < 0) continue;
        /* One, out of the program's way, is kept for the next wait. */
        if (strcmp(path, "anon_inode:inotify") == 0 && number >= 64 && watchers++ == 0) continue;
        count++;
    }
    return count;
}

#endif
