#include "lock_list.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>

#include "sys.h"

/* The kernel fills one page a reading, and more only for a row that does not fit into one with all who wait for it.
 * Less is asked for, so that a reading ends early at the end of the list alone, or at a row of eight waiters and more.
 * What came in one reading of less than half a page, with nothing behind it, is the whole list: the next row, were
 * there one, would have been in it or in the next. */
enum { PAGE = 4096, MOST = PAGE - 512, SHORT = PAGE / 2, READINGS = 24, ENOUGH = 4 };

/* Mapped: a handler's stack may be small. */
struct list {
    void (*visit)(const struct fdinfo_lock *lock, void *argument, struct lock_counts *counts);
    void *argument;
    struct lock_counts now;
    int before[READINGS]; /* of[0] */
    char bytes[MOST + 1];
};

static bool count_row(const struct fdinfo_lock *lock, void *argument)
{
    struct list *list = argument;
    list->visit(lock, list->argument, &list->now);
    return true;
}

/* Containers hide files of /proc behind /dev/null, which has no rows.  -errno: it is not to be seen. */
static int open_list(void)
{
    struct statfs about;
    const int descriptor = sys_openat(AT_FDCWD, "/proc/locks", O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0 || (sys_fstatfs(descriptor, &about) == 0 && about.f_type == PROC_SUPER_MAGIC)) return descriptor;
    sys_close(descriptor);
    return -ENOENT;
}

bool lock_list_is_there(void)
{
    const int descriptor = open_list();
    if (descriptor >= 0) sys_close(descriptor);
    return descriptor >= 0;
}

/* Where the first page ends is left to chance: beside a program that locks and unlocks one byte without pause, a row at
 * the end of that page was missed or counted twice in 500 of 500 readings, and in 8 of 500 like this. */
static size_t first_length(size_t least)
{
    return least + (size_t)sys_monotonic() % (MOST - least);
}

/* One reading, to the end of the list.  What comes after its end are rows that others have pushed back since then, one
 * more at each read(2) beside somebody who locks all the time: one lock was counted up to sixty times.  A row that was
 * there already, and did not fit in, takes more than what was left of the page.  It may be shorter by the second
 * read(2), where many wait for one lock: beside thirty who do, who pass it on without pause, no more rows were missed.
 *
 * least: what the first read(2) asks for at the least.  1: all of it was of one moment; 0: it was not. */
static int read_to_the_end(struct list *list, int descriptor, size_t least)
{
    size_t have = 0, asked = first_length(least);
    ssize_t got, before = 0;
    int readings = 0;
    bool ended = false;
    while ((got = sys_read(descriptor, list->bytes + have, asked)) > 0) {
        if (ended && before + got < PAGE) break;
        readings++;
        ended = (size_t)got < asked;
        before = got;
        have = (size_t)fdinfo_each_row(list->bytes, have + (size_t)got, count_row, list);
        if (have >= MOST) have = 0; /* no row is that long */
        asked = MOST - have;
    }
    return got < 0 ? (int)got : got == 0 && readings <= 1 && before < SHORT;
}

/* 1, 0, or -errno: it cannot be read. */
static int read_once(struct list *list, size_t least)
{
    memset(&list->now, 0, sizeof list->now);
    const int descriptor = open_list();
    if (descriptor < 0) return descriptor;
    const int at_once = read_to_the_end(list, descriptor, least);
    sys_close(descriptor);
    return at_once;
}

/* Has the count of the last reading come so often that it is no accident? */
static bool came_often(const struct list *list, int readings)
{
    int same = 1;
    for (int i = 0; i < readings; i++) same += list->before[i] == list->now.of[0];
    return same >= ENOUGH;
}

void lock_list_pause(void)
{
    enum { LEAST_NS = 50 * 1000, MOST_MORE_NS = 256 * 1000 };
    sys_sleep(LEAST_NS + sys_monotonic() % MOST_MORE_NS);
}

/* Only the first may find that the list is short.  So many readings are a sample, and not tries: where they tell
 * nothing, whoever asks looks again at who is there. */
static enum lock_list_answer count(struct list *list)
{
    for (int reading = 0; reading < READINGS; reading++) {
        if (reading) lock_list_pause();
        const int at_once = read_once(list, reading ? 1 : SHORT);
        if (at_once < 0) return LOCK_LIST_UNREAD;
        if (at_once || came_often(list, reading)) return LOCK_LIST_TOLD;
        list->before[reading] = list->now.of[0];
    }
    return LOCK_LIST_CHANGING;
}

static struct list *begin(void (*visit)(const struct fdinfo_lock *lock, void *argument, struct lock_counts *counts),
                          void *argument)
{
    struct list *list = sys_mmap(sizeof *list);
    if (!list) return NULL;
    list->visit = visit;
    list->argument = argument;
    return list;
}

static enum lock_list_answer end(struct list *list, enum lock_list_answer answer, struct lock_counts *counts)
{
    *counts = list->now;
    sys_munmap(list, sizeof *list);
    return answer;
}

enum lock_list_answer lock_list_read(void (*visit)(const struct fdinfo_lock *lock, void *argument,
                                                   struct lock_counts *counts),
                                     void *argument, struct lock_counts *counts)
{
    struct list *list = begin(visit, argument);
    if (!list) return LOCK_LIST_UNREAD;
    const int at_once = read_once(list, SHORT);
    return end(list, at_once < 0 ? LOCK_LIST_UNREAD : at_once ? LOCK_LIST_TOLD : LOCK_LIST_CHANGING, counts);
}

enum lock_list_answer lock_list_count(void (*visit)(const struct fdinfo_lock *lock, void *argument,
                                                    struct lock_counts *counts),
                                      void *argument, struct lock_counts *counts)
{
    struct list *list = begin(visit, argument);
    return list ? end(list, count(list), counts) : LOCK_LIST_UNREAD;
}
