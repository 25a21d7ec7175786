/* garbage.c: what no program should pass: paths that are no pointers, descriptors that never were, modes that mean
 * nothing.  Prints results, errno and faults; the test compares them with the bare run. */
#include "check.h"
#include "symbols.h"

#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

static sigjmp_buf fault;
static volatile long result; /* survives the jump */

static void on_fault(int number)
{
    siglongjmp(fault, number);
}

/* Prints what the call gives, or that it faults; what it opened is closed again. */
#define SHOW(call)                                                \
    do {                                                          \
        errno = 77;                                               \
        if (sigsetjmp(fault, 1) == 0) {                           \
            result = (long)(call);                                \
            printf("%s = %ld, errno %d\n", #call, result, errno); \
        } else {                                                  \
            printf("%s faults\n", #call);                         \
        }                                                         \
        closefrom(3);                                             \
    } while (0)

/* For calls that return a pointer. */
#define SHOW_STREAM(call)                          \
    SHOW(({                                        \
        FILE *stream = (call);                     \
        int number = stream ? fileno(stream) : -1; \
        if (stream) fclose(stream);                \
        number;                                    \
    }))

static char *const *volatile nowhere = (char *const *)1; /* where the compiler does not see it */
static const char *names[8];
static const char *paths[8];
static int path_count;

static void add_path(const char *name, const char *path)
{
    names[path_count] = name;
    paths[path_count++] = path;
}

static void make_paths(void)
{
    static char long_path[100001];
    long page = sysconf(_SC_PAGESIZE);
    char *hidden = mmap(NULL, (size_t)page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *pages = mmap(NULL, (size_t)page * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + page, (size_t)page, PROT_NONE);
    memset(long_path, 'x', sizeof long_path - 1);
    memcpy(long_path + sizeof long_path - 5, ".img", 4);
    add_path("NULL", NULL);
    add_path("-1", (const char *)-1);
    add_path("1", (const char *)1);
    add_path("a page that may not be read", hidden);
    add_path("100 kB", long_path);
    add_path("a string without end at the end of a page", memcpy(pages + page - 8, "disk.img", 8));
    add_path("nothing at all", "");
}

static int raw_openat2(const char *path, const struct open_how *how)
{
    return (int)syscall(SYS_openat2, AT_FDCWD, path, how, sizeof *how);
}

static void opens(const char *path)
{
    static const int flags[] = {O_RDONLY,
                                O_RDWR,
                                O_RDWR | O_CREAT,
                                O_WRONLY | O_CREAT | O_TRUNC,
                                O_RDWR | O_CREAT | O_EXCL,
                                O_RDWR | O_TMPFILE,
                                O_PATH,
                                O_DIRECTORY,
                                -1};
    for (volatile size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        int with = flags[i];
        struct open_how how = {.flags = (unsigned)with};
        SHOW(open(path, with, 0600));
        SHOW(open64(path, with, 0600));
        SHOW(__open(path, with, 0600));
        SHOW(__open64(path, with, 0600));
        SHOW(openat(AT_FDCWD, path, with, 0600));
        SHOW(openat64(-5, path, with, 0600));
        SHOW(openat(INT_MAX, path, with, 0600));
        SHOW(syscall(SYS_openat, AT_FDCWD, path, with, 0600));
        SHOW(raw_openat2(path, &how));
    }
    if (libc_has("openat2")) {
        SHOW(openat2(AT_FDCWD, path, (const struct open_how *)nowhere, sizeof(struct open_how)));
        SHOW(openat2(-5, path, &(struct open_how){.flags = O_RDWR}, sizeof(struct open_how)));
        SHOW(openat2(AT_FDCWD, path, &(struct open_how){.flags = ~0ULL}, 1));
    }
    SHOW(raw_openat2(path, NULL));
    SHOW(raw_openat2(path, (const struct open_how *)1));
    SHOW(raw_openat2(path, (const struct open_how *)path));
    SHOW(__open_2(path, O_RDWR));
    SHOW(__open64_2(path, O_RDONLY));
    SHOW(__openat_2(AT_FDCWD, path, O_RDWR | O_TRUNC));
    SHOW(__openat64_2(-1, path, O_RDWR));
    SHOW(creat(path, 0600));
    SHOW(creat64(path, 0600));
    SHOW(open_by_handle_at(AT_FDCWD, (struct file_handle *)(intptr_t)path, O_RDWR));
    SHOW_STREAM(fopen(path, "r"));
    SHOW_STREAM(fopen(path, "w"));
    SHOW_STREAM(fopen64(path, "a+"));
    SHOW_STREAM(_IO_fopen(path, "r+"));
    if (path) {
        SHOW_STREAM(freopen(path, "r", fopen("/dev/null", "r")));
        SHOW_STREAM(freopen(path, "w", fopen("/dev/null", "r")));
        SHOW_STREAM(freopen64(path, "a", fopen("/dev/null", "r")));
    }
}

static void other_path_calls(const char *path)
{
    char *const arguments[] = {(char *)"x", NULL};
    pid_t child;
    SHOW(truncate(path, 0));
    SHOW(truncate64(path, -1));
    SHOW(unlink(path));
    SHOW(unlinkat(AT_FDCWD, path, 0));
    SHOW(unlinkat(INT_MAX, path, -1));
    SHOW(remove(path));
    SHOW(rename(path, "x"));
    SHOW(rename("disk.img", path));
    SHOW(renameat(AT_FDCWD, path, -5, path));
    SHOW(renameat2(AT_FDCWD, "disk.img", AT_FDCWD, path, 1));
    SHOW(execv(path, arguments));
    SHOW(execve(path, nowhere, environ));
    SHOW(execveat(AT_FDCWD, path, arguments, nowhere, 0));
    SHOW(execl(path, "x", NULL));
    SHOW(execle(path, "x", NULL, environ));
    SHOW(execvp(path, arguments));
    SHOW(execvpe(path, arguments, nowhere));
    SHOW(execlp(path, "x", NULL));
    SHOW(posix_spawn(&child, path, NULL, NULL, arguments, environ));
    SHOW(posix_spawnp(&child, path, NULL, NULL, arguments, environ));
    if (libc_has("pidfd_spawn")) SHOW(pidfd_spawn(&child, path, NULL, NULL, arguments, environ));
    if (libc_has("pidfd_spawnp")) SHOW(pidfd_spawnp(&child, path, NULL, NULL, arguments, environ));
    SHOW(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
    SHOW(syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, path, 0));
    SHOW(syscall(SYS_truncate, path, 1));
#ifdef SYS_open
    SHOW(syscall(SYS_open, path, O_RDWR));
    SHOW(syscall(SYS_creat, path, 0600));
    SHOW(syscall(SYS_unlink, path));
    SHOW(syscall(SYS_rename, path, path));
#endif
}

static void path_calls(const char *path)
{
    opens(path);
    other_path_calls(path);
}

static void temporary_calls(const char *path)
{
    SHOW(mkstemp((char *)(intptr_t)path));
    SHOW(mkstemp64((char *)(intptr_t)path));
    SHOW(mkostemp((char *)(intptr_t)path, -1));
    SHOW(mkstemps((char *)(intptr_t)path, INT_MAX));
    SHOW(mkstemps64((char *)(intptr_t)path, -1));
    SHOW(mkostemps((char *)(intptr_t)path, -5, 0));
    SHOW(mkostemps64((char *)(intptr_t)path, INT_MIN, -1));
    SHOW(mkostemp64((char *)(intptr_t)path, -1));
}

static void descriptor_calls(int number)
{
    static const int others[] = {-1, -5, INT_MAX, INT_MIN, 0, 77, 1048577};
    char *const arguments[] = {(char *)"x", NULL};
    printf("descriptor %d\n", number);
    SHOW(close(number));
    SHOW(__close(number));
    SHOW(dup(number));
    for (volatile size_t i = 0; i < sizeof others / sizeof *others; i++) {
        int other = others[i];
        printf("other %d\n", other);
        SHOW(dup2(number, other));
        SHOW(__dup2(number, other));
        SHOW(dup3(number, other, 0));
        SHOW(dup3(number, other, -1));
        SHOW(fcntl(number, F_DUPFD, other));
        SHOW(fcntl64(number, F_DUPFD_CLOEXEC, other));
        SHOW(__fcntl(number, other, other));
#ifndef __LP64__
        if (__fcntl_time64) SHOW(__fcntl_time64(number, other, other));
#endif
        SHOW(syscall(SYS_dup3, number, other, 0));
        SHOW(syscall(SYS_fcntl, number, other, 0));
        if (other != 0) {
            SHOW(close_range((unsigned)number, (unsigned)other, -1));
            SHOW(close_range((unsigned)number, (unsigned)other, 1 << 5));
        }
        SHOW(fcntl(other, F_SETFD, number));
    }
    SHOW(ioctl(number, FIOCLEX));
    SHOW(ioctl(number, FIONCLEX, (void *)1));
    SHOW(ioctl(number, (unsigned long)-1, (void *)-1));
#ifndef __LP64__
    if (__ioctl_time64) SHOW(__ioctl_time64(number, (unsigned long)-1, (void *)-1));
#endif
    SHOW(fexecve(number, arguments, environ));
    if (number > 2) SHOW((closefrom(number), 0));
    SHOW(lockf(number, -1, 0));
    SHOW(lockf64(number, F_TLOCK, -1));
    SHOW(ftruncate(number, -1));
    SHOW(ftruncate64(number, INT64_MIN));
    SHOW(fallocate(number, -1, 0, 1));
    SHOW(fallocate64(number, 0, INT64_MAX, INT64_MAX));
    SHOW(posix_fallocate(number, 0, 0));
    SHOW(posix_fallocate64(number, -1, INT64_MAX));
    SHOW(openat(number, "x.img", O_RDWR));
    SHOW(syscall(SYS_close, number));
    SHOW(syscall(SYS_dup, number));
    SHOW(syscall(SYS_close, 0x100000000L + 77)); /* the kernel sees 77 */
}

static void mode_strings(void)
{
    static const char *const modes[] = {
        "",         "z",   "R",       "rw",      "+r",        "rr",      "r,ccs=UTF-8", "w,ccs=no such",
        "r+,xe",    "r,+", "wx",      "w+bx",    "rbbbbbbb+", "rbbbbb+", "ae",          "a+x",
        "\xff\xff", "r\n", "wbbbbb+", "wbbbbbx", "re",        "rme",     "rc"};
    for (volatile size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct stat status;
        const char *mode = modes[i];
        printf("mode %s\n", mode);
        SHOW_STREAM(fopen("disk.img", mode));
        SHOW_STREAM(fopen64("new.img", mode));
        SHOW_STREAM(_IO_fopen("plain", mode));
        SHOW_STREAM(freopen("disk.img", mode, fopen("/dev/null", "r+")));
        SHOW_STREAM(freopen64(NULL, mode, fopen("disk.img", "r+")));
        SHOW(popen("true", mode) ? 0 : -1);
        /* What it left: truncated, created. */
        printf("disk.img %ld, new.img %d, plain %d\n", stat("disk.img", &status) ? -1 : (long)status.st_size,
               stat("new.img", &status), stat("plain", &status));
        unlink("new.img");
        unlink("plain");
        FILE *again = fopen("disk.img", mode);
        if (again) printf("flags %#x %#x\n", fcntl(fileno(again), F_GETFL), fcntl(fileno(again), F_GETFD));
        if (again) fclose(again);
        if (truncate("disk.img", 65536) < 0) exit(2);
    }
}

/* The third argument counts with O_CREAT and with O_TMPFILE, and only then. */
static void show_mode(const char *what, int descriptor)
{
    struct stat status;
    printf("%s: ", what);
    if (descriptor < 0 || fstat(descriptor, &status) < 0)
        printf("errno %d\n", errno);
    else
        printf("%o %#x\n", (unsigned)status.st_mode, fcntl(descriptor, F_GETFL));
    close(descriptor);
    unlink("new.img");
    unlink("new");
}

static void file_modes(void)
{
    static const mode_t modes[] = {0640, 0, 0777, 01666, 06755, (mode_t)-1};
    umask(0);
    for (volatile size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        mode_t mode = modes[i];
        show_mode("open O_TMPFILE", open(".", O_RDWR | O_TMPFILE, mode));
        show_mode("open64 O_TMPFILE", open64(".", O_RDWR | O_TMPFILE, mode));
        show_mode("openat O_TMPFILE", openat(AT_FDCWD, ".", O_RDWR | O_TMPFILE | O_EXCL, mode));
        show_mode("openat64 O_TMPFILE", openat64(AT_FDCWD, ".", O_WRONLY | O_TMPFILE, mode));
        show_mode("__open O_TMPFILE", __open(".", O_RDWR | O_TMPFILE, mode));
        show_mode("syscall O_TMPFILE", (int)syscall(SYS_openat, AT_FDCWD, ".", O_RDWR | O_TMPFILE, mode));
        show_mode("open O_CREAT", open("new.img", O_RDWR | O_CREAT, mode));
        show_mode("open O_CREAT, no image", open("new", O_RDWR | O_CREAT | O_TRUNC, mode));
        show_mode("open64 O_CREAT|O_EXCL", open64("new.img", O_RDWR | O_CREAT | O_EXCL, mode));
        show_mode("openat O_CREAT", openat(AT_FDCWD, "new.img", O_WRONLY | O_CREAT | O_TRUNC, mode));
        show_mode("openat64 O_CREAT", openat64(AT_FDCWD, "new", O_RDWR | O_CREAT, mode));
        show_mode("__open64 O_CREAT", __open64("new.img", O_RDWR | O_CREAT | O_APPEND, mode));
        show_mode("creat", creat("new.img", mode));
        show_mode("creat64, no image", creat64("new", mode));
        show_mode("syscall O_CREAT", (int)syscall(SYS_openat, AT_FDCWD, "new.img", O_RDWR | O_CREAT, mode));
        struct open_how how = {.flags = O_RDWR | O_CREAT, .mode = mode & 07777};
        show_mode("openat2", raw_openat2("new.img", &how));
        how.mode = mode;
        show_mode("openat2 with any mode", raw_openat2("new.img", &how));
        how = (struct open_how){.flags = O_RDWR, .mode = mode};
        show_mode("openat2 with a mode for nothing", raw_openat2("disk.img", &how));
    }
    static const int accesses[] = {O_RDONLY | O_TRUNC,
                                   O_WRONLY,
                                   3,
                                   O_RDWR | O_APPEND | O_NONBLOCK | O_SYNC,
                                   O_RDONLY | O_NOATIME,
                                   O_RDWR | O_EXCL,
                                   O_RDONLY | 0x40000000,
                                   O_WRONLY | O_DIRECT,
                                   O_RDONLY | O_ASYNC};
    for (volatile size_t i = 0; i < sizeof accesses / sizeof *accesses; i++) {
        show_mode("open", open("disk.img", accesses[i]));
        show_mode("open O_CREAT", open("disk.img", accesses[i] | O_CREAT, 0600));
        show_mode("openat, no image", openat(AT_FDCWD, "text", accesses[i] | O_CREAT, 0600));
        show_mode("open through a link", open("link", accesses[i]));
        show_mode("open through a link, O_CREAT", open("link", accesses[i] | O_CREAT | O_TRUNC, 0600));
        if (truncate("disk.img", 65536) < 0) exit(2);
    }
    unlink("text");
}

int main(void)
{
    static const int numbers[] = {-1, -5, INT_MAX, INT_MIN, 77, 1048576, 99999, AT_FDCWD};
    static char stack[65536];
    const stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    const struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK | SA_NODEFER};
    sigaltstack(&alternative, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    closefrom(3); /* whatever the test runner left open */
    make_paths();
    close(open("disk.img", O_RDWR | O_CREAT, 0600));
    if (truncate("disk.img", 65536) < 0 || symlink("disk.img", "link") < 0) return 2;
    for (int i = 0; i < path_count; i++) {
        printf("path %s\n", names[i]);
        path_calls(paths[i]);
        if (i < 5) temporary_calls(paths[i]); /* the others may be written to */
    }
    for (volatile size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) descriptor_calls(numbers[i]);
    mode_strings();
    file_modes();
    fflush(stdout);
    if (private_descriptor() >= 0) return 1;
    return checked();
}
