#include "lock_list.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>

#include "sys.h"

/* A page of rows, and one byte to end the last.  The kernel fills one page a reading, more only for a row with so many
 * waiters that it does not fit into one.  What came in one reading of less than half a page is the whole list: the next
 * row, were there one, would have come with it or by a second reading. */
enum { PAGE = 4096, SHORT = PAGE / 2, KEPT = 12, ENOUGH = 4 };

/* How long a list may go on to give other counts.  On a machine with a load of 40 that is a dozen readings. */
#define COUNTING_NS (INT64_C(200) * 1000 * 1000)

/* Mapped: a handler's stack may be small. */
struct list {
    void (*visit)(const struct fdinfo_lock *lock, void *argument, struct lock_counts *counts);
    void *argument;
    struct lock_counts now;
    struct lock_counts within; /* the most of the counts that are not above the limit */
    int not_above, above;      /* how many readings were, and how many were above it */
    int counts_above[KEPT];    /* of[0] of the last of these */
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

/* Has the count of the last reading, which is above the limit, come so often that it is no accident? */
static bool came_often(const struct list *list)
{
    int same = 0;
    for (int i = 0; i < list->above && i < KEPT; i++) same += list->counts_above[i] == list->now.of[0];
    return same >= ENOUGH;
}

/* Notes the last reading, and says whether it is known now.  A row that is missed hides somebody, so that there are no
 * more than the limit has to come often, and the contrary once at most. */
static bool is_told(struct list *list, int limit)
{
    if (list->now.of[0] > limit) {
        list->counts_above[list->above++ % KEPT] = list->now.of[0];
        return came_often(list);
    }
    if (!list->not_above++ || list->now.of[0] > list->within.of[0]) list->within = list->now;
    list->now = list->within;
    return list->not_above >= ENOUGH && list->above <= 1;
}

void lock_list_pause(void)
{
    enum { LEAST_NS = 50 * 1000, MOST_MORE_NS = 256 * 1000 };
    sys_sleep(LEAST_NS + sys_monotonic() % MOST_MORE_NS);
}

static enum lock_list_answer count(struct list *list, int limit)
{
    const int64_t end = sys_monotonic() + COUNTING_NS;
    for (;; lock_list_pause()) {
        const int at_once = read_once(list);
        if (at_once < 0) return LOCK_LIST_UNREAD;
        if (at_once || is_told(list, limit)) return LOCK_LIST_TOLD;
        if (sys_monotonic() >= end) return LOCK_LIST_CHANGING;
    }
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
                                      void *argument, int limit, struct lock_counts *counts)
{
    struct list *list = begin(visit, argument);
    return list ? end(list, count(list, limit), counts) : LOCK_LIST_UNREAD;
}
