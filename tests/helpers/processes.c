/* processes.c: processes CASE IMAGE [COMMAND...]: the lock is there while any process has the image, and gone with the
 * last.  LOCK_FILE names the image's lock file. */
#include "check.h"
#include "symbols.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

static const char *image;
static char **command;
static char *self;

static int open_image(int flags)
{
    int descriptor = open(image, flags);
    check(descriptor >= 0, "open of the image gives %d", descriptor);
    check_lock((flags & O_ACCMODE) == O_RDONLY ? "shared" : "exclusive", "open");
    return descriptor;
}

static void wait_for(pid_t child, int expected)
{
    int status;
    pid_t ended = waitpid(child, &status, 0);
    check(ended == child && WIFEXITED(status) && WEXITSTATUS(status) == expected, "the child ends with %#x", status);
}

/* ---- fork ------------------------------------------------------------------------------------------------ */

/* A child that does what it is told through a pipe: one letter, one answer. */
struct helper {
    pid_t process;
    int orders;
    int answers;
};

static void obey(int orders, int answers, int descriptor)
{
    char order;
    while (read(orders, &order, 1) == 1) {
        if (order == 'c') close(descriptor);
        if (order == 'a') close_range(3, (unsigned)(orders < answers ? orders : answers) - 1, 0);
        if (order == 'd') dup2(0, descriptor);
        if (order == 'o') open(image, O_RDWR);
        if (order == 'r') open(image, O_RDONLY);
        if (write(answers, &order, 1) != 1) break;
    }
    _exit(checked());
}

static struct helper make_helper(pid_t (*fork_by)(void), int descriptor)
{
    int orders[2], answers[2];
    struct helper helper = {0};
    if (pipe(orders) < 0 || pipe(answers) < 0) exit(2);
    /* Out of the way of close_range. */
    for (int i = 0; i < 2; i++) {
        int moved = fcntl(orders[i], F_DUPFD_CLOEXEC, 100);
        close(orders[i]);
        orders[i] = moved;
        moved = fcntl(answers[i], F_DUPFD_CLOEXEC, 100);
        close(answers[i]);
        answers[i] = moved;
    }
    helper.process = fork_by();
    if (helper.process == 0) {
        close(orders[1]);
        close(answers[0]);
        obey(orders[0], answers[1], descriptor);
    }
    close(orders[0]);
    close(answers[1]);
    helper.orders = orders[1];
    helper.answers = answers[0];
    return helper;
}

static void tell(const struct helper *helper, char order)
{
    char answer = 0;
    if (write(helper->orders, &order, 1) != 1 || read(helper->answers, &answer, 1) != 1 || answer != order)
        check(false, "the child does not answer to %c", order);
}

static void end_helper(const struct helper *helper)
{
    close(helper->orders);
    wait_for(helper->process, 0);
    close(helper->answers);
}

static pid_t raw_clone(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

#ifdef SYS_fork
static pid_t raw_fork(void)
{
    return (pid_t)syscall(SYS_fork);
}
#else
#define raw_fork raw_clone
#endif

static pid_t raw_clone3(void)
{
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

static void for_every_fork(void (*run)(const char *name, pid_t (*fork_by)(void)))
{
    run("fork", fork);
    run("_Fork", _Fork);
    run("syscall(SYS_fork)", raw_fork);
    run("syscall(SYS_clone)", raw_clone);
}

static void parent_first(const char *name, pid_t (*fork_by)(void))
{
    int descriptor = open_image(O_RDWR);
    struct helper helper = make_helper(fork_by, descriptor);
    close(descriptor);
    check_lock("exclusive", "%s: the child has it", name);
    tell(&helper, 'c');
    check_lock("free", "%s: the child has closed it", name);
    end_helper(&helper);
}

static void child_first(const char *name, pid_t (*fork_by)(void))
{
    static const char ways[] = "cad";
    for (const char *way = ways; *way; way++) {
        int descriptor = open_image(O_RDWR);
        struct helper helper = make_helper(fork_by, descriptor);
        tell(&helper, *way);
        check_lock("exclusive", "%s, %c: the parent has it", name, *way);
        end_helper(&helper);
        check_lock("exclusive", "%s, %c: the child has ended", name, *way);
        close(descriptor);
        check_lock("free", "%s, %c: the parent has closed it", name, *way);
    }
}

static void child_ends_without_close(const char *name, pid_t (*fork_by)(void))
{
    int descriptor = open_image(O_RDWR);
    struct helper helper = make_helper(fork_by, descriptor);
    end_helper(&helper);
    check_lock("exclusive", "%s: the child has ended", name);
    helper = make_helper(fork_by, descriptor);
    close(descriptor);
    kill(helper.process, SIGKILL);
    waitpid(helper.process, NULL, 0);
    check_lock("free", "%s: the child was killed", name);
    close(helper.orders);
    close(helper.answers);
}

/* The child opens the image again: it is no stranger to its own lock.  And one process never weakens what the other
 * may need. */
static void child_opens_again(const char *name, pid_t (*fork_by)(void))
{
    int descriptor = open_image(O_RDWR);
    struct helper helper = make_helper(fork_by, descriptor);
    tell(&helper, 'r');
    tell(&helper, 'o');
    tell(&helper, 'c');
    check_lock("exclusive", "%s: the child opened it again", name);
    close(descriptor);
    check_lock("exclusive", "%s: the child still has its own", name);
    end_helper(&helper);
    check_lock("free", "%s: both are gone", name);

    /* Only a reader is left in the child, which knows nothing of the parent's writer. */
    descriptor = open_image(O_RDWR);
    helper = make_helper(fork_by, descriptor);
    tell(&helper, 'r');
    tell(&helper, 'c');
    check_lock("exclusive", "%s: the parent writes", name);
    end_helper(&helper);
    check_lock("exclusive", "%s: the parent still writes", name);
    close(descriptor);
    check_lock("free", "%s: the parent is done", name);

    int reading = open_image(O_RDONLY);
    helper = make_helper(fork_by, reading);
    tell(&helper, 'o');
    check_lock("exclusive", "%s: the child writes", name);
    close(reading);
    check_lock("exclusive", "%s: the child still writes", name);
    end_helper(&helper);
    check_lock("free", "%s: no lock is left", name);
}

/* A lock that two processes have stays as it is, whatever one of them wants more: that ends with who wanted it. */
static void raised_in_child(const char *name, pid_t (*fork_by)(void))
{
    int descriptor = open_image(O_RDONLY);
    struct helper helper = make_helper(fork_by, descriptor);
    tell(&helper, 'o');
    check_lock("exclusive", "%s: the child writes", name);
    check(!getenv("LOCK_FILE") || strcmp(lock_state_at(getenv("LOCK_FILE"), 0, 2), "shared") == 0,
          "%s: the parent's own lock is raised", name);
    end_helper(&helper);
    check_lock("shared", "%s: the child has ended", name);

    /* And the next child, which has nothing but what it got, is not in the parent's way. */
    helper = make_helper(fork_by, descriptor);
    close(descriptor);
    descriptor = open(image, O_RDONLY);
    check(descriptor >= 0, "%s: the parent may not read beside a child that reads", name);
    close(descriptor);
    end_helper(&helper);
    check_lock("free", "%s: all have ended", name);
}

static void raised_in_parent(const char *name, pid_t (*fork_by)(void))
{
    int reading = open_image(O_RDONLY);
    struct helper helper = make_helper(fork_by, reading);
    int writing = open(image, O_RDWR);
    check(writing >= 0, "%s: the parent may not write beside a child that has nothing but its reader", name);
    check_lock("exclusive", "%s: the parent writes", name);
    tell(&helper, 'c');
    check_lock("exclusive", "%s: the parent writes, the child has closed", name);
    close(writing);
    check_lock("shared", "%s: the parent reads", name);
    close(reading);
    check_lock("free", "%s: the parent has closed", name);
    end_helper(&helper);
}

static void parents_end_first(void)
{
    for_every_fork(parent_first);
}

static void children_end_first(void)
{
    for_every_fork(child_first);
    for_every_fork(child_ends_without_close);
}

static void children_open_again(void)
{
    for_every_fork(child_opens_again);
}

/* A child that writes for a moment, as one does before it runs another program, is not in its parent's way. */
static void children_for_a_moment(void)
{
    enum { ROUNDS = 200 };
    int told[2];
    char byte = 'x';
    int reading = open_image(O_RDONLY);
    if (pipe(told) < 0) exit(2);
    for (int i = 0; i < ROUNDS && !checks_failed; i++) {
        pid_t child = fork();
        if (child == 0) {
            int writing = open(image, O_RDWR);
            if (write(told[1], &byte, 1) != 1) _exit(2);
            close(writing);
            _exit(writing < 0);
        }
        check(read(told[0], &byte, 1) == 1, "no word from the child");
        int writing = open(image, O_RDWR);
        check(writing >= 0, "round %d: the parent may not write", i);
        close(writing);
        wait_for(child, 0);
    }
    close(reading);
    check_lock("free", "all is closed");
}

static void raised_by_children(void)
{
    for_every_fork(raised_in_child);
}

static void raised_by_parents(void)
{
    for_every_fork(raised_in_parent);
}

static void generations(void)
{
    int descriptor = open_image(O_RDWR);
    int orders[2], answers[2];
    char byte = 'x';
    if (pipe(orders) < 0 || pipe(answers) < 0) exit(2);
    for (int i = 0; i < 5; i++) {
        if (fork() == 0) continue;
        if (i > 0) _exit(0); /* the ones in between go at once */
        close(descriptor);
        close(answers[1]);
        check(read(answers[0], &byte, 1) == 1, "no word from the last child");
        check_lock("exclusive", "the last child has it");
        close(orders[0]);
        close(orders[1]);
        check(read(answers[0], &byte, 1) == 0, "more words from the last child");
        await_free_lock("the last child has ended");
        return;
    }
    close(orders[1]);
    if (write(answers[1], &byte, 1) != 1) _exit(1);
    _exit(read(orders[0], &byte, 1) == 0 ? 0 : 1);
}

/* daemon(3): the parent ends inside libc. */
static void become_daemon(void)
{
    int descriptor = open_image(O_RDWR);
    int orders[2], answers[2];
    char byte;
    if (pipe(orders) < 0 || pipe(answers) < 0) exit(2);
    pid_t child = fork();
    if (child == 0) {
        close(orders[1]);
        close(answers[0]);
        if (daemon(1, 1) < 0 || write(answers[1], "x", 1) != 1) _exit(1);
        _exit(read(orders[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(orders[0]);
    close(answers[1]);
    wait_for(child, 0);
    check(read(answers[0], &byte, 1) == 1, "no word from the daemon");
    close(descriptor);
    check_lock("exclusive", "the daemon has it");
    close(orders[1]);
    check(read(answers[0], &byte, 1) == 0, "the daemon goes on");
    await_free_lock("the daemon has ended");
}

/* daemon(3) and login_tty(3) put other files on 0, 1 and 2, inside libc. */
static void daemon_closes(void)
{
    int orders[2], answers[2];
    char byte;
    int descriptor = open_image(O_RDWR);
    if (pipe(orders) < 0 || pipe(answers) < 0) exit(2);
    pid_t child = fork();
    if (child == 0) {
        close(orders[1]);
        close(answers[0]);
        dup2(descriptor, 0);
        close(descriptor);
        if (daemon(1, 0) < 0 || write(answers[1], "x", 1) != 1) _exit(1);
        _exit(read(orders[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(descriptor);
    close(orders[0]);
    close(answers[1]);
    wait_for(child, 0); /* the one that called daemon(3), and had the image, too */
    check(read(answers[0], &byte, 1) == 1, "no word from the daemon");
    check_lock("free", "the daemon's input was the image, and is no more");
    close(orders[1]);
}

/* ---- the child is the first to open an image ------------------------------------------------------------- */

static void open_and_close(const char *who)
{
    int descriptor = open_image(O_RDWR);
    close(descriptor);
    check_lock("free", "%s has closed the image", who);
}

static void first_in_child(pid_t (*fork_by)(void))
{
    pid_t child = fork_by();
    if (child == 0) {
        open_and_close("the child");
        _exit(checked());
    }
    wait_for(child, 0);
    open_and_close("the parent");
}

static int first_in_clone(void *argument)
{
    (void)argument;
    open_and_close("the child");
    return checked();
}

static pid_t clone_with_stack(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    return clone(first_in_clone, stack + sizeof stack, SIGCHLD, NULL);
}

static void first_in_fork(void)
{
    first_in_child(fork);
}

static void first_in_Fork(void)
{
    first_in_child(_Fork);
}

static void first_in_raw_fork(void)
{
    first_in_child(raw_fork);
}

static void first_in_raw_clone(void)
{
    first_in_child(raw_clone);
}

static void first_in_raw_clone3(void)
{
    first_in_child(raw_clone3);
}

static void first_in_cloned(void)
{
    first_in_child(clone_with_stack);
}

/* ---- vfork, posix_spawn: children in our memory ---------------------------------------------------------- */

enum { VFORK_WAYS = 11 };

static void act_in_vfork(int way, int descriptor, int other)
{
    switch (way) {
    case 0:
        close(descriptor);
        break;
    case 1:
        close_range(3, ~0U, 0);
        break;
    case 2:
        closefrom(3);
        break;
    case 3:
        dup2(other, descriptor);
        break;
    case 4:
        dup2(descriptor, 30);
        break;
    case 5:
        open(image, O_RDWR);
        break;
    case 6:
        open(image, O_RDONLY | O_CLOEXEC);
        break;
    case 7:
        fcntl(descriptor, F_SETFD, FD_CLOEXEC);
        break;
    case 8:
        check(open("other.img", O_RDWR | O_CREAT, 0600) >= 0, "a new image in a vfork child");
        check(open("other.img", O_RDWR) >= 0, "the new image a second time");
        check(open("other.img", O_RDONLY) >= 0, "the new image a third time");
        check(open("other.img", O_RDWR) >= 0, "the new image a fourth time");
        other = private_descriptor_from(private_descriptor() + 1);
        check(other >= 0 && private_descriptor_from(other + 1) < 0, "it has not one lock for all four");
        break;
    case 9:
        check(open("other.img", O_RDONLY) >= 0, "a second image in a vfork child");
        check(open("other.img", O_RDWR) >= 0, "the second image once more, for writing");
        break;
    default:
        syscall(SYS_close, descriptor);
    }
    _exit(checked());
}

static pid_t vfork_and_act(int way, int descriptor, int other)
{
    pid_t child = vfork();
    if (child == 0) act_in_vfork(way, descriptor, other);
    return child;
}

static void vfork_children(void)
{
    int descriptor = open_image(O_RDWR);
    int other = open("/dev/null", O_RDONLY);
    for (int way = 0; way < VFORK_WAYS; way++) {
        wait_for(vfork_and_act(way, descriptor, other), 0);
        check_lock("exclusive", "vfork, way %d", way);
        check(fcntl(30, F_GETFD) < 0, "vfork, way %d: 30 is open", way);
    }
    int copy = dup(descriptor);
    close(descriptor);
    check_lock("exclusive", "a copy after vfork");
    close(copy);
    check_lock("free", "closed after vfork");
    check(private_descriptor() < 0, "a private descriptor is left");
    unlink("other.img");
}

enum { EXEC_WAYS = 9 };

static void become_true(int way)
{
    char *const arguments[] = {(char *)"true", NULL};
    if (way == 0) execl("/bin/true", "true", NULL);
    if (way == 1) execlp("true", "true", NULL);
    if (way == 2) execle("/bin/true", "true", NULL, environ);
    if (way == 3) execvp("true", arguments);
    if (way == 4) execvpe("true", arguments, environ);
    if (way == 5) execv("/bin/true", arguments);
    if (way == 6) execveat(AT_FDCWD, "/bin/true", arguments, environ, 0);
    if (way == 7) fexecve(open("/bin/true", O_RDONLY), arguments, environ);
    execve("/bin/true", arguments, environ);
    _exit(127);
}

static pid_t vfork_and_become_true(int way)
{
    pid_t child = vfork();
    if (child == 0) become_true(way);
    return child;
}

static void vfork_and_exec(void)
{
    for (int i = 0; i < 2; i++) {
        int descriptor = open_image(O_RDWR | (i ? O_CLOEXEC : 0));
        for (int way = 0; way < EXEC_WAYS; way++) {
            wait_for(vfork_and_become_true(way), 0);
            check_lock("exclusive", "vfork and exec, way %d", way);
        }
        close(descriptor);
        check_lock("free", "vfork and exec");
    }
}

static void wait_for_number(int by_number)
{
    siginfo_t end;
    check(waitid((idtype_t)3 /* P_PIDFD */, (id_t)by_number, &end, WEXITED) == 0 && end.si_status == 0,
          "the spawned child's end");
    close(by_number);
}

static void spawn(const posix_spawn_file_actions_t *actions)
{
    pid_t child;
    char *const arguments[] = {(char *)"true", NULL};
    int result = posix_spawn(&child, "/bin/true", actions, NULL, arguments, environ);
    if (check(result == 0, "posix_spawn gives %d", result)) wait_for(child, 0);
    result = posix_spawnp(&child, "true", actions, NULL, arguments, environ);
    if (check(result == 0, "posix_spawnp gives %d", result)) wait_for(child, 0);
    int by_number;
    if (libc_has("pidfd_spawn")) {
        result = pidfd_spawn(&by_number, "/bin/true", actions, NULL, arguments, environ);
        if (check(result == 0, "pidfd_spawn gives %d", result)) wait_for_number(by_number);
        result = pidfd_spawnp(&by_number, "true", actions, NULL, arguments, environ);
        if (check(result == 0, "pidfd_spawnp gives %d", result)) wait_for_number(by_number);
    }
    check_lock("exclusive", "after posix_spawn");
}

static void spawned_children(void)
{
    int descriptor = open_image(O_RDWR);
    posix_spawn_file_actions_t actions;
    spawn(NULL);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, descriptor);
    spawn(&actions);
#if __GLIBC_PREREQ(2, 34)
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    spawn(&actions);
#endif
    posix_spawn_file_actions_destroy(&actions);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, descriptor, 0);
    posix_spawn_file_actions_addopen(&actions, 5, "/dev/null", O_RDONLY, 0);
    spawn(&actions);
    posix_spawn_file_actions_destroy(&actions);
    check(system("exit 3") >> 8 == 3, "system");
    check_lock("exclusive", "after system");
    for (int i = 0; i < 2; i++) {
        FILE *stream = (i ? _IO_popen : popen)("exec 3>&-; echo x", "r");
        check(stream && fgetc(stream) == 'x' && pclose(stream) == 0, "popen");
        check_lock("exclusive", "after popen");
    }
    close(descriptor);
    check_lock("free", "closed");
}

static int in_clone(void *argument)
{
    close(*(int *)argument);
    closefrom(3);
    return 0;
}

static void cloned_children(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    static const int flags[] = {SIGCHLD, SIGCHLD | CLONE_VM | CLONE_VFORK, SIGCHLD | CLONE_VM};
    int descriptor = open_image(O_RDWR);
    for (int i = 0; i < 3; i++) {
        pid_t child = clone(in_clone, stack + sizeof stack, flags[i], &descriptor);
        check(child > 0, "clone");
        wait_for(child, 0);
        check_lock("exclusive", "clone with %#x", (unsigned)flags[i]);
    }
    close(descriptor);
    check_lock("free", "closed");
}

/* ---- tasks that share our memory and our descriptors ------------------------------------------------------- */

static int open_and_close_here(void *argument)
{
    (void)argument;
    int descriptor = open(image, O_RDWR | O_CLOEXEC);
    check_lock("exclusive", "the task has opened it");
    close(descriptor);
    check_lock("free", "the task has closed it");
    return 0;
}

static int close_here(void *argument)
{
    return close(*(int *)argument);
}

static int open_here(void *argument)
{
    *(int *)argument = open(image, O_RDWR);
    return 0;
}

static void run_task(int (*function)(void *), void *argument)
{
    static char stack[65536] __attribute__((aligned(16)));
    pid_t task = clone(function, stack + sizeof stack, CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD, argument);
    wait_for(task, 0);
}

/* They are no threads, and close and open for all as those do. */
static void sharing_tasks(void)
{
    run_task(open_and_close_here, NULL);
    check(private_descriptor() < 0, "the task has left a private descriptor");
    int descriptor = open_image(O_RDWR);
    run_task(close_here, &descriptor);
    check(fcntl(descriptor, F_GETFD) < 0, "it is open");
    check_lock("free", "a task has closed what we had opened");
    run_task(open_here, &descriptor);
    check_lock("exclusive", "the task that opened it has ended");
    close(descriptor);
    check_lock("free", "closed what a task had opened");
    check(private_descriptor() < 0, "a private descriptor is left");
}

/* An image that is handed to a spawned program, and closed here: it is the child's now.  The program is not wrapped and
 * cannot lock for itself: the lock has to come with the image. */
static void spawned_with_image(void)
{
    for (int i = 0; i < 2; i++) {
        int orders[2], answers[2];
        if (pipe2(orders, O_CLOEXEC) < 0 || pipe2(answers, O_CLOEXEC) < 0) exit(2);
        int descriptor = open_image(O_RDWR | (i ? O_CLOEXEC : 0));
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, descriptor, 30);
        posix_spawn_file_actions_adddup2(&actions, orders[0], 0);
        posix_spawn_file_actions_adddup2(&actions, answers[1], 1);
        char *const arguments[] = {(char *)"cat", NULL};
        char *const bare[] = {NULL};
        pid_t child;
        int result = posix_spawn(&child, "/bin/cat", &actions, NULL, arguments, bare);
        check(result == 0, "posix_spawn gives %d", result);
        char byte = 'x';
        if (write(orders[1], &byte, 1) != 1 || read(answers[0], &byte, 1) != 1) check(false, "no word from cat");
        close(descriptor);
        check_lock("exclusive", "the spawned program has the image, %s", i ? "close-on-exec here" : "inherited");
        for (int end = 0; end < 2; end++) close(orders[end]);
        wait_for(child, 0);
        check_lock("free", "the spawned program has ended");
        for (int end = 0; end < 2; end++) close(answers[end]);
        posix_spawn_file_actions_destroy(&actions);
    }
}

/* ---- exec ------------------------------------------------------------------------------------------------ */

/* Opens as the case says and becomes COMMAND, which looks at the lock; with BARE=1, as a program that is not wrapped.
 */
static void become_command(void)
{
    if (getenv("BARE")) unsetenv("LD_PRELOAD");
    execvp(command[0], command);
    perror(command[0]);
    exit(2);
}

static void exec_plain(void)
{
    open_image(O_RDWR);
    become_command();
}

static void exec_close_on_exec(void)
{
    open_image(O_RDWR | O_CLOEXEC);
    become_command();
}

static void exec_setfd(void)
{
    fcntl(open_image(O_RDWR), F_SETFD, FD_CLOEXEC);
    become_command();
}

static void exec_clearfd(void)
{
    fcntl64(open_image(O_RDWR | O_CLOEXEC), F_SETFD, 0);
    become_command();
}

static void exec_fioclex(void)
{
    ioctl(open_image(O_RDWR), FIOCLEX);
    become_command();
}

static void exec_fionclex(void)
{
    ioctl(open_image(O_RDWR | O_CLOEXEC), FIONCLEX);
    become_command();
}

static void exec_copy(void)
{
    check(dup(open_image(O_RDWR | O_CLOEXEC)) >= 0, "dup");
    become_command();
}

static void exec_copy_close_on_exec(void)
{
    int descriptor = open_image(O_RDWR);
    dup3(descriptor, 30, O_CLOEXEC);
    fcntl(descriptor, F_DUPFD_CLOEXEC, 40);
    close(descriptor);
    become_command();
}

static void exec_close_range(void)
{
    open_image(O_RDWR);
    close_range(3, ~0U, 1U << 2);
    become_command();
}

static void exec_stream(void)
{
    check(fopen(image, "r+") != NULL, "fopen");
    become_command();
}

static void exec_stream_close_on_exec(void)
{
    check(fopen(image, "r+e") != NULL, "fopen");
    become_command();
}

static void exec_vfork_copy(void)
{
    /* As dash and Python do it: close-on-exec in the parent, copied without in the child. */
    int descriptor = open_image(O_RDWR | O_CLOEXEC);
    if (getenv("BARE")) unsetenv("LD_PRELOAD");
    pid_t child = vfork();
    if (child == 0) {
        dup2(descriptor, 30);
        execvp(command[0], command);
        _exit(127);
    }
    close(descriptor);
    wait_for(child, 0);
}

/* A failed exec changes nothing. */
static void exec_fails(void)
{
    int descriptor = open_image(O_RDWR);
    char *const arguments[] = {(char *)"x", NULL};
    check(execv("/nowhere/x", arguments) == -1 && errno == ENOENT, "execv");
    check(execvp("no-such-program", arguments) == -1 && errno == ENOENT, "execvp");
    check(execl("/", "x", NULL) == -1 && errno == EACCES, "execl");
    check_lock("exclusive", "exec has failed");
    close(descriptor);
    check_lock("free", "closed");
}

/* After exec: the image came on the descriptor that the environment names. */
static void came_through_exec(void)
{
    int descriptor = atoi(getenv("IMAGE_FD") ? getenv("IMAGE_FD") : "3");
    check_lock("exclusive", "it came with exec");
    int copy = dup(descriptor);
    check(copy >= 0, "the image did not come on %d", descriptor);
    close(descriptor);
    check_lock("exclusive", "a copy is left");
    int again = open(image, O_RDWR);
    check(again >= 0, "a second open");
    close(copy);
    check_lock("exclusive", "a second open is left");
    close(again);
    await_free_lock("all is closed"); /* by the one that started us, too */
}

/* ---- descendants ----------------------------------------------------------------------------------------- */

/* Starts this program anew as a helper that opens the image with flags and waits.  True: it has it. */
static bool start_opener(struct helper *helper, const char *mode)
{
    int orders[2], answers[2];
    if (pipe2(orders, O_CLOEXEC) < 0 || pipe2(answers, O_CLOEXEC) < 0) exit(2);
    helper->process = fork();
    if (helper->process == 0) {
        closefrom(400);
        dup2(orders[0], 0);
        dup2(answers[1], 1);
        execl(self, self, "opener", image, mode, NULL);
        _exit(127);
    }
    close(orders[0]);
    close(answers[1]);
    helper->orders = orders[1];
    helper->answers = answers[0];
    char answer;
    return read(helper->answers, &answer, 1) == 1 && answer == 'y';
}

static void raiser(void);

static void opener(void)
{
    if (strcmp(command[0], "raise") == 0) raiser();
    int descriptor = open(image, strcmp(command[0], "read") == 0 ? O_RDONLY : O_RDWR);
    char byte = descriptor >= 0 ? 'y' : 'n';
    if (write(1, &byte, 1) == 1)
        while (read(0, &byte, 1) == 1) continue;
    exit(0);
}

/* The child raises the lock that it shares with its parent, and tells so; told by a byte, the parent tries the same. */
static void raiser(void)
{
    char byte;
    int reading = open(image, O_RDONLY);
    pid_t child = fork();
    if (child == 0) {
        byte = reading >= 0 && open(image, O_RDWR) >= 0 ? 'y' : 'n';
        if (write(1, &byte, 1) == 1) pause();
    }
    if (read(0, &byte, 1) == 1) {
        byte = open(image, O_RDWR) >= 0 ? 'y' : 'n';
        if (write(1, &byte, 1) == 1) check(read(0, &byte, 1) == 0, "a second order");
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    exit(checked());
}

/* Two processes have one open file description, and one of them has raised the lock: the other's try to do so, which
 * meets somebody, does not lower it. */
static void raised_by_sibling(void)
{
    struct helper helper;
    char answer;
    int descriptor = open_image(O_RDWR | O_CLOEXEC);
    check(start_opener(&helper, "raise"), "a descendant may not write");
    /* The ancestor goes, and one who knows nothing of families and leaves no record comes. */
    close(descriptor);
    struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 2};
    int stranger = open(getenv("LOCK_FILE"), O_RDWR | O_CLOEXEC);
    check(fcntl(stranger, F_OFD_SETLK, &range) == 0, "bytes 0-1 are not free");
    check(write(helper.orders, "", 1) == 1 && read(helper.answers, &answer, 1) == 1 && answer == 'n',
          "a second writer beside a stranger who reads");
    check_lock("exclusive", "a second writer was refused");
    close(stranger);
    end_helper(&helper);
    check_lock("free", "the family has ended");
}

static void one_family(void)
{
    struct helper first, second, third;
    int descriptor = open_image(O_RDWR | O_CLOEXEC);
    check(start_opener(&first, "write"), "a child may not open what its parent holds");
    check(!start_opener(&second, "write"), "two children may write at once");
    check(!start_opener(&third, "read"), "a child may read beside one that writes");
    end_helper(&first);
    end_helper(&second);
    end_helper(&third);
    check(start_opener(&first, "read"), "a child may not read");
    check(start_opener(&second, "read"), "two children may not read");
    check(!start_opener(&third, "write"), "a child may write beside those that read");
    end_helper(&third);
    end_helper(&first);
    /* The parent closes, and its child is still at work. */
    close(descriptor);
    descriptor = open(image, O_RDWR | O_CLOEXEC);
    check(descriptor < 0, "the parent may write beside a child that reads");
    descriptor = open(image, O_RDONLY | O_CLOEXEC);
    check(descriptor >= 0, "the parent may not read beside a child that reads");
    end_helper(&second);
    close(descriptor);
    check_lock("free", "the family has ended");
}

/* A family of which the members do not know each other. */
static void no_family(void)
{
    struct helper first;
    int descriptor = open_image(O_RDWR | O_CLOEXEC);
    check(!start_opener(&first, "write"), "a child may open what its parent holds");
    end_helper(&first);
    close(descriptor);
    check(start_opener(&first, "write"), "a child may not open what nobody holds");
    end_helper(&first);
}

static int told[2];

static int open_in_space(void *stay)
{
    char opened = open(image, O_RDWR) >= 0;
    if (write(told[1], &opened, 1) != 1) _exit(1);
    if (stay) pause();
    _exit(0);
}

/* The first process of a PID namespace makes two namespaces more, and its children's pids are its own, 1. */
static void nested_spaces(void)
{
    static char stacks[2][65536];
    char opened = 0;
    pid_t children[2];
    close(open_image(O_RDWR));
    check(pipe(told) == 0, "a pipe");
    for (int i = 0; i < 2; i++) {
        children[i] = clone(open_in_space, stacks[i] + sizeof stacks[i], CLONE_NEWPID | SIGCHLD, i ? NULL : told);
        check(children[i] > 0 && read(told[0], &opened, 1) == 1, "a child");
        check(opened == !i, i ? "two strangers with the same pid may write at once" : "nobody has it");
    }
    kill(children[0], SIGKILL);
    for (int i = 0; i < 2; i++) waitpid(children[i], NULL, 0);
}

/* Opens, and waits for the end of its input: for the shell. */
static void hold_until_told(void)
{
    char byte;
    open_image(O_RDWR | O_CLOEXEC);
    if (write(1, "ready\n", 6) != 6) exit(1);
    while (read(0, &byte, 1) == 1) continue;
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"parent-first", parents_end_first},
        {"child-first", children_end_first},
        {"child-opens", children_open_again},
        {"child-raises", raised_by_children},
        {"parent-raises", raised_by_parents},
        {"child-for-a-moment", children_for_a_moment},
        {"generations", generations},
        {"first-in-fork", first_in_fork},
        {"first-in-_Fork", first_in_Fork},
        {"first-in-raw-fork", first_in_raw_fork},
        {"first-in-raw-clone", first_in_raw_clone},
        {"first-in-raw-clone3", first_in_raw_clone3},
        {"first-in-clone", first_in_cloned},
        {"daemon", become_daemon},
        {"daemon-closes", daemon_closes},
        {"vfork", vfork_children},
        {"vfork-exec", vfork_and_exec},
        {"spawn", spawned_children},
        {"spawn-image", spawned_with_image},
        {"clone", cloned_children},
        {"sharing-tasks", sharing_tasks},
        {"exec", exec_plain},
        {"exec-cloexec", exec_close_on_exec},
        {"exec-setfd", exec_setfd},
        {"exec-clearfd", exec_clearfd},
        {"exec-fioclex", exec_fioclex},
        {"exec-fionclex", exec_fionclex},
        {"exec-copy", exec_copy},
        {"exec-copy-cloexec", exec_copy_close_on_exec},
        {"exec-close_range", exec_close_range},
        {"exec-stream", exec_stream},
        {"exec-stream-cloexec", exec_stream_close_on_exec},
        {"exec-vfork-copy", exec_vfork_copy},
        {"exec-fails", exec_fails},
        {"after-exec", came_through_exec},
        {"opener", opener},
        {"family", one_family},
        {"raised-by-sibling", raised_by_sibling},
        {"no-family", no_family},
        {"nested-spaces", nested_spaces},
        {"hold", hold_until_told},
    };
    if (argc < 3) return 2;
    self = argv[0];
    image = argv[2];
    command = argv + 3;
    if (strcmp(argv[1], "after-exec") != 0) closefrom(3); /* whatever the test runner left open */
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
