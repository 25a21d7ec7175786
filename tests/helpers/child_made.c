/* child_made.c: child_made WAY IMAGE: the image is opened for writing and for reading while a child is being made, and
 * the first is closed then: the child has both, and writes.  child_hook.c calls in between. */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static const char *image;
static int writing = -1, reading = -1;
static int input[2]; /* the child ends when there is no more of it */
static char command[64];

static void open_meanwhile(void)
{
    writing = open(image, O_RDWR);
    reading = open(image, O_RDONLY);
    check(writing >= 0 && reading >= 0, "the opens");
}

static int live(void *unused)
{
    char byte;
    (void)unused;
    close(input[1]);
    _exit(read(input[0], &byte, 1) != 0);
}

static void by_spawn(void)
{
    char *const arguments[] = {(char *)"sh", (char *)"-c", command, NULL};
    pid_t child;
    check(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0, "posix_spawn");
}

static void by_spawnp(void)
{
    char *const arguments[] = {(char *)"sh", (char *)"-c", command, NULL};
    pid_t child;
    check(posix_spawnp(&child, "sh", NULL, NULL, arguments, environ) == 0, "posix_spawnp");
}

static void by_system(void)
{
    strcat(command, " &");
    check(system(command) == 0, "system");
}

static void by_popen(void)
{
    check(popen(command, "r") != NULL, "popen");
}

static void by_Fork(void)
{
    if (_Fork() == 0) live(NULL);
}

static void by_clone(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    check(clone(live, stack + sizeof stack, SIGCHLD, NULL) > 0, "clone");
}

static void by_syscall(void)
{
    if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0) live(NULL);
}

/* The child of vfork is in its parent's memory until it runs another program, while other threads go on. */
static int told[2];

static void *close_beside_child(void *unused)
{
    char byte;
    check(read(told[0], &byte, 1) == 1, "no word from the child");
    close(writing);
    check_lock("exclusive", "vfork: the child writes");
    close(input[1]);
    return unused;
}

static pid_t vfork_and_live(void)
{
    pid_t child = vfork();
    if (child == 0) {
        if (write(told[1], "x", 1) != 1) _exit(2);
        live(NULL);
    }
    return child;
}

static void beside_vfork(void)
{
    pthread_t thread;
    open_meanwhile();
    if (pipe(told) < 0 || pthread_create(&thread, NULL, close_beside_child, NULL) != 0) exit(2);
    pid_t child = vfork_and_live();
    pthread_join(thread, NULL);
    waitpid(child, NULL, 0);
    close(reading);
    check_lock("free", "vfork: all is closed");
    exit(checked());
}

int main(int argc, char **argv)
{
    static const struct test_case ways[] = {
        {"posix_spawn", by_spawn}, {"posix_spawnp", by_spawnp}, {"system", by_system},   {"popen", by_popen},
        {"_Fork", by_Fork},        {"clone", by_clone},         {"syscall", by_syscall}, {"vfork", beside_vfork},
    };
    if (argc != 3) return 2;
    image = argv[2];
    closefrom(3); /* whatever the test runner left open */
    void (**before_child)(void) = dlsym(RTLD_DEFAULT, "before_child");
    if (!before_child || pipe(input) < 0) return 2;
    fcntl(input[1], F_SETFD, FD_CLOEXEC);
    snprintf(command, sizeof command, "exec cat <&%d >/dev/null", input[0]);
    unsetenv("LD_PRELOAD");

    *before_child = open_meanwhile;
    run_case(ways, sizeof ways / sizeof *ways, argv[1]);
    check(writing >= 0, "nobody has called in between");
    close(writing);
    check_lock("exclusive", "%s: the child writes", argv[1]);
    close(reading);
    check_lock("exclusive", "%s: the child still writes", argv[1]);
    close(input[1]);
    await_free_lock("the child has ended");
    return checked();
}
