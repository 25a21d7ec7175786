// link: -Ishim -Itests/fault
/* fault_places.c: fault_places ALONE|OUTSIDER|MARKED LOCKFILE SHARE SHARES: opens disk.img and takes it away, in each
 * way, under the library that makes one of its system calls fail (tests/fault/fault.c): each place that it comes
 * through, once for each plausible error.  Runs with that library preloaded, in the image's directory, where kept.img
 * is a second name of it.  Of the places every SHARES-th is its own, from SHARE on: most of the time is waiting.
 *
 * ALONE: nobody else has the image.  OUTSIDER: a process outside imglock has it open for writing.  MARKED: one has
 * QEMU's locks on it.
 *
 * After each failure: what was refused has changed nothing, has a line and an errno that is one, and left neither lock
 * nor mark nor descriptor; what went through has its lock and the descriptor as it would be without the library.
 * Nobody gets in beside somebody else, unless the call that failed was the very one that asks about him. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "sys.h"

static struct fault_plan *plan;
static const char *lock_path;
static const char image[] = "disk.img";
static enum { ALONE, OUTSIDER, MARKED } others;
static char complaint[300];

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
    va_list arguments;
    if (*complaint) return;
    va_start(arguments, format);
    vsnprintf(complaint, sizeof complaint, format, arguments);
    va_end(arguments);
}

/* ---- what is done --------------------------------------------------------------------------------------- */

static int by_open(int flags)
{
    return open(image, flags | O_CLOEXEC);
}

static int by_fopen(void)
{
    FILE *stream = fopen(image, "w");
    return stream ? fileno(stream) : -1;
}

static int by_handler(void)
{
    const int descriptor = open(image, O_RDWR);
    if (descriptor < 0) return -1;
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
    if (fcntl(descriptor, F_SETLK, &range) == 0) return descriptor;
    const int error = errno;
    close(descriptor);
    errno = error;
    return -1;
}

/* Of a descriptor: it, or -1.  Of a name: 0 or -1. */
static const struct way {
    const char *name;
    enum { READS, WRITES, TRUNCATES, NAMES } kind;
    bool seldom; /* beside others only with FAULTS_ALL in the environment, as all but one error a place */
} ways[] = {{"read", READS, false},        {"write", WRITES, false},
            {"truncate", TRUNCATES, true}, {"fopen", TRUNCATES, true},
            {"lock", WRITES, true},        {"rename", NAMES, false},
            {"unlink", NAMES, true},       {"truncate by name", NAMES, true},
            {"threads", WRITES, true}};
enum { WAYS = sizeof ways / sizeof *ways };

static void *idle(void *argument)
{
    for (;;) pause();
    return argument;
}

static int go(int way)
{
    pthread_t thread;
    switch (way) {
    case 0:
        return by_open(O_RDONLY);
    case 1:
        return by_open(O_RDWR);
    case 2:
        return by_open(O_RDWR | O_TRUNC);
    case 3:
        return by_fopen();
    case 4:
        return by_handler();
    case 5:
        return rename(image, "other.img");
    case 6:
        return unlink(image);
    case 7:
        return truncate(image, 100);
    default:
        if (pthread_create(&thread, NULL, idle, NULL) != 0) return -1;
        return by_open(O_RDWR);
    }
}

/* ---- what has to be so ---------------------------------------------------------------------------------- */

static int open_descriptors(void)
{
    int count = 0;
    for (int number = 0; number < 600; number++) count += sys_fcntl(number, F_GETFD, 0) >= 0;
    return count;
}

/* As anybody else would find it: 0 free, 1 shared, 2 exclusive. */
static int lock_state(void)
{
    const int descriptor = sys_openat(AT_FDCWD, lock_path, O_RDWR | O_CLOEXEC, 0);
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 2};
    if (descriptor < 0) return 0;
    sys_fcntl(descriptor, F_OFD_GETLK, (long)&range);
    sys_close(descriptor);
    return range.l_type == F_UNLCK ? 0 : range.l_type == F_RDLCK ? 1 : 2;
}

/* Has anybody a lock on the image itself, or a lease? */
static bool is_marked(void)
{
    const int descriptor = sys_openat(AT_FDCWD, image, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1};
    if (descriptor == -EAGAIN) return true;
    if (descriptor < 0) return false;
    sys_fcntl(descriptor, F_OFD_GETLK, (long)&range);
    sys_close(descriptor);
    return range.l_type != F_UNLCK;
}

static void expect_nothing_left(int descriptors, const char *when)
{
    sys_signals pending = 0;
    if (open_descriptors() != descriptors)
        complain("%s: %d descriptors, before: %d", when, open_descriptors(), descriptors);
    if (lock_state() != 0) complain("%s: a lock is left", when);
    if (others == ALONE && is_marked()) complain("%s: a mark or a lease is left", when);
    sys_sigpending(&pending);
    if (pending) complain("%s: signals %#llx", when, (unsigned long long)pending);
}

static void expect_open(const struct way *way, int descriptor)
{
    struct f_owner_ex owner = {0};
    sys_fcntl(descriptor, F_GETOWN_EX, (long)&owner);
    const int signal = sys_fcntl(descriptor, F_GETSIG, 0), lease = sys_fcntl(descriptor, F_GETLEASE, 0);
    const int flags = sys_fcntl(descriptor, F_GETFL, 0);
    if (owner.pid || signal || lease != F_UNLCK) complain("owner %d, signal %d, lease %d", owner.pid, signal, lease);
    const int access = way->kind == READS ? O_RDONLY : strcmp(way->name, "fopen") == 0 ? O_WRONLY : O_RDWR;
    if (flags < 0 || (flags & O_ASYNC) || (flags & O_ACCMODE) != access) complain("flags %#o", flags);
    if (lock_state() < (way->kind == READS ? 1 : 2)) complain("it is open without a lock");
}

static void expect_untouched(const struct stat *before)
{
    struct stat now;
    if (sys_fstatat(AT_FDCWD, image, &now, 0) < 0)
        complain("refused, and gone");
    else if (now.st_size != before->st_size || now.st_mtim.tv_nsec != before->st_mtim.tv_nsec)
        complain("refused, and changed");
}

static bool may_fail_with(int error)
{
    return error == ETXTBSY || error == EBUSY || error == EMFILE || error == ENOMEM || error == ENOLCK ||
           error == plan->error || error == EAGAIN;
}

/* May it have gone through beside the others? */
static bool could_not_be_asked(void)
{
    const long number = plan->chosen ? plan->chosen->number : 0;
    /* Where a name is not there, nobody has anything by it. */
    return number == SYS_WIDE_FCNTL || number == SYS_fstatfs || (number == SYS_openat && plan->error == ENOENT);
}

/* In a child of its own: 0, or 1 after a complaint. */
static int run(int number)
{
    const struct way *way = &ways[number];
    struct stat before;
    const int descriptors = open_descriptors();
    sys_fstatat(AT_FDCWD, image, &before, 0);
    alarm(300);
    const int result = go(number);
    const int error = errno;
    const struct fault_place *chosen = plan->chosen;
    plan->chosen = NULL;
    if (plan->records && others != ALONE && result >= 0) complain("it got in beside somebody");
    if (plan->records && others == ALONE && result < 0) complain("it is refused: %s", strerror(error));
    plan->chosen = chosen;
    if (result >= 0 && others != ALONE && !could_not_be_asked()) complain("it got in beside somebody");
    plan->chosen = NULL;
    if (result >= 0 && way->kind != NAMES) {
        expect_open(way, result);
        close(result);
    }
    if (result < 0) {
        plan->chosen = chosen;
        if (!may_fail_with(error)) complain("it failed with %s", strerror(error));
        plan->chosen = NULL;
        /* A name that is not there when it is looked at, and is when libc opens it, is emptied by libc. */
        if (!chosen || chosen->number != SYS_openat || plan->error != ENOENT) expect_untouched(&before);
    }
    expect_nothing_left(descriptors, result < 0 ? "after a refusal" : "at the end");
    if (*complaint) printf("complaint: %s\n", complaint);
    if (result < 0) printf("refused\n");
    fflush(stdout);
    return *complaint != 0;
}

/* ---- each place ----------------------------------------------------------------------------------------- */

static void prepare(void)
{
    /* The same file: the others have it open. */
    sys_call(SYS_unlinkat, AT_FDCWD, (long)"other.img", 0, 0, 0, 0);
    sys_call(SYS_linkat, AT_FDCWD, (long)"kept.img", AT_FDCWD, (long)"disk.img", 0, 0);
    const int descriptor = sys_openat(AT_FDCWD, image, O_WRONLY, 0);
    sys_ftruncate(descriptor, 65536);
    sys_close(descriptor);
}

/* Runs one way in a child; what it says into output. */
static int run_in_child(int way, char *output, size_t size)
{
    int ends[2], status;
    size_t have = 0;
    struct fault_plan *planned = plan;
    void (*use)(struct fault_plan *) = (void (*)(struct fault_plan *))dlsym(RTLD_DEFAULT, "imglock_fault_plan");
    prepare();
    if (pipe(ends) < 0) return -1;
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        use(planned);
        _exit(run(way));
    }
    close(ends[1]);
    for (ssize_t got; have < size - 1 && (got = read(ends[0], output + have, size - 1 - have)) > 0;)
        have += (size_t)got;
    output[have] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static const int *errors_of(const struct fault_place *place)
{
    static const int opens[] = {EINTR, EMFILE, ENOENT, 0}, controls[] = {EINTR, ENOLCK, EINVAL, 0},
                     looks[] = {EIO, EACCES, 0}, memory[] = {ENOMEM, 0}, links[] = {ENOENT, 0},
                     anything[] = {EIO, ENOSYS, 0}, nothing[] = {0};
    if (place->unlocks || place->looks_up) return nothing;
    switch (place->number) {
    case SYS_openat:
        return opens;
    case SYS_WIDE_FCNTL:
        return controls;
    case SYS_WIDE_FSTAT:
    case SYS_WIDE_FSTATAT:
        return looks;
    case SYS_mmap:
        return memory;
    case SYS_readlinkat:
        return links;
    default:
        return anything;
    }
}

/* Would bare libc have failed with that error as well; or is it the line itself that failed? */
static bool may_be_libcs(const struct fault_place *place)
{
    return place->reopens || place->quiet || place->number == SYS_WIDE_FTRUNCATE || place->number == SYS_mmap;
}

int main(int argc, char **argv)
{
    static char output[8192];
    long runs = 0, refused = 0, failed = 0, places = 0;
    if (argc != 5) return 2;
    const int share = atoi(argv[3]), shares = atoi(argv[4]);
    setvbuf(stdout, NULL, _IONBF, 0); /* children have none of it */
    others = strcmp(argv[1], "ALONE") == 0 ? ALONE : strcmp(argv[1], "OUTSIDER") == 0 ? OUTSIDER : MARKED;
    lock_path = argv[2];
    plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const bool all = getenv("FAULTS_ALL");
    for (int way = 0; way < WAYS; way++) {
        /* The guard of names asks about marks and locks alone. */
        if (others == OUTSIDER && ways[way].kind == NAMES) continue;
        if (others != ALONE && ways[way].seldom && !all) continue;
        const int known = plan->count;
        plan->records = 1;
        plan->chosen = NULL;
        if (run_in_child(way, output, sizeof output) != 0) {
            printf("%s, without a failure: %s\n", ways[way].name, output);
            failed++;
        }
        plan->records = 0;
        for (int place = known; place < plan->count; place++) {
            const int *errors = errors_of(&plan->places[place]);
            int count = 0;
            while (errors[count]) count++;
            /* Beside others each run takes its time. */
            for (int i = 0; i < count; i++) {
                if (place % shares != share || (others != ALONE && !all && i != place / shares % count)) continue;
                const int *error = &errors[i];
                plan->chosen = &plan->places[place];
                plan->turn = 1;
                plan->passed = plan->failed = 0;
                plan->error = *error;
                const int status = run_in_child(way, output, sizeof output);
                const char *why = status ? "ended badly" : NULL;
                runs++;
                if (strstr(output, "refused\n")) {
                    refused++;
                    if (!strstr(output, "imglock: ") && !may_be_libcs(&plan->places[place]))
                        why = "it is refused without a line";
                }
                if (!why) continue;
                failed++;
                printf("%s: %s of call %ld at %#lx %#lx: %s (status %d): %s\n", ways[way].name, strerrorname_np(*error),
                       plan->places[place].number, plan->places[place].at[0], plan->places[place].at[1], why, status,
                       output);
            }
        }
        places = plan->count;
    }
    prepare();
    printf("%ld places, %ld runs, %ld refused, %ld failed\n", places, runs, refused, failed);
    return failed || !refused;
}
