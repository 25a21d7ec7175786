#include "lock_list.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
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

/* 1: all of it was of one moment; 0: it was not; or -errno. */
static int read_once(struct list *list)
{
    memset(&list->now, 0, sizeof list->now);
    const int descriptor = open_list();
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

void lock_list_pause(void)
{
    enum { LEAST_NS = 50 * 1000, MOST_MORE_NS = 256 * 1000 };
    sys_sleep(LEAST_NS + sys_monotonic() % MOST_MORE_NS);
}

/* So many readings are a sample, and not tries: where they tell nothing, whoever asks looks again at who is there. */
static enum lock_list_answer count(struct list *list)
{
    for (int reading = 0; reading < READINGS; reading++) {
        if (reading) lock_list_pause();
        const int at_once = read_once(list);
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
    const int at_once = read_once(list);
    return end(list, at_once < 0 ? LOCK_LIST_UNREAD : at_once ? LOCK_LIST_TOLD : LOCK_LIST_CHANGING, counts);
}

enum lock_list_answer lock_list_count(void (*visit)(const struct fdinfo_lock *lock, void *argument,
                                                    struct lock_counts *counts),
                                      void *argument, struct lock_counts *counts)
{
    struct list *list = begin(visit, argument);
    return list ? end(list, count(list), counts) : LOCK_LIST_UNREAD;
}
