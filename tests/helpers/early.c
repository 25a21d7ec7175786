// link: -shared -fPIC
/* early.c: a library to preload beside imglock.  It opens IMAGE in its constructor, before imglock's own when that
 * comes later, keeps it to the program's end, and opens and closes it again in an exit handler and in its destructor.
 */
#include "check.h"

static int held;

static void say(const char *line)
{
    if (write(1, line, strlen(line)) < 0) _exit(8);
}

static void open_and_close(const char *where)
{
    int descriptor = open(getenv("IMAGE"), O_RDWR);
    check(descriptor >= 0, "open in the %s", where);
    check_lock("exclusive", "open in the %s", where);
    int copy = dup(descriptor);
    check(close(descriptor) == 0, "close in the %s", where);
    check_lock("exclusive", "a copy in the %s", where);
    check(close(copy) == 0, "close of a copy in the %s", where);
}

/* glibc runs a library's destructor before what it gave to atexit. */
static void at_exit(void)
{
    open_and_close("exit handler");
    check_lock("free", "all closed in the exit handler");
    say("exit handler\n");
    if (checks_failed) _exit(9);
}

__attribute__((constructor)) static void begin(void)
{
    open_and_close("constructor");
    check_lock("free", "all closed in the constructor");
    held = open(getenv("IMAGE"), O_RDWR | O_CLOEXEC);
    check_lock("exclusive", "the constructor's open");
    atexit(at_exit);
    say("constructor\n");
}

__attribute__((destructor)) static void end(void)
{
    check_lock("exclusive", "the constructor's open at the end");
    close(held);
    check_lock("free", "the last close in the destructor");
    open_and_close("destructor");
    check_lock("free", "all closed in the destructor");
    say("destructor\n");
}
