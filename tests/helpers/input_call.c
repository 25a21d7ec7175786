/* input_call.c: input_call OPERATION ARGUMENT... [, OPERATION ARGUMENT...]...: makes calls of the C library in one
 * process and prints a line for each: "open: 3", "unlink: EBUSY".  The status is 0 when all of them succeeded.
 *
 * The operations are the rows of the table at the end, with what they take. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t signals;

static long open_flags(char *words)
{
    static const struct {
        const char *word;
        int flag;
    } flags[] = {{"r", O_RDONLY},  {"w", O_WRONLY},        {"rw", O_RDWR},           {"creat", O_CREAT},
                 {"excl", O_EXCL}, {"trunc", O_TRUNC},     {"append", O_APPEND},     {"nonblock", O_NONBLOCK},
                 {"path", O_PATH}, {"cloexec", O_CLOEXEC}, {"nofollow", O_NOFOLLOW}, {"directory", O_DIRECTORY}};
    int all = 0;
    for (char *word = strtok(words, "+"); word; word = strtok(NULL, "+")) {
        size_t i = 0;
        while (i < sizeof flags / sizeof *flags && strcmp(flags[i].word, word) != 0) i++;
        if (i == sizeof flags / sizeof *flags) {
            fprintf(stderr, "input_call: no such flag: %s\n", word);
            exit(2);
        }
        all |= flags[i].flag;
    }
    return all;
}

static int number_of_errno(const char *name)
{
    for (int number = 1; number < 134; number++)
        if (strerrorname_np(number) && strcmp(strerrorname_np(number), name) == 0) return number;
    fprintf(stderr, "input_call: no such errno: %s\n", name);
    exit(2);
}

/* ---- opening and closing -------------------------------------------------------------------------------- */

static long do_open(char **arguments)
{
    return open(arguments[1], (int)open_flags(arguments[0]), 0666);
}

static long do_creat(char **arguments)
{
    return creat(arguments[0], 0666);
}

static long do_fopen(char **arguments)
{
    FILE *stream = fopen(arguments[1], arguments[0]);
    return stream ? fileno(stream) : -1;
}

static long do_bad_pointer(char **arguments)
{
    (void)arguments;
    return open((const char *)16, O_RDWR | O_CREAT | O_TRUNC, 0666);
}

static long do_close(char **arguments)
{
    return close(atoi(arguments[0]));
}

static long do_dup(char **arguments)
{
    return dup(atoi(arguments[0]));
}

static long do_dup2(char **arguments)
{
    return dup2(atoi(arguments[0]), atoi(arguments[1]));
}

static long do_closefrom(char **arguments)
{
    closefrom(atoi(arguments[0]));
    return 0;
}

static long do_read(char **arguments)
{
    char bytes[512];
    return read(atoi(arguments[0]), bytes, sizeof bytes);
}

static long do_write(char **arguments)
{
    return write(atoi(arguments[0]), arguments[1], strlen(arguments[1]));
}

static long do_inode(char **arguments)
{
    struct stat status;
    return fstat(atoi(arguments[0]), &status) < 0 ? -1 : (long)status.st_ino;
}

/* ---- names ---------------------------------------------------------------------------------------------- */

static long do_truncate(char **arguments)
{
    return truncate(arguments[0], atol(arguments[1]));
}

static long do_truncate64(char **arguments)
{
    return truncate64(arguments[0], atol(arguments[1]));
}

static long do_unlink(char **arguments)
{
    return unlink(arguments[0]);
}

static long do_unlinkat(char **arguments)
{
    int directory = open(arguments[0], O_PATH | O_DIRECTORY);
    long result = unlinkat(directory, arguments[1], 0);
    int saved = errno;
    close(directory);
    errno = saved;
    return result;
}

static long do_remove(char **arguments)
{
    return remove(arguments[0]);
}

static long do_rename(char **arguments)
{
    return rename(arguments[0], arguments[1]);
}

static long do_renameat(char **arguments)
{
    return renameat(AT_FDCWD, arguments[0], AT_FDCWD, arguments[1]);
}

static long do_renameat2(char **arguments)
{
    return renameat2(AT_FDCWD, arguments[0], AT_FDCWD, arguments[1], RENAME_NOREPLACE);
}

static long do_exchange(char **arguments)
{
    return renameat2(AT_FDCWD, arguments[0], AT_FDCWD, arguments[1], RENAME_EXCHANGE);
}

static long do_chdir(char **arguments)
{
    return chdir(arguments[0]);
}

/* deep LEVELS: that many directories with names of 250 bytes, one below the other, and into the last of them. */
static long do_deep(char **arguments)
{
    char name[251];
    memset(name, 'd', 250);
    name[250] = '\0';
    for (int level = atoi(arguments[0]); level > 0; level--)
        if ((mkdir(name, 0777) < 0 && errno != EEXIST) || chdir(name) < 0) return -1;
    return 0;
}

/* ---- what goes wrong ------------------------------------------------------------------------------------ */

/* leave N: lets the process have that many descriptors more. */
static long do_leave(char **arguments)
{
    int next = dup(0);
    close(next);
    struct rlimit limit;
    if (next < 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0) return -1;
    limit.rlim_cur = (rlim_t)next + (rlim_t)atoi(arguments[0]);
    return setrlimit(RLIMIT_NOFILE, &limit);
}

/* fail CALL ERRNO: from now on the kernel answers this call so.  lock: a lock by open file description; probe: the
 * question for one; lock-file: an open with O_NOFOLLOW. */
static long do_fail(char **arguments)
{
    struct {
        const char *call;
        unsigned number, argument, mask, value;
    } known[] = {{"lock", SYS_fcntl, 1, 0xffffffff, F_OFD_SETLK},
                 {"probe", SYS_fcntl, 1, 0xffffffff, F_OFD_GETLK},
                 {"lock-file", SYS_openat, 2, O_NOFOLLOW, O_NOFOLLOW}};
    unsigned i = 0;
    while (i < 3 && strcmp(known[i].call, arguments[0]) != 0) i++;
    if (i == 3) exit(2);
    unsigned argument = (unsigned)offsetof(struct seccomp_data, args) + 8 * known[i].argument;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, known[i].number, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, known[i].mask),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, known[i].value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)number_of_errno(arguments[1])),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* ---- signals, time, processes --------------------------------------------------------------------------- */

static void count_signal(int number)
{
    (void)number;
    signals++;
}

/* alarms restart|interrupt: SIGALRM every 50 ms from now on, its handler with or without SA_RESTART. */
static long do_alarms(char **arguments)
{
    struct sigaction action = {.sa_handler = count_signal};
    action.sa_flags = strcmp(arguments[0], "restart") == 0 ? SA_RESTART : 0;
    const struct itimerval timer = {.it_interval = {.tv_usec = 50000}, .it_value = {.tv_usec = 50000}};
    if (sigaction(SIGALRM, &action, NULL) < 0) return -1;
    return setitimer(ITIMER_REAL, &timer, NULL);
}

/* signals: 1 when a signal handler has run, else 0. */
static long do_signals(char **arguments)
{
    (void)arguments;
    return signals > 0;
}

/* step: says so, and goes on when a line comes in. */
static long do_step(char **arguments)
{
    char byte = 0;
    (void)arguments;
    puts("step");
    ssize_t got;
    while ((got = read(0, &byte, 1)) == 1 && byte != '\n') continue;
    return got == 1 ? 0 : -1;
}

/* fork: the rest is the child's; the parent waits for it and ends as it ends. */
static long do_fork(char **arguments)
{
    int status;
    (void)arguments;
    pid_t child = fork();
    if (child <= 0) return child;
    if (waitpid(child, &status, 0) < 0) return -1;
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* leave-to-child: the rest is the child's; the parent ends at once. */
static long do_leave_to_child(char **arguments)
{
    (void)arguments;
    pid_t child = fork();
    if (child > 0) _exit(0);
    return child;
}

/* exec: the rest is done by a new program in this process. */
static char **rest;

static long do_exec(char **arguments)
{
    (void)arguments;
    rest[-1] = (char *)"input_call";
    return execv("/proc/self/exe", rest - 1);
}

/* exec-bare: the same without the library. */
static long do_exec_bare(char **arguments)
{
    unsetenv("LD_PRELOAD");
    return do_exec(arguments);
}

/* ---- the table ------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    int arguments;
    long (*perform)(char **arguments);
} operations[] = {
    {"open", 2, do_open},   /* FLAG+FLAG... PATH */
    {"creat", 1, do_creat}, /* PATH */
    {"fopen", 2, do_fopen}, /* MODE PATH */
    {"bad-pointer", 0, do_bad_pointer},
    {"close", 1, do_close},         /* DESCRIPTOR */
    {"dup", 1, do_dup},             /* DESCRIPTOR */
    {"dup2", 2, do_dup2},           /* OLD NEW */
    {"closefrom", 1, do_closefrom}, /* FIRST */
    {"read", 1, do_read},           /* DESCRIPTOR */
    {"write", 2, do_write},         /* DESCRIPTOR TEXT */
    {"inode", 1, do_inode},         /* DESCRIPTOR */
    {"truncate", 2, do_truncate},   /* PATH SIZE */
    {"truncate64", 2, do_truncate64},
    {"unlink", 1, do_unlink},     /* PATH */
    {"unlinkat", 2, do_unlinkat}, /* DIRECTORY NAME */
    {"remove", 1, do_remove},     /* PATH */
    {"rename", 2, do_rename},     /* FROM TO */
    {"renameat", 2, do_renameat},
    {"renameat2", 2, do_renameat2},
    {"exchange", 2, do_exchange},
    {"chdir", 1, do_chdir},   /* PATH */
    {"deep", 1, do_deep},     /* LEVELS */
    {"leave", 1, do_leave},   /* DESCRIPTORS */
    {"fail", 2, do_fail},     /* CALL ERRNO */
    {"alarms", 1, do_alarms}, /* restart|interrupt */
    {"signals", 0, do_signals},
    {"step", 0, do_step},
    {"fork", 0, do_fork},
    {"leave-to-child", 0, do_leave_to_child},
    {"exec", 0, do_exec},
    {"exec-bare", 0, do_exec_bare},
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

static long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* One operation; "timed" before its name has the line end in how many milliseconds it took. */
static bool perform(char **words, int count)
{
    bool timed = count > 0 && strcmp(words[0], "timed") == 0;
    if (timed) {
        words++;
        count--;
    }
    int i = 0;
    while (i < OPERATIONS && (count == 0 || strcmp(operations[i].name, words[0]) != 0)) i++;
    if (i == OPERATIONS || operations[i].arguments != count - 1) {
        fprintf(stderr, "input_call: no such operation, or not with so many arguments: %s\n", count ? words[0] : "");
        exit(2);
    }
    /* A program that succeeds leaves errno alone; one that reports it without need shows what is there. */
    errno = 0;
    long start = now_ms();
    long result = operations[i].perform(words + 1);
    int error = errno;
    long elapsed = now_ms() - start;
    if (operations[i].perform == do_step && result == 0) return true;
    printf("%s: ", operations[i].name);
    if (result < 0)
        printf("%s", strerrorname_np(error));
    else
        printf("%ld%s%s", result, error ? " with errno " : "", error ? strerrorname_np(error) : "");
    if (timed) printf(" %ld ms", elapsed);
    putchar('\n');
    return result >= 0;
}

int main(int argc, char **argv)
{
    bool all = true;
    setvbuf(stdout, NULL, _IONBF, 0);
    for (int start = 1; start < argc;) {
        int end = start;
        while (end < argc && strcmp(argv[end], ",") != 0) end++;
        rest = argv + end + 1;
        if (!perform(argv + start, end - start)) all = false;
        start = end + 1;
    }
    return all ? 0 : 1;
}
