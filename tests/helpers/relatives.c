/* relatives.c: relatives CASE IMAGE [ARGUMENT]: processes that descend from one another open one image.  The cases are
 * the rows of the table at the end.  What is wrong is said on stderr, and the status is 1. */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

static const char *image, *argument;
static char *self;
extern char **environ;

static int open_image(int flags, const char *who)
{
    int descriptor = open(image, flags);
    check(descriptor >= 0, "%s opens it for %s", who, (flags & O_ACCMODE) == O_RDONLY ? "reading" : "writing");
    return descriptor;
}

static void wait_for(pid_t child, const char *who)
{
    int status;
    const pid_t ended = waitpid(child, &status, 0);
    check(ended == child && status == 0, "%s ends with %#x", who, status);
}

/* This program again, with another case, number and argument. */
static pid_t start(const char *name, const char *text)
{
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", self, name, image, text, NULL);
        _exit(9);
    }
    return child;
}

/* ---- as many as you like -------------------------------------------------------------------------------- */

/* One connection after the other: open the image, fork a worker that keeps it, close it. */
static void open_beside_workers(int flags)
{
    enum { MOST = 64 };
    const int count = atoi(argument);
    pid_t workers[MOST];
    int started = 0;
    for (; started < count && started < MOST; started++) {
        int descriptor = open_image(flags | O_CLOEXEC, "a parent of so many workers");
        if (descriptor < 0) break;
        workers[started] = fork();
        if (workers[started] == 0) {
            pause();
            _exit(0);
        }
        close(descriptor);
    }
    check(started == count, "%d of %d", started, count);
    check_lock(flags == O_RDWR ? "exclusive" : "shared", "the workers have it");
    for (int i = 0; i < started; i++) {
        kill(workers[i], SIGKILL);
        waitpid(workers[i], NULL, 0);
    }
    check_lock("free", "the workers have ended");
}

static void workers_write(void)
{
    open_beside_workers(O_RDWR);
}

static void workers_read(void)
{
    open_beside_workers(O_RDONLY);
}

/* Each generation opens the image for writing and starts the next, by exec mostly. */
static void nest(void)
{
    int left = atoi(argument);
    char less[12];
    pid_t child = 0;
    while (child == 0) {
        if (open_image(O_RDWR | O_CLOEXEC, "a generation") < 0 || left == 0) break;
        left--;
        if (left % 4 == 0) {
            child = fork();
        } else {
            snprintf(less, sizeof less, "%d", left);
            child = start("nest", less);
        }
    }
    if (child > 0) wait_for(child, "the next generation");
}

/* ---- two at once ---------------------------------------------------------------------------------------- */

struct meeting {
    atomic_int ready, inside, most_inside, refused;
    atomic_bool go;
};

/* The meeting's memory comes by descriptor 100. */
static struct meeting *map_meeting(void)
{
    struct meeting *meeting = mmap(NULL, sizeof *meeting, PROT_READ | PROT_WRITE, MAP_SHARED, 100, 0);
    if (meeting == MAP_FAILED) exit(2);
    return meeting;
}

/* One of two helpers that open the image at the same instant.  Whoever gets in stays until the other has its answer. */
static void meet(void)
{
    struct meeting *meeting = map_meeting();
    atomic_fetch_add(&meeting->ready, 1);
    while (!atomic_load(&meeting->go)) sched_yield();
    int descriptor = open(image, O_RDWR | O_CLOEXEC);
    if (descriptor < 0)
        atomic_fetch_add(&meeting->refused, 1);
    else
        atomic_fetch_add(&meeting->inside, 1);
    while (atomic_load(&meeting->inside) + atomic_load(&meeting->refused) < 2) sched_yield();
}

static void siblings(void)
{
    int memory = memfd_create("meeting", 0), both = 0, neither = 0;
    if (memory < 0 || ftruncate(memory, sizeof(struct meeting)) < 0 || dup2(memory, 100) != 100) exit(2);
    struct meeting *meeting = map_meeting();
    open_image(O_RDWR | O_CLOEXEC, "the holder");
    for (int round = 0; round < atoi(argument); round++) {
        memset(meeting, 0, sizeof *meeting);
        pid_t children[2] = {start("meet", ""), start("meet", "")};
        while (atomic_load(&meeting->ready) < 2) sched_yield();
        atomic_store(&meeting->go, true);
        for (int i = 0; i < 2; i++) wait_for(children[i], "a helper");
        both += atomic_load(&meeting->inside) == 2;
        neither += atomic_load(&meeting->inside) == 0;
    }
    check(both == 0, "both helpers were in %d times", both);
    check(neither == 0, "both helpers were refused %d times", neither);
}

/* ---- a description that two processes have -------------------------------------------------------------- */

/* A child raises beside what it has inherited, keeps that, and ends.  The parent, which had closed, opens again. */
static void raised_and_kept(void)
{
    int to_parent[2], to_child[2];
    char byte;
    if (pipe(to_parent) < 0 || pipe(to_child) < 0) exit(2);
    int descriptor = open_image(O_RDONLY | O_CLOEXEC, "the parent");
    pid_t child = fork();
    if (child == 0) {
        close(to_child[1]);
        open_image(O_RDWR, "the child");
        if (write(to_parent[1], "x", 1) != 1) _exit(2);
        if (read(to_child[0], &byte, 1) < 0) _exit(2);
        _exit(checked());
    }
    if (read(to_parent[0], &byte, 1) != 1) exit(2);
    const char *lock_file = getenv("LOCK_FILE");
    check(!lock_file || strcmp(lock_state_at(lock_file, 0, 2), "shared") == 0,
          "the child raised for its parent as well");
    close(descriptor);
    open_image(O_RDONLY, "the parent, beside its child,");
    close(to_child[1]);
    wait_for(child, "the child");
    check_lock("shared", "the child that wrote has ended");
}

/* One child raises and ends; another has nothing but what it inherited, and the parent, which had closed, opens again.
 */
static void raised_and_ended(void)
{
    int to_child[2];
    char byte;
    if (pipe(to_child) < 0) exit(2);
    int descriptor = open_image(O_RDONLY | O_CLOEXEC, "the parent");
    pid_t child = fork();
    if (child == 0) {
        open_image(O_RDWR, "the first child");
        _exit(checked());
    }
    wait_for(child, "the first child");
    check_lock("shared", "the first child has ended");
    child = fork();
    if (child == 0) {
        close(to_child[1]);
        if (read(to_child[0], &byte, 1) < 0) _exit(2);
        _exit(0);
    }
    close(descriptor);
    open_image(O_RDONLY, "the parent, beside its second child,");
    open_image(O_RDWR, "the parent, beside its second child,");
    close(to_child[1]);
    wait_for(child, "the second child");
}

/* What a child raises ends with the child's close, not with its end. */
static void raised_and_closed(void)
{
    int to_parent[2], to_child[2];
    char byte;
    if (pipe(to_parent) < 0 || pipe(to_child) < 0) exit(2);
    open_image(O_RDONLY | O_CLOEXEC, "the parent");
    pid_t child = fork();
    if (child == 0) {
        close(to_child[1]);
        close(open_image(O_RDWR, "the child"));
        if (write(to_parent[1], "x", 1) != 1) _exit(2);
        if (read(to_child[0], &byte, 1) < 0) _exit(2);
        _exit(checked());
    }
    if (read(to_parent[0], &byte, 1) != 1) exit(2);
    check_lock("shared", "the child has closed what it wrote to");
    int reader = start("reader", "");
    wait_for(reader, "another reader");
    close(to_child[1]);
    wait_for(child, "the child");
}

static void reader(void)
{
    open_image(O_RDONLY, "a helper");
}

/* An image that is opened by the parent, raised by the parent, with a child that has the first description. */
static void raised_by_parent(void)
{
    int to_child[2];
    char byte;
    if (pipe(to_child) < 0) exit(2);
    open_image(O_RDONLY | O_CLOEXEC, "the parent");
    pid_t child = fork();
    if (child == 0) {
        close(to_child[1]);
        if (read(to_child[0], &byte, 1) < 0) _exit(2);
        _exit(0);
    }
    int writer = open_image(O_RDWR | O_CLOEXEC, "the parent");
    close(writer);
    check_lock("shared", "the parent has closed what it wrote to");
    close(to_child[1]);
    wait_for(child, "the child");
}

/* Lets a child that has what this process has open go on until the pipe's end is closed. */
static pid_t fork_bystander(int *its_end)
{
    int to_child[2];
    char byte;
    if (pipe2(to_child, O_CLOEXEC) < 0) exit(2);
    pid_t child = fork();
    if (child == 0) {
        close(to_child[1]);
        _exit(read(to_child[0], &byte, 1) != 0);
    }
    close(to_child[0]);
    *its_end = to_child[1];
    return child;
}

/* What others see who ask for the bytes of holders alone, as scripts do. */
static void check_front(const char *expected, const char *what)
{
    const char *lock_file = getenv("LOCK_FILE"), *state = lock_file ? lock_state_at(lock_file, 0, 2) : expected;
    check(strcmp(state, expected) == 0, "%s: bytes 0-1 are %s, not %s", what, state, expected);
}

static void raised_after_child(void)
{
    int its_end;
    open_image(O_RDONLY | O_CLOEXEC, "the parent");
    pid_t child = fork_bystander(&its_end);
    close(its_end);
    wait_for(child, "the child");
    int writer = open_image(O_RDWR | O_CLOEXEC, "the parent");
    check_front("exclusive", "the child has ended, and the parent writes");
    close(writer);
    check_front("shared", "the parent reads");
}

/* Nobody tells when the child ends: at the next open or close it is seen. */
static void raised_beside_child(void)
{
    int its_end;
    int reader = open_image(O_RDONLY | O_CLOEXEC, "the parent");
    pid_t child = fork_bystander(&its_end);
    int writer = open_image(O_RDWR | O_CLOEXEC, "the parent");
    check_front("shared", "the child has what the parent had first");
    close(its_end);
    wait_for(child, "the child");
    if (*argument)
        open_image(O_RDWR | O_CLOEXEC, "the parent");
    else
        close(reader);
    check_front("exclusive", "the child has ended, and the parent writes");
    close(writer);
}

/* Whose parent has ended comes to this process, so that its end can be waited for: its lock is there until then. */
static void adopt_orphans(void)
{
    check(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "PR_SET_CHILD_SUBREAPER");
}

static void wait_for_orphan(void)
{
    check(waitpid(-1, NULL, 0) > 0, "the orphan ends");
}

/* daemon(3), and then a helper: of the three that had the image, only one is left. */
static void helper_of_daemon(void)
{
    int said[2];
    char byte;
    if (pipe2(said, O_CLOEXEC) < 0) exit(2);
    adopt_orphans();
    pid_t child = fork();
    if (child == 0) {
        open_image(O_RDWR | O_CLOEXEC, "the one that becomes a daemon");
        if (daemon(1, 1) < 0) _exit(2);
        wait_for(start("write", ""), "the daemon's helper");
        if (write(said[1], checks_failed ? "n" : "y", 1) != 1) _exit(2);
        _exit(0);
    }
    close(said[1]);
    wait_for(child, "the one that becomes a daemon");
    check(read(said[0], &byte, 1) == 1 && byte == 'y', "the daemon's helper gets in");
    wait_for_orphan();
}

/* The same with a middle one that ends: by fork, so that the daemon is no child of one that has the image. */
static void helper_of_orphan(void)
{
    int said[2], go[2];
    char byte;
    if (pipe2(said, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0) exit(2);
    adopt_orphans();
    pid_t child = fork();
    if (child == 0) {
        open_image(O_RDWR | O_CLOEXEC, "the one in the middle");
        if (fork()) _exit(0);
        close(go[1]);
        if (read(go[0], &byte, 1) < 0) _exit(2);
        wait_for(start("write", ""), "the orphan's helper");
        if (write(said[1], checks_failed ? "n" : "y", 1) != 1) _exit(2);
        _exit(0);
    }
    wait_for(child, "the one in the middle");
    close(said[1]);
    close(go[1]);
    check(read(said[0], &byte, 1) == 1 && byte == 'y', "the orphan's helper gets in");
    wait_for_orphan();
}

static void write_to(void)
{
    open_image(O_RDWR | O_CLOEXEC, "a helper");
}

/* ---- threads beside children ---------------------------------------------------------------------------- */

static atomic_bool stop;
static bool may_be_refused; /* the threads: by a child that opened the image by itself */
static atomic_long opens;

/* Most that a thread opens goes to a child by chance. */
static void *open_and_close(void *unused)
{
    unsigned seed = (unsigned)(long)unused;
    while (!stop) {
        int descriptor = open(image, (rand_r(&seed) % 2 ? O_RDWR : O_RDONLY) | O_CLOEXEC);
        if (descriptor < 0 && may_be_refused) continue;
        if (!check(descriptor >= 0, "a thread opens the image")) break;
        close(descriptor);
        opens++;
    }
    return NULL;
}

/* Children that close what they inherited, open the image themselves or do not, and end in any way. */
static void threads_beside_children(pid_t (*fork_by)(void), bool children_open)
{
    may_be_refused = children_open;
    stop = false;
    opens = 0;
    enum { THREADS = 16, CHILDREN = 200 };
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, open_and_close, (void *)(i + 1));
    for (int i = 0; i < CHILDREN && !checks_failed; i++) {
        pid_t child = fork_by();
        if (child == 0) {
            if (i % 3 == 0) close_range(3, ~0U, 0);
            int descriptor = children_open ? open(image, i % 2 ? O_RDWR : O_RDONLY) : 0;
            if (i % 5 == 0) raise(SIGKILL);
            _exit(descriptor < 0);
        }
        int status;
        const pid_t ended = waitpid(child, &status, 0);
        check(ended == child && (status == 0 || status == SIGKILL), "a child ends with %#x", status);
    }
    stop = true;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    check(opens > THREADS, "the threads opened the image %ld times", (long)opens);
    check_lock("free", "all is closed");
}

static void threads_fork(void)
{
    threads_beside_children(fork, false);
    threads_beside_children(fork, true);
}

static void threads_raw_fork(void)
{
    threads_beside_children(_Fork, false);
    threads_beside_children(_Fork, true);
}

/* The threads open the image beside posix_spawn, whose child has for a moment all that they have open. */
static void threads_spawn(void)
{
    enum { THREADS = 16, CHILDREN = 100 };
    pthread_t threads[THREADS];
    char *words[] = {self, "reader", (char *)image, "", NULL};
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, open_and_close, (void *)(i + 1));
    for (int i = 0; i < CHILDREN && !checks_failed; i++) {
        pid_t child;
        char *no[] = {"LD_PRELOAD=", NULL};
        if (check(posix_spawn(&child, "/proc/self/exe", NULL, NULL, words, no) == 0, "posix_spawn"))
            wait_for(child, "a program without the library");
    }
    stop = true;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    check_lock("free", "all is closed");
}

/* ---- while a spawn is under way ------------------------------------------------------------------------- */

static pid_t spawned;

static void *spawn_sleeper(void *unused)
{
    char *words[] = {"sleep", "1000", NULL};
    check(posix_spawnp(&spawned, "sleep", NULL, NULL, words, environ) == 0, "posix_spawn");
    return unused;
}

/* An image that is opened for writing between the moment when posix_spawn is called and the clone stays the child's,
 * whatever is opened and closed here meanwhile.  relatives_spawn.so makes posix_spawn say when it is called, by a byte
 * on descriptor 101, and wait for one on 102 before it goes on. */
static void spawn_under_way(void)
{
    int called[2], go[2];
    char byte;
    pthread_t thread;
    if (pipe(called) < 0 || pipe(go) < 0 || dup2(called[1], 101) < 0 || dup2(go[0], 102) < 0) exit(2);
    for (int number = 101; number <= 102; number++) fcntl(number, F_SETFD, FD_CLOEXEC);
    pthread_create(&thread, NULL, spawn_sleeper, NULL);
    if (read(called[0], &byte, 1) != 1) exit(2);
    int descriptor = open_image(O_RDWR, "a thread");
    if (write(go[1], "x", 1) != 1) exit(2);
    pthread_join(thread, NULL);
    int other = open_image(O_RDONLY | O_CLOEXEC, "the parent");
    close(descriptor);
    check_lock("exclusive", "the child has it for writing, and the parent for reading");
    close(other);
    check_lock("exclusive", "the child has it for writing");
    kill(spawned, SIGKILL);
    waitpid(spawned, NULL, 0);
    check_lock("free", "the child has ended");
}

/* ---- beside a parent that changes all the time ----------------------------------------------------------- */

/* A child that tries so often to write to the image, and ends with 1 when it gets in. */
static pid_t start_writer(int attempts)
{
    const pid_t child = fork();
    if (child) return child;
    while (attempts-- > 0)
        if (open(image, O_RDWR | O_CLOEXEC) >= 0) _exit(1);
    _exit(0);
}

/* A stranger has the image.  The parent puts now its lock file, now another file that it has locked, under one number;
 * the child is refused each time all the same. */
static void shuffle(void)
{
    enum { NUMBER = 100, ATTEMPTS = 25 };
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 2};
    const int files[] = {open(getenv("LOCK_FILE"), O_RDWR | O_CLOEXEC),
                         open("another", O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    check(files[0] >= 0 && files[1] >= 0 && fcntl(files[1], F_OFD_SETLK, &lock) == 0, "the two files");
    const pid_t child = start_writer(ATTEMPTS);
    int status = 0;
    for (unsigned i = 0; waitpid(child, &status, WNOHANG) == 0; i++) dup2(files[i % 2], NUMBER);
    check(status == 0, "the child is refused");
}

/* ---- tasks that share descriptors ----------------------------------------------------------------------- */

static int open_and_close_once(void *unused)
{
    (void)unused;
    int descriptor = open(image, O_RDWR | O_CLOEXEC);
    return descriptor < 0 || close(descriptor) < 0;
}

static int open_and_leave(void *unused)
{
    (void)unused;
    return open(image, O_RDWR | O_CLOEXEC) < 0;
}

/* clone(CLONE_VM|CLONE_FILES) without CLONE_THREAD: another pid, the same descriptors and the same memory. */
static void shared_files(void)
{
    static char stack[256 * 1024] __attribute__((aligned(16)));
    int (*const tasks[])(void *) = {open_and_close_once, open_and_leave};
    for (int i = 0; i < 2; i++) {
        pid_t task = clone(tasks[i], stack + sizeof stack, CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD, NULL);
        wait_for(task, "the task");
        check_lock(i ? "exclusive" : "free", "the task has opened it%s", i ? "" : " and closed it");
    }
    close_range(3, ~0U, 0);
    check_lock("free", "all is closed");
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"workers-write", workers_write}, /* COUNT */
        {"workers-read", workers_read},   /* COUNT */
        {"nest", nest},                   /* GENERATIONS */
        {"siblings", siblings},           /* ROUNDS */
        {"meet", meet},                   /* one of them */
        {"reader", reader},
        {"write", write_to},
        {"raised-and-kept", raised_and_kept},
        {"raised-and-ended", raised_and_ended},
        {"raised-and-closed", raised_and_closed},
        {"raised-by-parent", raised_by_parent},
        {"raised-after-child", raised_after_child},
        {"raised-beside-child", raised_beside_child},
        {"helper-of-daemon", helper_of_daemon},
        {"helper-of-orphan", helper_of_orphan},
        {"threads-fork", threads_fork},
        {"threads-raw-fork", threads_raw_fork},
        {"threads-spawn", threads_spawn},
        {"spawn-under-way", spawn_under_way},
        {"shared-files", shared_files},
        {"shuffle", shuffle},
    };
    if (argc < 3) return 2;
    self = argv[0];
    image = argv[2];
    argument = argc > 3 ? argv[3] : "";
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
