#include "watcher.h"

#include <string.h>

#include "lock.h"
#include "realpath.h"
#include "section.h"
#include "sys.h"
#include "table.h"

static int watcher = -1;
static int watched = -1; /* what it watches still */

/* Is it still ours?  The program may have closed the number by a system call of its own, and what it opened there since
 * must not be read from. */
static bool is_inotify(int descriptor)
{
    static const char expected[] = "anon_inode:inotify";
    char link[32], kind[sizeof expected];
    realpath_descriptor_link(descriptor, link);
    return sys_readlinkat(AT_FDCWD, link, kind, sizeof kind) == (ssize_t)sizeof expected - 1 &&
           memcmp(kind, expected, sizeof expected - 1) == 0;
}

void watcher_unwatch(void)
{
    SECTION_ASSERT();
    if (__builtin_expect(watched < 0, 1)) return;
    if (watcher >= 0) lock_wait_unwatch(watcher, watched);
    watched = -1;
}

/* Takes the instance out of the table; -1: what is there is not ours any more. */
static int take_out(void)
{
    int taken = watcher;
    watcher = -1;
    if (taken < 0 || table_entry(taken) != table_make(TABLE_PRIVATE, true, 0)) return -1;
    table_set(taken, 0);
    return is_inotify(taken) ? taken : -1;
}

int watcher_take(void)
{
    SECTION_ASSERT();
    int taken = take_out();
    if (taken >= 0 && watched >= 0) lock_wait_unwatch(taken, watched);
    watched = -1;
    return taken;
}

void watcher_abandon(void)
{
    SECTION_ASSERT();
    /* Two who read from one instance take each other's events. */
    int parents = take_out();
    if (parents >= 0) sys_close(parents);
    watched = -1;
}

bool watcher_is_there(void)
{
    return watcher >= 0;
}

bool watcher_is(int descriptor)
{
    return descriptor == watcher;
}

void watcher_park(int inotify, int watch)
{
    SECTION_ASSERT();
    watcher = inotify;
    watched = watch;
}

void watcher_move(int inotify)
{
    SECTION_ASSERT();
    watcher = inotify;
}
