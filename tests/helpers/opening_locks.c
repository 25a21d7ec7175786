/* opening_locks.c: opening_locks CASE FILE: record locks of the program's own (F_SETLK), and what opens do to them. The
 * kernel drops them with any descriptor of the file that is closed; so the library must close none.
 *
 *   refused   the file is locked through one descriptor and opened for writing in many ways, each of them refused
 *   looked    the same where none is refused, and the descriptors are left open
 *   exec      the file is locked through a descriptor for writing alone; then the program executes itself with what
 *             CHILD_PRELOAD names, and looks
 */
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "check.h"

static const char *file;
static int locked; /* the descriptor that has the lock */

/* Does another process see the lock, and whose is it? */
static bool is_locked(pid_t owner)
{
    pid_t child = fork();
    if (child == 0) {
        struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        _exit(fcntl(locked, F_GETLK, &range) == 0 && range.l_type != F_UNLCK && range.l_pid == owner ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status == 0;
}

static void lock(int flags, short type)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET};
    locked = open(file, flags);
    check(locked >= 0 && fcntl(locked, F_SETLK, &range) == 0, "F_SETLK");
    check(is_locked(getpid()), "the lock is not there to begin with");
}

static void check_open(const char *how, int descriptor, bool refused)
{
    check((descriptor < 0) == refused, "%s: %d", how, descriptor);
    check(is_locked(getpid()), "%s: the lock is lost", how);
}

static void open_in_many_ways(bool refused)
{
    struct open_how how = {.flags = O_RDWR};
    check_open("O_WRONLY", open(file, O_WRONLY), refused);
    check_open("O_RDWR", open(file, O_RDWR), refused);
    check_open("O_RDWR|O_CREAT", open(file, O_RDWR | O_CREAT, 0600), refused);
    check_open("O_WRONLY|O_APPEND", openat(AT_FDCWD, file, O_WRONLY | O_APPEND), refused);
    check_open("openat2", (int)syscall(SYS_openat2, AT_FDCWD, file, &how, sizeof how), refused);
    FILE *stream = fopen(file, "r+");
    check_open("fopen r+", stream ? fileno(stream) : -1, refused);
    stream = fopen(file, "a");
    check_open("fopen a", stream ? fileno(stream) : -1, refused);
    if (refused) {
        check_open("O_WRONLY|O_TRUNC", open(file, O_WRONLY | O_TRUNC), true);
        check_open("creat", creat(file, 0600), true);
        stream = freopen(file, "w", stdin);
        check_open("freopen w", stream ? fileno(stream) : -1, true);
    }
    int handle = open(file, O_PATH);
    close(handle);
    check(is_locked(getpid()), "O_PATH: the lock is lost");
}

static void try_refused(void)
{
    lock(O_RDONLY, F_RDLCK);
    open_in_many_ways(true);
}

static void try_looked(void)
{
    lock(O_RDWR, F_WRLCK);
    open_in_many_ways(false);
}

/* There is no descriptor that the library could read through. */
static void try_unreadable(void)
{
    lock(O_WRONLY, F_WRLCK);
    open_in_many_ways(false);
}

static void try_exec(void)
{
    lock(O_WRONLY, F_WRLCK);
    char number[16];
    snprintf(number, sizeof number, "%d", locked);
    setenv("LOCKED", number, 1);
    setenv("LD_PRELOAD", getenv("CHILD_PRELOAD"), 1);
    execl("/proc/self/exe", "opening_locks", "after-exec", file, NULL);
    check(false, "exec");
}

static void try_after_exec(void)
{
    locked = atoi(getenv("LOCKED"));
    check(is_locked(getpid()), "the lock that came through exec is lost");
}

static const struct test_case cases[] = {{"refused", try_refused},
                                         {"looked", try_looked},
                                         {"unreadable", try_unreadable},
                                         {"exec", try_exec},
                                         {"after-exec", try_after_exec}};

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    file = argv[2];
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
