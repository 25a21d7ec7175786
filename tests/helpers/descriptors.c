/* descriptors.c: descriptors CASE IMAGE: a lock ends with the last descriptor of the image, and not before.
 *
 * Everything that opens a file, everything that copies a descriptor and everything that closes one, in all
 * combinations; LOCK_FILE names the image's lock file. */
#include "check.h"
#include "symbols.h"

#include <sys/ioctl.h>

static const char *image;

/* ---- everything that opens ------------------------------------------------------------------------------- */

static int open_by_handle(int flags, bool raw)
{
    union {
        struct file_handle handle;
        char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } by = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
    int mount;
    if (name_to_handle_at(AT_FDCWD, image, &by.handle, &mount, 0) < 0) return -1;
    int directory = open(".", O_RDONLY | O_DIRECTORY);
    int descriptor = raw ? (int)syscall(SYS_open_by_handle_at, directory, &by.handle, flags)
                         : open_by_handle_at(directory, &by.handle, flags);
    close(directory);
    /* Root of a user namespace may not. */
    return descriptor < 0 && errno == EPERM ? open(image, flags) : descriptor;
}

/* qemu-user knows the call since 8.2. */
static int or_open(int descriptor, int flags)
{
    return descriptor < 0 && errno == ENOSYS ? open(image, flags) : descriptor;
}

static int open_raw_2(int flags)
{
    struct open_how how = {.flags = (unsigned)flags};
    return or_open((int)syscall(SYS_openat2, AT_FDCWD, image, &how, sizeof how), flags);
}

static int open_2(int flags)
{
    struct open_how how = {.flags = (unsigned)flags};
    return or_open(openat2(AT_FDCWD, image, &how, sizeof how), flags);
}

/* Leaves the descriptor alone, without its stream: as good as fileno(), and closable by close. */
static int opened_stream(FILE *stream)
{
    return stream ? fileno(stream) : -1;
}

static int freopened(FILE *(*by)(const char *, const char *, FILE *))
{
    FILE *stream = fopen("/dev/null", "r");
    return opened_stream(by(image, "r+", stream));
}

#define OPENERS(X)                                                      \
    X(open, open(image, O_RDWR))                                        \
    X(open_cloexec, open(image, O_RDWR | O_CLOEXEC))                    \
    X(open_append, open(image, O_WRONLY | O_APPEND))                    \
    X(open_creat, open(image, O_RDWR | O_CREAT, 0600))                  \
    X(open_trunc, open(image, O_RDWR | O_TRUNC))                        \
    X(open64, open64(image, O_RDWR))                                    \
    X(__open, __open(image, O_RDWR))                                    \
    X(__open64, __open64(image, O_RDWR))                                \
    X(__open_2, __open_2(image, O_RDWR))                                \
    X(__open64_2, __open64_2(image, O_RDWR))                            \
    X(openat, openat(AT_FDCWD, image, O_RDWR))                          \
    X(openat64, openat64(AT_FDCWD, image, O_RDWR))                      \
    X(__openat_2, __openat_2(AT_FDCWD, image, O_RDWR))                  \
    X(__openat64_2, __openat64_2(AT_FDCWD, image, O_RDWR))              \
    X(openat2, open_2(O_RDWR))                                          \
    X(creat, creat(image, 0600))                                        \
    X(creat64, creat64(image, 0600))                                    \
    X(open_by_handle_at, open_by_handle(O_RDWR, false))                 \
    X(fopen, opened_stream(fopen(image, "r+")))                         \
    X(fopen64, opened_stream(fopen64(image, "r+")))                     \
    X(_IO_fopen, opened_stream(_IO_fopen(image, "r+")))                 \
    X(fopen_w, opened_stream(fopen(image, "w")))                        \
    X(fopen_a, opened_stream(fopen(image, "a")))                        \
    X(freopen, freopened(freopen))                                      \
    X(freopen64, freopened(freopen64))                                  \
    X(raw_openat, (int)syscall(SYS_openat, AT_FDCWD, image, O_RDWR, 0)) \
    X(raw_openat2, open_raw_2(O_RDWR))                                  \
    X(raw_open_by_handle_at, open_by_handle(O_RDWR, true))

#ifdef SYS_open
#define OLD_OPENERS(X)                                    \
    X(raw_open, (int)syscall(SYS_open, image, O_RDWR, 0)) \
    X(raw_creat, (int)syscall(SYS_creat, image, 0600))
#else
#define OLD_OPENERS(X)
#endif

#define X(name, expression)        \
    static int opener_##name(void) \
    {                              \
        return expression;         \
    }
OPENERS(X)
OLD_OPENERS(X)
#undef X

static const struct opener {
    const char *name;
    int (*open)(void);
} openers[] = {
#define X(name, expression) {#name, opener_##name},
    OPENERS(X) OLD_OPENERS(X)
#undef X
};

/* ---- everything that copies ------------------------------------------------------------------------------ */

#define COPIERS(X)                                          \
    X(dup, dup(old))                                        \
    X(dup2, dup2(old, 40))                                  \
    X(__dup2, __dup2(old, 40))                              \
    X(dup3, dup3(old, 40, 0))                               \
    X(dup3_cloexec, dup3(old, 40, O_CLOEXEC))               \
    X(fcntl, fcntl(old, F_DUPFD, 20))                       \
    X(fcntl_cloexec, fcntl(old, F_DUPFD_CLOEXEC, 20))       \
    X(fcntl64, fcntl64(old, F_DUPFD, 20))                   \
    X(__fcntl, __fcntl(old, F_DUPFD_CLOEXEC, 20))           \
    X(raw_dup, (int)syscall(SYS_dup, old))                  \
    X(raw_dup3, (int)syscall(SYS_dup3, old, 40, O_CLOEXEC)) \
    X(raw_fcntl, (int)syscall(SYS_fcntl, old, F_DUPFD, 20))

#ifdef SYS_dup2
#define OLD_COPIERS(X) X(raw_dup2, (int)syscall(SYS_dup2, old, 40))
#else
#define OLD_COPIERS(X)
#endif

#ifndef __LP64__
#define NARROW_COPIERS(X) X(__fcntl_time64, (__fcntl_time64 ? __fcntl_time64 : fcntl)(old, F_DUPFD, 20))
#else
#define NARROW_COPIERS(X)
#endif

#define X(name, expression)           \
    static int copier_##name(int old) \
    {                                 \
        return expression;            \
    }
COPIERS(X)
OLD_COPIERS(X)
NARROW_COPIERS(X)
#undef X

static const struct copier {
    const char *name;
    int (*copy)(int);
} copiers[] = {
#define X(name, expression) {#name, copier_##name},
    COPIERS(X) OLD_COPIERS(X) NARROW_COPIERS(X)
#undef X
};

/* ---- everything that closes ------------------------------------------------------------------------------ */

static int null_device; /* replaces what it is copied onto */

static int replaced(int result, int descriptor)
{
    if (result != descriptor) return -1;
    /* The number is still open, on something else: out of the way of the next one. */
    return (int)syscall(SYS_close, descriptor);
}

static int freopen_elsewhere(int descriptor, const char *path)
{
    FILE *stream = fdopen(descriptor, "r+");
    if (!stream) stream = fdopen(descriptor, "a"); /* opened for writing only */
    stream = freopen(path, "r", stream);
    if (!stream) return errno == ENOENT ? 0 : -1;
    check(fileno(stream) == descriptor, "freopen moved %d to %d", descriptor, fileno(stream));
    return fclose(stream);
}

static int fclose_by(int (*by)(FILE *), int descriptor)
{
    FILE *stream = fdopen(descriptor, "r+");
    if (!stream) stream = fdopen(descriptor, "a");
    return by(stream);
}

#define CLOSERS(X)                                                          \
    X(close, close(one))                                                    \
    X(__close, __close(one))                                                \
    X(close_range, close_range((unsigned)one, (unsigned)one, 0))            \
    X(fclose, fclose_by(fclose, one))                                       \
    X(_IO_fclose, fclose_by(_IO_fclose, one))                               \
    X(freopen, freopen_elsewhere(one, "/dev/null"))                         \
    X(freopen_fails, freopen_elsewhere(one, "/nowhere/to/be/found"))        \
    X(dup2, replaced(dup2(null_device, one), one))                          \
    X(__dup2, replaced(__dup2(null_device, one), one))                      \
    X(dup3, replaced(dup3(null_device, one, O_CLOEXEC), one))               \
    X(raw_dup3, replaced((int)syscall(SYS_dup3, null_device, one, 0), one)) \
    X(raw_close, (int)syscall(SYS_close, one))                              \
    X(raw_close_range, (int)syscall(SYS_close_range, one, one, 0))

#define X(name, expression)           \
    static int closer_##name(int one) \
    {                                 \
        return expression;            \
    }
CLOSERS(X)
#undef X

static const struct closer {
    const char *name;
    int (*close)(int);
} closers[] = {
#define X(name, expression) {#name, closer_##name},
    CLOSERS(X)
#undef X
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- the cases ------------------------------------------------------------------------------------------- */

static void every_opener_with_every_closer(void)
{
    for (const struct opener *opener = openers; opener < openers + COUNT(openers); opener++)
        for (const struct closer *closer = closers; closer < closers + COUNT(closers); closer++) {
            if (!libc_has(opener->name)) break;
            int descriptor = opener->open();
            if (!check(descriptor >= 0, "%s gives %d", opener->name, descriptor)) break;
            check_lock("exclusive", "after %s", opener->name);
            int result = closer->close(descriptor);
            check(result == 0, "%s after %s gives %d", closer->name, opener->name, result);
            check_lock("free", "after %s and %s", opener->name, closer->name);
        }
}

/* Copied twice, so that the first and the last to go are copies of copies, too. */
static void every_copier_with_every_closer(void)
{
    for (const struct copier *copier = copiers; copier < copiers + COUNT(copiers); copier++)
        for (const struct closer *closer = closers; closer < closers + COUNT(closers); closer++)
            for (int first = 0; first < 2; first++) {
                int descriptors[2];
                descriptors[0] = open(image, O_RDWR);
                descriptors[1] = copier->copy(descriptors[0]);
                if (!check(descriptors[1] >= 0, "%s gives %d", copier->name, descriptors[1])) break;
                closer->close(descriptors[first]);
                check_lock("exclusive", "%s, %s of the %s", copier->name, closer->name, first ? "copy" : "original");
                closer->close(descriptors[!first]);
                check_lock("free", "%s, %s of both", copier->name, closer->name);
            }
}

static void closefrom_closes_all(void)
{
    int descriptor = open(image, O_RDWR);
    dup2(descriptor, 60);
    dup2(descriptor, 61);
    closefrom(61);
    check_lock("exclusive", "closefrom(61)");
    closefrom(descriptor + 1);
    check_lock("exclusive", "closefrom above the first");
    check(fcntl(60, F_GETFD) < 0, "60 is still open");
    closefrom(descriptor);
    check_lock("free", "closefrom of all");
}

/* dup2(fd, fd) and failing calls neither copy nor close. */
static void calls_without_effect(void)
{
    int descriptor = open(image, O_RDWR);
    check(dup2(descriptor, descriptor) == descriptor, "dup2 onto itself");
    check(dup3(descriptor, descriptor, 0) == -1 && errno == EINVAL, "dup3 onto itself");
    check(dup2(900, descriptor) == -1 && errno == EBADF, "dup2 of nothing onto the image");
    check(dup3(descriptor, 70, 0x40) == -1 && errno == EINVAL, "dup3 with a bad flag");
    check(dup3(null_device, descriptor, 0x40) == -1 && errno == EINVAL, "dup3 with a bad flag onto the image");
    check(dup2(descriptor, -1) == -1 && errno == EBADF, "dup2 onto -1");
    check(fcntl(descriptor, F_DUPFD, -1) == -1 && errno == EINVAL, "F_DUPFD at -1");
    check(close_range((unsigned)descriptor, (unsigned)descriptor, 0x40) == -1 && errno == EINVAL,
          "close_range bad flag");
    check(close_range((unsigned)descriptor, 1, 0) == -1 && errno == EINVAL, "close_range backwards");
    check_lock("exclusive", "calls without effect");
    close(descriptor);
    check_lock("free", "and closed");
}

static void mode_goes_up_and_down(void)
{
    int reading = open(image, O_RDONLY);
    check_lock("shared", "open for reading");
    int writing = open(image, O_RDWR);
    check_lock("exclusive", "a second open, for writing");
    int copy = dup(writing);
    close(writing);
    check_lock("exclusive", "a copy of the second is left");
    close(copy);
    check_lock("shared", "the first is left");
    copy = dup(reading);
    close(reading);
    check_lock("shared", "a copy of the first is left");
    writing = open(image, O_WRONLY);
    close(copy);
    check_lock("exclusive", "only the writer is left");
    reading = open(image, O_RDONLY);
    close(writing);
    check_lock("shared", "only a reader is left");
    /* One descriptor number, from writer to reader: dup2 releases what it replaces. */
    writing = open(image, O_RDWR);
    check_lock("exclusive", "a writer again");
    dup2(reading, writing);
    check_lock("shared", "a reader replaces the writer");
    close(reading);
    check_lock("shared", "the copy of the reader is left");
    close(writing);
    check_lock("free", "nothing is left");
}

static void mode_stays_up_after_fork(void)
{
    int reading = open(image, O_RDONLY);
    int writing = open(image, O_RDWR);
    if (fork() == 0) _exit(0);
    close(writing);
    check_lock("exclusive", "a child may still be writing");
    close(reading);
}

static void stream_changes_mode(void)
{
    FILE *stream = fopen(image, "r+");
    int number = fileno(stream);
    check_lock("exclusive", "fopen r+");
    stream = freopen(NULL, "r", stream);
    if (!check(stream && fileno(stream) == number, "freopen(NULL, r)")) return;
    check_lock("shared", "freopen(NULL, r)");
    stream = freopen(NULL, "r+", stream);
    if (!check(stream && fileno(stream) == number, "freopen(NULL, r+)")) return;
    check_lock("exclusive", "freopen(NULL, r+)");
    stream = freopen64(NULL, "a", stream);
    check_lock("exclusive", "freopen64(NULL, a)");
    stream = freopen(image, "re", stream);
    check_lock("shared", "freopen(image, re)");
    check(fcntl(number, F_GETFD) == FD_CLOEXEC, "freopen(image, re) sets FD_CLOEXEC");
    check(!freopen(image, "nonsense", stream), "freopen with a bad mode");
    check_lock("free", "freopen with a bad mode has closed the stream");
    /* libc reads six letters, the comma among them. */
    stream = fopen(image, "r,+");
    check_lock("exclusive", "fopen(image, \"r,+\")");
    fclose(stream);
    stream = fopen(image, "rbbbbbb+");
    check_lock("shared", "fopen(image, \"rbbbbbb+\")");
    fclose(stream);
    check(fcntl(number, F_GETFD) == -1, "the descriptor is closed");
}

/* The number of one image is reused for another file: what the table knew of it is out of date. */
static void numbers_are_reused(void)
{
    for (int i = 0; i < 3; i++) {
        int descriptor = open(image, O_RDWR);
        /* A close that no library can see. */
        register long number __asm__("rax") = SYS_close;
#ifdef __x86_64__
        __asm__ volatile("syscall" : "+r"(number) : "D"((long)descriptor) : "rcx", "r11", "memory");
#else
        close(descriptor);
        (void)number;
#endif
        int other = open("/dev/null", O_RDWR);
        check(other == descriptor, "open gives %d, not %d", other, descriptor);
        check_lock("free", "the number has another file now");
        close(other);
    }
}

#define TEMPORARIES(X)                         \
    X(mkstemp, "newXXXXXX")                    \
    X(mkstemp64, "newXXXXXX")                  \
    X(mkostemp, "newXXXXXX", O_CLOEXEC)        \
    X(mkostemp64, "newXXXXXX", O_CLOEXEC)      \
    X(mkstemps, "newXXXXXX.img", 4)            \
    X(mkstemps64, "newXXXXXX.img", 4)          \
    X(mkostemps, "newXXXXXX.img", 4, O_APPEND) \
    X(mkostemps64, "newXXXXXX.img", 4, O_APPEND)

/* IMGLOCK_IMAGES says that those without a suffix are images, too. */
static void temporary_files(void)
{
#define X(function, pattern, ...)                                             \
    {                                                                         \
        char name[] = pattern;                                                \
        int descriptor = function(name, ##__VA_ARGS__);                       \
        check(descriptor >= 0, #function);                                    \
        check(private_descriptor() >= 0, #function " has no lock");           \
        close(descriptor);                                                    \
        check(private_descriptor() < 0, "the lock of " #function " is left"); \
        unlink(name);                                                         \
    }
    TEMPORARIES(X)
#undef X
}

/* The names of all that is tried, for the test that compares them with symbols.def. */
static void list(const struct test_case *cases, size_t count)
{
    for (size_t i = 0; i < COUNT(openers); i++) puts(openers[i].name);
    for (size_t i = 0; i < COUNT(copiers); i++) puts(copiers[i].name);
    for (size_t i = 0; i < COUNT(closers); i++) puts(closers[i].name);
    for (size_t i = 0; i < count; i++) puts(cases[i].name);
#define X(function, ...) puts(#function);
    TEMPORARIES(X)
#undef X
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"openers", every_opener_with_every_closer},
        {"copiers", every_copier_with_every_closer},
        {"closefrom", closefrom_closes_all},
        {"no-effect", calls_without_effect},
        {"mode", mode_goes_up_and_down},
        {"mode-after-fork", mode_stays_up_after_fork},
        {"stream", stream_changes_mode},
        {"reuse", numbers_are_reused},
        {"temporary", temporary_files},
    };
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        list(cases, COUNT(cases));
        return 0;
    }
    if (argc != 3) return 2;
    image = argv[2];
    closefrom(3); /* whatever the test runner left open */
    null_device = open("/dev/null", O_RDWR);
    run_case(cases, COUNT(cases), argv[1]);
    return checked();
}
