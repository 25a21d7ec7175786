/* errno.c: errno start | success IMAGE | failure | lacking: what errno says is what bare libc says.
 *
 * start: it is 0 at main.  success: 77 survives every call that succeeds.  failure: prints, for every function that
 * imglock defines, results and errno of calls that fail, and the test compares them with the bare run.  lacking: what
 * this libc lacks and imglock defines fails as on a kernel without it. */
#include "check.h"
#include "symbols.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const char *image;

/* ---- success --------------------------------------------------------------------------------------------- */

#define KEEPS(call)                                                       \
    ({                                                                    \
        errno = 77;                                                       \
        long result = (long)(call);                                       \
        check(result >= 0 && errno == 77, "%s gives %ld", #call, result); \
        result;                                                           \
    })

static char template[64];

static char *temporary(const char *pattern)
{
    strcpy(template, pattern);
    return template;
}

static int forget(int descriptor)
{
    if (descriptor >= 0) close(descriptor);
    unlink(template);
    return descriptor;
}

static void close_all(const int *descriptors, int count)
{
    for (int i = 0; i < count; i++) KEEPS(close(descriptors[i]));
}

static void on_success_opening(void)
{
    int opened[] = {
        (int)KEEPS(open(image, O_RDONLY)),
        (int)KEEPS(open(image, O_RDWR)),
        (int)KEEPS(open64(image, O_WRONLY)),
        (int)KEEPS(__open(image, O_RDWR)),
        (int)KEEPS(__open64(image, O_RDWR)),
        (int)KEEPS(__open_2(image, O_RDWR)),
        (int)KEEPS(__open64_2(image, O_RDWR)),
        (int)KEEPS(openat(AT_FDCWD, image, O_RDWR | O_CREAT, 0600)),
        (int)KEEPS(openat64(AT_FDCWD, image, O_RDWR | O_APPEND)),
        (int)KEEPS(__openat_2(AT_FDCWD, image, O_RDWR)),
        (int)KEEPS(__openat64_2(AT_FDCWD, image, O_RDWR)),
        (int)KEEPS(creat(image, 0600)),
        (int)KEEPS(creat64(image, 0600)),
        (int)KEEPS(syscall(SYS_openat, AT_FDCWD, image, O_RDWR | O_TRUNC)),
        (int)KEEPS(open("/dev/null", O_RDWR)),
        (int)KEEPS(open(".", O_RDONLY)),
        (int)KEEPS(open("plain", O_RDWR | O_CREAT | O_TRUNC, 0600)),
        (int)KEEPS(open("new.img", O_RDWR | O_CREAT | O_EXCL, 0600)),
        (int)KEEPS(open(".", O_RDWR | O_TMPFILE, 0600)),
    };
    close_all(opened, sizeof opened / sizeof *opened);
    KEEPS(unlink("new.img"));
    KEEPS(remove("plain"));
    KEEPS(forget(mkstemp(temporary("aXXXXXX"))));
    KEEPS(forget(mkstemp64(temporary("aXXXXXX"))));
    KEEPS(forget(mkostemp(temporary("aXXXXXX"), O_CLOEXEC)));
    KEEPS(forget(mkostemp64(temporary("aXXXXXX"), O_CLOEXEC)));
    KEEPS(forget(mkstemps(temporary("aXXXXXX.img"), 4)));
    KEEPS(forget(mkstemps64(temporary("aXXXXXX.img"), 4)));
    KEEPS(forget(mkostemps(temporary("aXXXXXX.img"), 4, O_CLOEXEC)));
    KEEPS(forget(mkostemps64(temporary("aXXXXXX.img"), 4, O_CLOEXEC)));
}

static void on_success_copying(void)
{
    int descriptor = (int)KEEPS(open(image, O_RDWR));
    int copies[] = {
        (int)KEEPS(dup(descriptor)),
        (int)KEEPS(dup2(descriptor, 50)),
        (int)KEEPS(__dup2(descriptor, 51)),
        (int)KEEPS(dup3(descriptor, 52, O_CLOEXEC)),
        (int)KEEPS(fcntl(descriptor, F_DUPFD, 0)),
        (int)KEEPS(fcntl64(descriptor, F_DUPFD_CLOEXEC, 0)),
        (int)KEEPS(__fcntl(descriptor, F_DUPFD, 60)),
        (int)KEEPS(syscall(SYS_dup3, descriptor, 53, 0)),
        (int)KEEPS(syscall(SYS_fcntl, descriptor, F_DUPFD, 3)),
        (int)KEEPS(syscall(SYS_dup, descriptor)),
    };
    KEEPS(fcntl(descriptor, F_SETFD, FD_CLOEXEC));
    KEEPS(fcntl(descriptor, F_SETFD, 0));
    KEEPS(fcntl(descriptor, F_GETFL));
    KEEPS(ioctl(descriptor, FIOCLEX));
    KEEPS(ioctl(descriptor, FIONCLEX));
    KEEPS(dup2(descriptor, descriptor));
    close_all(copies, sizeof copies / sizeof *copies);
    int other = (int)KEEPS(dup(descriptor));
    KEEPS(__close(other));
    KEEPS((closefrom(40), 0));
    KEEPS(close_range(40, ~0U, 0));
    KEEPS(close_range(40, ~0U, 1U << 2));
    KEEPS(syscall(SYS_close, descriptor));
}

static void on_success_elsewhere(void)
{
    FILE *stream = fopen(image, "r+");
    KEEPS(stream ? 0 : -1);
    /* Streams: errno may change on success in bare libc as well, but not by what it does here. */
    errno = 77;
    stream = freopen(image, "r", stream);
    check(stream && errno == 77, "freopen");
    KEEPS(fclose(stream));
    errno = 77;
    stream = fopen64(image, "w");
    check(stream && errno == 77, "fopen64");
    KEEPS(_IO_fclose(stream));
    errno = 77;
    stream = popen("true", "r");
    check(stream && errno == 77, "popen");
    KEEPS(pclose(stream));
    KEEPS(system("true"));
    KEEPS(truncate(image, 4096));
    KEEPS(truncate64(image, 8192));
    KEEPS(rename(image, "b.img"));
    KEEPS(renameat(AT_FDCWD, "b.img", AT_FDCWD, "c.img"));
    KEEPS(renameat2(AT_FDCWD, "c.img", AT_FDCWD, image, 0));
    KEEPS(link(image, "d.img"));
    KEEPS(unlinkat(AT_FDCWD, "d.img", 0));
    DIR *directory = opendir("/proc/self/fd");
    int held = open(image, O_RDWR);
    errno = 77;
    while (readdir(directory)) continue;
    check(errno == 77, "readdir");
    rewinddir(directory);
    while (readdir64(directory)) continue;
    check(errno == 77, "readdir64");
    closedir(directory);
    close(held);
    pid_t child;
    char *const arguments[] = {(char *)"true", NULL};
    KEEPS(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ));
    child = (pid_t)KEEPS(_Fork());
    if (child == 0) _exit(0);
    errno = 77;
    child = fork();
    if (child == 0) _exit(errno == 77 ? 0 : 1);
    check(errno == 77, "fork");
}

/* ---- failure --------------------------------------------------------------------------------------------- */

static char loop_far[PATH_MAX + 10]; /* a name that is too long */

static const struct bad_path {
    const char *path;
    int flags;
} bad_paths[] = {
    {"missing", O_RDONLY},
    {"missing.img", O_RDWR},
    {"nowhere/new.img", O_RDWR | O_CREAT},
    {"nowhere/new", O_WRONLY | O_CREAT | O_TRUNC},
    {"", O_RDONLY},
    {"", O_RDWR | O_CREAT},
    {".", O_RDWR},
    {".", O_WRONLY | O_CREAT},
    {".", O_RDONLY | O_TRUNC},
    {"dir.img", O_RDWR},
    {"dir.img", O_RDWR | O_CREAT | O_TRUNC},
    {"dir.img/", O_RDWR | O_CREAT},
    {"new.img/", O_RDWR | O_CREAT},
    {"file.img/", O_RDONLY},
    {"file.img/", O_RDWR | O_CREAT},
    {"file.img/x.img", O_RDWR},
    {"file.img/x.img", O_RDWR | O_CREAT},
    {"file.img/..", O_RDONLY},
    {"file.img", O_RDWR | O_CREAT | O_EXCL},
    {"link.img", O_RDWR | O_CREAT | O_EXCL},
    {"link.img", O_RDWR | O_NOFOLLOW},
    {"dangling.img", O_RDWR},
    {"dangling.img", O_RDWR | O_CREAT | O_EXCL},
    {"dangling.img", O_RDWR | O_CREAT | O_NOFOLLOW},
    {"loop.img", O_RDWR},
    {"loop.img", O_RDWR | O_CREAT},
    {"fifo.img", O_WRONLY | O_NONBLOCK},
    {"socket.img", O_RDWR},
    {"file.img", O_RDONLY | O_DIRECTORY},
    {"file.img", O_RDWR | O_CREAT | O_DIRECTORY},
    {"file.img", O_RDWR | O_TMPFILE},
    {"/proc/self/exe", O_RDWR},
    {"/proc/version.img", O_RDWR | O_CREAT},
    {"/dev/nothing.img", O_RDONLY},
    {loop_far, O_RDONLY},
    {loop_far, O_RDWR | O_CREAT},
};

#define SHOW(call)                                            \
    do {                                                      \
        errno = 77;                                           \
        long result = (long)(call);                           \
        printf("%s = %ld, errno %d\n", #call, result, errno); \
    } while (0)

static int raw_openat2(const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)flags, .mode = flags & O_CREAT ? 0600 : 0};
    return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

static void failing_opens(void)
{
    for (size_t i = 0; i < sizeof bad_paths / sizeof *bad_paths; i++) {
        const char *path = bad_paths[i].path;
        int flags = bad_paths[i].flags;
        printf("path %.20s, flags %#o\n", path, (unsigned)flags);
        SHOW(open(path, flags, 0600));
        SHOW(open64(path, flags, 0600));
        SHOW(__open(path, flags, 0600));
        SHOW(__open64(path, flags, 0600));
        SHOW(openat(AT_FDCWD, path, flags, 0600));
        SHOW(openat64(AT_FDCWD, path, flags, 0600));
        SHOW(syscall(SYS_openat, AT_FDCWD, path, flags, 0600));
        SHOW(raw_openat2(path, flags));
        struct open_how how = {.flags = (unsigned)flags, .mode = flags & O_CREAT ? 0600 : 0};
        if (libc_has("openat2")) SHOW(openat2(AT_FDCWD, path, &how, sizeof how));
        if (!(flags & O_CREAT) && (flags & O_TMPFILE) != O_TMPFILE) {
            SHOW(__open_2(path, flags));
            SHOW(__open64_2(path, flags));
            SHOW(__openat_2(AT_FDCWD, path, flags));
            SHOW(__openat64_2(AT_FDCWD, path, flags));
        }
        if ((flags & (O_CREAT | O_EXCL | O_DIRECTORY | O_NOFOLLOW)) == O_CREAT) {
            SHOW(creat(path, 0600));
            SHOW(creat64(path, 0600));
            SHOW(fopen(path, "w"));
            SHOW(fopen64(path, "a+"));
            SHOW(_IO_fopen(path, "w+e"));
            SHOW(freopen(path, "w", fopen("/dev/null", "r")));
            SHOW(freopen64(path, "a", fopen("/dev/null", "r")));
        }
        if ((flags & (O_ACCMODE | O_CREAT | O_DIRECTORY | O_NOFOLLOW | O_TRUNC)) == O_RDWR) {
            SHOW(fopen(path, "r+"));
            SHOW(fopen64(path, "r+b"));
            SHOW(_IO_fopen(path, "r+"));
            SHOW(freopen(path, "r+", fopen("/dev/null", "r")));
        }
        SHOW(open_by_handle_at(AT_FDCWD, (struct file_handle *)&(long[4]){0}, flags));
    }
    SHOW(open("file.img", O_RDWR | O_CREAT | O_EXCL, 0600));
    SHOW(fopen("file.img", "wx"));
    SHOW(openat(77, "file.img", O_RDWR));
    SHOW(openat(77, "new.img", O_RDWR | O_CREAT, 0600));
    SHOW(openat(0, "new.img", O_RDWR | O_CREAT, 0600));
    SHOW(__openat_2(77, "file.img", O_RDWR));
}

static void failing_temporaries(void)
{
    static const char *const patterns[] = {"nowhere/aXXXXXX.img", "short.img", "XXXXXX.im", ""};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        SHOW(mkstemp(temporary(patterns[i])));
        SHOW(mkstemp64(temporary(patterns[i])));
        SHOW(mkostemp(temporary(patterns[i]), O_CLOEXEC));
        SHOW(mkostemp64(temporary(patterns[i]), O_CLOEXEC));
        SHOW(mkstemps(temporary(patterns[i]), 4));
        SHOW(mkstemps64(temporary(patterns[i]), 4));
        SHOW(mkostemps(temporary(patterns[i]), 4, 0));
        SHOW(mkostemps64(temporary(patterns[i]), 4, 0));
    }
}

static void failing_on_descriptors(void)
{
    SHOW(close(77));
    SHOW(__close(-1));
    SHOW(close_range(5, 4, 0));
    SHOW(close_range(50, 60, 1 << 30));
    SHOW((closefrom(INT_MAX), 0));
    SHOW(dup(77));
    SHOW(dup2(77, 5));
    SHOW(dup2(0, -1));
    SHOW(__dup2(77, 77));
    SHOW(lockf(-1, F_TLOCK, 0));
    SHOW(lockf64(-1, F_TLOCK, 0));
    SHOW(dup3(0, 0, 0));
    SHOW(dup3(0, 50, 1));
    SHOW(dup3(77, 50, 0));
    SHOW(fcntl(77, F_DUPFD, 0));
    SHOW(fcntl(0, F_DUPFD, -1));
    SHOW(fcntl64(77, F_SETFD, 0));
    SHOW(__fcntl(77, F_GETFD));
#ifndef __LP64__
    if (__fcntl_time64) SHOW(__fcntl_time64(77, F_DUPFD, 0));
    if (__ioctl_time64) SHOW(__ioctl_time64(77, FIOCLEX));
#endif
    SHOW(fcntl(0, 4711));
    SHOW(ioctl(77, FIOCLEX));
    SHOW(ioctl(0, 0x4711));
    SHOW(syscall(SYS_close, 77));
    SHOW(syscall(SYS_close_range, 5, 4, 0));
    SHOW(syscall(SYS_dup, 77));
    SHOW(syscall(SYS_dup3, 77, 5, 0));
    SHOW(syscall(SYS_fcntl, 77, F_GETFD));
    SHOW(syscall(SYS_ioctl, 77, FIOCLEX));
    SHOW(syscall(SYS_open_by_handle_at, 77, &(long[4]){0}, O_RDWR));
    SHOW(syscall(SYS_execveat, 77, "missing", NULL, NULL, 0));
    SHOW(syscall(SYS_execve, "missing", NULL, NULL));
    SHOW(syscall(99999));
    SHOW(syscall(-1));
#ifdef SYS_open
    SHOW(syscall(SYS_open, "missing.img", O_RDWR));
    SHOW(syscall(SYS_creat, "nowhere/x.img", 0600));
    SHOW(syscall(SYS_dup2, 77, 5));
    SHOW(syscall(SYS_unlink, "missing.img"));
    SHOW(syscall(SYS_rename, "missing.img", "x.img"));
#endif
    SHOW(syscall(SYS_unlinkat, AT_FDCWD, "missing.img", 0));
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "missing.img", AT_FDCWD, "x.img", 0));
    SHOW(syscall(SYS_truncate, "missing.img", 0));
    SHOW(syscall(SYS_ftruncate, 77, 0));
    SHOW(syscall(SYS_fallocate, 77, 0, 0, 1));
    SHOW(ftruncate(77, 0));
    SHOW(ftruncate64(-1, 0));
    SHOW(fallocate(77, 0, 0, 1));
    SHOW(fallocate64(-1, 0, 0, 1));
    SHOW(posix_fallocate(77, 0, 1));
    SHOW(posix_fallocate64(-1, 0, 1));
    SHOW(syscall(SYS_openat2, AT_FDCWD, "file.img", &(char[64]){1, 2, 3, [60] = 4}, 64));
    SHOW(syscall(SYS_openat2, AT_FDCWD, "file.img", &(char[64]){0}, 8));
    FILE *stream = fopen("/dev/null", "r");
    syscall(SYS_close, fileno(stream));
    SHOW(fclose(stream));
    stream = fopen("/dev/null", "r");
    syscall(SYS_close, fileno(stream));
    SHOW(_IO_fclose(stream));
    DIR *directory = opendir("/proc/self/fd");
    syscall(SYS_close, dirfd(directory));
    SHOW(readdir(directory));
    SHOW(readdir64(directory));
    struct dirent entry, *found;
    struct dirent64 entry64, *found64;
    SHOW(readdir_r(directory, &entry, &found));
    SHOW(readdir64_r(directory, &entry64, &found64));
}

/* The first length bytes of the text, and behind them memory that is not there. */
static const char *at_the_edge(const char *text, size_t length)
{
    char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(memory + 4096, 4096);
    return memcpy(memory + 4096 - length, text, length);
}

static void failing_on_names(void)
{
    static const char *const names[] = {"missing.img", "nowhere/x.img", "file.img/x", "dir.img", "", "loop.img", "."};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        printf("name %s\n", names[i]);
        SHOW(truncate(names[i], 10));
        SHOW(truncate64(names[i], -1));
        SHOW(unlinkat(AT_FDCWD, names[i], 0x4000));
        SHOW(unlinkat(77, names[i], 0));
        SHOW(rename(names[i], "nowhere/x"));
        SHOW(renameat(77, names[i], AT_FDCWD, "y.img"));
        SHOW(renameat2(AT_FDCWD, names[i], AT_FDCWD, "y.img", 0x4000));
        SHOW(renameat2(AT_FDCWD, "file.img", AT_FDCWD, "file.img", 1));
        SHOW(rename("file.img", names[i]) + (strcmp(names[i], "missing.img") ? 0 : rename(names[i], "file.img")));
        if (i != 5) SHOW(unlink(names[i]));
    }
    SHOW(remove("nowhere/x.img"));
    SHOW(remove("full"));
    /* Names that end where memory ends, that do not end there, and that are none. */
    const char *const odd[] = {at_the_edge("m", 2),
                               at_the_edge("missing.img", 12),
                               at_the_edge("nowhere/x.img", 14),
                               at_the_edge("m", 1),
                               at_the_edge("missing.img", 11),
                               NULL,
                               (const char *)4095,
                               (const char *)-4096};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        printf("odd name %zu\n", i);
        SHOW(truncate(odd[i], 10));
        SHOW(unlink(odd[i]));
        SHOW(unlinkat(77, odd[i], 0));
        SHOW(remove(odd[i]));
        SHOW(rename(odd[i], "y.img"));
        SHOW(rename("file.img", odd[i]) + (i > 1 ? 0 : rename(odd[i], "file.img")));
    }
}

static int in_clone(void *argument)
{
    return argument != NULL;
}

static void failing_processes(void)
{
    static char stack[16384];
    char *const arguments[] = {(char *)"x", NULL};
    pid_t child;
    SHOW(clone(NULL, stack + sizeof stack, SIGCHLD, NULL));
    SHOW(clone(in_clone, NULL, SIGCHLD, NULL));
    SHOW(clone(in_clone, stack + sizeof stack, CLONE_SIGHAND | SIGCHLD, NULL));
    SHOW(posix_spawn(&child, "missing", NULL, NULL, arguments, environ));
    SHOW(posix_spawnp(&child, "no-such-program", NULL, NULL, arguments, environ));
    int pidfd;
    if (libc_has("pidfd_spawn")) SHOW(pidfd_spawn(&pidfd, "missing", NULL, NULL, arguments, environ));
    if (libc_has("pidfd_spawnp")) SHOW(pidfd_spawnp(&pidfd, "no-such-program", NULL, NULL, arguments, environ));
    SHOW(execve("missing", arguments, environ));
    SHOW(execveat(AT_FDCWD, "missing", arguments, environ, 0));
    SHOW(execveat(AT_FDCWD, "missing", arguments, environ, 1));
    SHOW(fexecve(77, arguments, environ));
    SHOW(fexecve(-1, arguments, environ));
    SHOW(execv("file.img", arguments));
    SHOW(execvp("no-such-program", arguments));
    SHOW(execvp("", arguments));
    SHOW(execvpe("no-such-program", arguments, environ));
    SHOW(execl("dir.img", "x", NULL));
    SHOW(execlp("no-such-program", "x", "y", NULL));
    SHOW(execle("missing", "x", "y", NULL, environ));
    SHOW(popen("true", "z"));
    SHOW(popen("true", ""));
    SHOW(system(NULL));
    SHOW(system("exit 5"));
    signal(SIGCHLD, SIG_IGN);
    SHOW(pclose(popen("true", "r")));
    signal(SIGCHLD, SIG_DFL);
}

static void make_bad_files(void)
{
    int descriptor = open("file.img", O_RDWR | O_CREAT, 0600);
    if (ftruncate(descriptor, 65536) < 0) exit(2);
    close(descriptor);
    memset(loop_far, 'x', sizeof loop_far - 1);
    if (mkdir("dir.img", 0700) < 0 || mkdir("full", 0700) < 0 || mkdir("full/x", 0700) < 0) exit(2);
    if (symlink("file.img", "link.img") < 0 || symlink("nothing.img", "dangling.img") < 0) exit(2);
    if (symlink("loop.img", "loop.img") < 0 || mkfifo("fifo.img", 0600) < 0) exit(2);
    if (mknod("socket.img", S_IFSOCK | 0600, 0) < 0) exit(2);
}

/* Those of the table that this libc has not: only by dlsym can a program find the library's. */
static void lacking(void)
{
    static const struct {
        const char *name;
        const char *family;
    } rows[] = {
#define WRAPPED(name, family, since) {#name, #family},
#include "../../shim/wrap/symbols.def"
    };
    /* Arguments that openat2 takes, and in which a spawn finds no actions. */
    const struct open_how how = {.flags = O_RDONLY};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        /* closefrom has no result. */
        if (libc_has(rows[i].name) || strcmp(rows[i].name, "closefrom") == 0) continue;
        long (*function)(long, ...) = (long (*)(long, ...))dlsym(RTLD_DEFAULT, rows[i].name);
        errno = 77;
        int result = function ? (int)function(AT_FDCWD, "file.img", &how, sizeof how, NULL, NULL) : 0;
        if (strcmp(rows[i].family, "SPAWN") == 0)
            check(result == ENOSYS && errno == 77, "%s gives %d", rows[i].name, result);
        else
            check(result == -1 && errno == ENOSYS, "%s gives %d", rows[i].name, result);
    }
}

int main(int argc, char **argv)
{
    int at_start = errno;
    if (argc < 2) return 2;
    if (strcmp(argv[1], "start") == 0) {
        printf("%d\n", at_start);
        return 0;
    }
    closefrom(3); /* whatever the test runner left open */
    if (strcmp(argv[1], "success") == 0) {
        image = argv[2];
        on_success_opening();
        on_success_copying();
        on_success_elsewhere();
        return checked();
    }
    make_bad_files();
    if (strcmp(argv[1], "lacking") == 0) {
        lacking();
        return checked();
    }
    failing_opens();
    failing_temporaries();
    failing_on_descriptors();
    failing_on_names();
    failing_processes();
    fflush(stdout);
    return checked();
}
