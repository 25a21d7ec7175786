#include "lock_list.h"

#include <fcntl.h>
#include <string.h>

#include "sys.h"

/* A page of rows, and one byte to end the last.  The kernel fills one page a reading, more only for a row with so many
 * waiters that it does not fit into one.  What came in one reading of less than half a page is the whole list: the next
 * row, were there one, would have come with it or by a second reading. */
enum { PAGE = 4096, SHORT = PAGE / 2, READINGS = 24, ENOUGH = 4 };

/* Mapped: a handler's stack may be small. */
struct list {
    void (*visit)(const struct fdinfo_lock *lock, void *argument, struct lock_counts *counts);
    void *argument;
    struct lock_counts now;
    int before[READINGS]; /* of[0] */
    char bytes[PAGE + 1];
};

static bool count_row(const struct fdinfo_lock *lock, void *argument)
{
    struct list *list = argument;
    list->visit(lock, list->argument, &list->now);
    return true;
}

/* 1: all of it was of one moment; 0: it was not; or -errno. */
static int read_once(struct list *list)
{
    memset(&list->now, 0, sizeof list->now);
    const int descriptor = sys_openat(AT_FDCWD, "/proc/locks", O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return descriptor;
    const int length = fdinfo_each_row(descriptor, list->bytes, sizeof list->bytes, count_row, list);
    sys_close(descriptor);
    return length < 0 ? length : length < SHORT;
}

/* Has the count of the last reading come so often that it is no accident? */
static bool came_often(const struct list *list, int readings)
{
    int same = 1;
    for (int i = 0; i < readings; i++) same += list->before[i] == list->now.of[0];
    return same >= ENOUGH;
}

/* Whoever locks and unlocks without pause waits for each page to be read, and goes on in step with the reading, which
 * then misses the same locks each time. */
static void fall_out_of_step(void)
{
    enum { LEAST_NS = 50 * 1000, MOST_MORE_NS = 256 * 1000 };
    sys_sleep(LEAST_NS + sys_monotonic() % MOST_MORE_NS);
}

static bool count(struct list *list)
{
    for (int reading = 0; reading < READINGS; reading++) {
        if (reading) fall_out_of_step();
        const int at_once = read_once(list);
        if (at_once < 0) return false;
        if (at_once || came_often(list, reading)) return true;
        list->before[reading] = list->now.of[0];
    }
    return false;
}

bool lock_list_count(void (*visit)(const struct fdinfo_lock *lock, void *argument, struct lock_counts *counts),
                     void *argument, struct lock_counts *counts)
{
    struct list *list = sys_mmap(sizeof *list);
    if (!list) return false;
    list->visit = visit;
    list->argument = argument;
    const bool told = count(list);
    *counts = list->now;
    sys_munmap(list, sizeof *list);
    return told;
}
