#include "markers.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "distant.h"
#include "holders.h"
#include "lock_list.h"
#include "mappings.h"
#include "proc.h"
#include "process.h"
#include "realpath.h"
#include "stillness.h"
#include "sys.h"
#include "text.h"

/* ---- what is collected ---------------------------------------------------------------------------------- */

enum { ROWS = 64, KNOWN_ROWS = 1024, ANCESTORS = 128, KIN = 1024, RANGES_OF_MARK = 2 };

struct row {
    off_t start, end;
    bool exclusive;
    pid_t pid;  /* of the process that shows it, 0: this one */
    int number; /* of its descriptor */
};

/* One descriptor of a process, by its fdinfo. */
struct shown {
    pid_t pid;
    int number;
    int rows; /* that are in the way */
    struct row way[ROWS];
    struct mark_meaning meaning;
    bool lock; /* it is the lock file, and holds its lock, or has what counts as much */
};

/* Mapped: a handler's stack may be small. */
struct look {
    const struct markers_question *question;
    int64_t deadline; /* CLOCK_MONOTONIC, ns */
    struct stat image, lock_file;
    unsigned major, minor; /* as the kernel's rows have them; both 0: not known */
    bool rows;             /* fdinfo shows locks on this file system */
    pid_t self;            /* its number in /proc */
    pid_t ancestors[ANCESTORS];
    int ancestor_count;
    pid_t kin[KIN]; /* who is looked at first: this process, its descendants, its ancestors, who holds the lock */
    int kin_count;
    struct shown shown;
    struct row own[ROWS]; /* of the description that asks */
    int own_count;
    struct row known[KNOWN_ROWS]; /* of those who are no strangers, each description's once */
    int known_count;
    int own_known;   /* of them, first, those of the description that asks */
    pid_t near[KIN]; /* whose the others are */
    int near_count;
    bool stranger;
    bool is_own; /* a lock of this process itself is in the way */
    bool mapped; /* what no descriptor shows is a mapping's of this process or an ancestor */
    bool unread; /* there are processes whose mappings may not be read */
    struct marker *marker;
    char path[PATH_MAX], line[PROC_LINE_SIZE];
};

/* Looking at all of /proc takes milliseconds, and as long as the machine is busy. */
#define LOOKING_NS (INT64_C(5) * 1000 * 1000 * 1000)

static bool overlaps(const struct fdinfo_lock *lock, const struct mark_range *range)
{
    return (!range->length || lock->start < range->start + range->length) && lock->end >= range->start;
}

static bool is_in_the_way(const struct markers_question *question, const struct fdinfo_lock *lock)
{
    if (lock->waits || lock->owner == FDINFO_OTHER) return false;
    if (question->reads && mark_is_plain_reader(lock->exclusive, lock->start, lock->end == INT64_MAX)) return false;
    if (!question->by_marks_alone && mark_only_reads(lock->exclusive, lock->start, lock->end - lock->start + 1))
        return false;
    for (int i = 0; i < question->count; i++)
        if ((lock->exclusive || question->ranges[i].type == F_WRLCK) && overlaps(lock, &question->ranges[i]))
            return true;
    return false;
}

static bool is_of_image(const struct look *look, const struct fdinfo_lock *lock)
{
    return lock->inode == look->image.st_ino &&
           ((!look->major && !look->minor) || (lock->major == look->major && lock->minor == look->minor));
}

static struct row row_of(const struct fdinfo_lock *lock, pid_t pid, int number)
{
    return (struct row){lock->start, lock->end, lock->exclusive, pid, number};
}

static bool same_row(const struct row *one, const struct row *other)
{
    return one->start == other->start && one->end == other->end && one->exclusive == other->exclusive;
}

static bool note_row(const struct fdinfo_lock *lock, void *argument)
{
    struct look *look = argument;
    struct shown *shown = &look->shown;
    if (look->lock_file.st_ino && lock->inode == look->lock_file.st_ino && lock->owner != FDINFO_OTHER &&
        (lock->start < LOCK_BYTE + LOCK_BYTES || lock->start >= RELATIVES_BYTE || look->question->recorded))
        shown->lock = true;
    if (!is_of_image(look, lock) || lock->owner == FDINFO_OTHER) return true;
    mark_note(&shown->meaning, lock);
    if (is_in_the_way(look->question, lock) && shown->rows < ROWS)
        shown->way[shown->rows++] = row_of(lock, shown->pid, shown->number);
    return true;
}

/* ---- one process ---------------------------------------------------------------------------------------- */

static bool is_file(int process, int number, const struct stat *wanted)
{
    char name[PROC_NAME_SIZE];
    struct stat status;
    proc_name(name, "fd/", (uint64_t)number);
    return sys_fstatat(process, name, &status, 0) == 0 && status.st_dev == wanted->st_dev &&
           status.st_ino == wanted->st_ino;
}

/* Reads what a descriptor of a process has locked, and whether that counts.  False: nothing of the image. */
static bool show(struct look *look, int process, int number)
{
    char name[PROC_NAME_SIZE];
    struct shown *shown = &look->shown;
    shown->number = number;
    shown->rows = 0;
    shown->meaning = (struct mark_meaning){.bytes = 0};
    shown->lock = false;
    proc_name(name, "fdinfo/", (uint64_t)number);
    if (fdinfo_each_lock(process, name, note_row, look) < 0) return false;
    if (shown->lock) shown->lock = is_file(process, number, &look->lock_file);
    if (!look->rows) return is_file(process, number, &look->image);
    return shown->rows && is_file(process, number, &look->image);
}

/* A process, and how it looks so far. */
struct of_process {
    struct look *look;
    int directory;
    pid_t pid;
    bool holds_lock;
    int next; /* its first row in look->known */
    bool marks;
    bool any;
    struct marker marker;
};

static bool add_descriptor(uint64_t found, void *argument)
{
    const int number = (int)found;
    struct of_process *of = argument;
    struct look *look = of->look;
    const struct shown *shown = &look->shown;
    look->shown.pid = of->pid;
    const bool counts = show(look, of->directory, number);
    of->holds_lock |= shown->lock;
    if (!counts) return true;
    if (!of->any)
        of->marker = (struct marker){.pid = of->pid,
                                     .descriptor = number,
                                     .imglock = mark_is_imglocks(&shown->meaning),
                                     .posix = shown->meaning.posix,
                                     .exclusive = shown->meaning.exclusive,
                                     .qemu = shown->meaning.qemu,
                                     .writes = shown->meaning.writes,
                                     .shares = !shown->meaning.unshares,
                                     .start = shown->way[0].start,
                                     .end = shown->way[0].end,
                                     .excludes = shown->way[0].exclusive};
    of->any = true;
    of->marks &= mark_is_imglocks(&shown->meaning);
    for (int i = 0; i < shown->rows && look->known_count < KNOWN_ROWS; i++)
        look->known[look->known_count++] = shown->way[i];
    return true;
}

static bool is_ancestor(const struct look *look, pid_t pid)
{
    for (int i = 0; i < look->ancestor_count; i++)
        if (look->ancestors[i] == pid) return true;
    return false;
}

static bool is_descendant(const struct look *look, pid_t pid)
{
    uint64_t start;
    for (int depth = 0; depth < ANCESTORS && pid > 1; depth++) {
        if (!process_read_stat(pid, &start, &pid, NULL)) return false;
        if (pid == look->self) return true;
    }
    return false;
}

/* Has it nothing but what the description has that asks? */
static bool has_own_rows(const struct look *look, int first)
{
    for (int i = first; i < look->known_count; i++) {
        bool own = false;
        for (int j = 0; j < look->own_count && !own; j++) own = same_row(&look->own[j], &look->known[i]);
        if (!own) return false;
    }
    return true;
}

/* Is what it has not in the way?  A descendant that has marks and no lock got the description from here, since its own
 * open would have locked, too. */
static bool is_no_stranger(const struct of_process *of)
{
    const struct look *look = of->look;
    const struct markers_question *question = look->question;
    if (question->by_marks_alone && of->pid == look->self) return !question->by_process && has_own_rows(look, of->next);
    if (question->by_marks_alone && !of->marks) return false;
    if (question->all_marks) return true;
    if (of->pid == look->self || of->holds_lock) return true;
    if (question->ancestors && is_ancestor(look, of->pid)) return true;
    return of->marks && is_descendant(look, of->pid);
}

/* Do two rows that look the same belong to one description?  Processes share descriptions.  Where the kernel does not
 * compare them, those with the same number are taken for one: mostly they came by fork. */
static bool is_same_description(const struct look *look, const struct row *one, const struct row *other)
{
    enum { COMPARE_FILES = 0 }; /* KCMP_FILE, <linux/kcmp.h> */
    if (one->pid == other->pid && one->number == other->number) return true;
    const long result = look->self != sys_getpid()
                            ? -ESRCH
                            : sys_call(SYS_kcmp, one->pid, other->pid, COMPARE_FILES, one->number, other->number, 0);
    return result < 0 ? one->number == other->number : result == 0;
}

/* Keeps of the rows from there on what is no other's already. */
static void keep_rows(struct look *look, int from)
{
    int kept = from;
    for (int i = from; i < look->known_count; i++) {
        const struct row row = look->known[i];
        bool known = false;
        for (int j = 0; j < kept && !known; j++)
            known = same_row(&look->known[j], &row) && is_same_description(look, &look->known[j], &row);
        if (!known) look->known[kept++] = row;
    }
    look->known_count = kept;
}

/* Notes what a process has.  Is it no stranger, and has the image? */
static bool add_directory(struct look *look, int directory, pid_t pid)
{
    struct of_process of = {.look = look, .directory = directory, .pid = pid, .next = look->known_count, .marks = true};
    const int list = sys_openat(directory, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (list >= 0) {
        proc_each_number(look->deadline, list, add_descriptor, &of);
        sys_close(list);
    }
    if (!of.any) return false;
    if (is_no_stranger(&of)) {
        keep_rows(look, of.next);
        return true;
    }
    of.marker.outside = !of.marker.imglock && proc_has_library(directory) == 0;
    look->known_count = of.next;
    /* One under imglock is in the way whatever IMGLOCK_OUTSIDERS says, so it comes before those outside. */
    if (!look->stranger || (look->marker->outside && !of.marker.outside)) *look->marker = of.marker;
    look->stranger = true;
    look->is_own |= of.pid == look->self;
    return false;
}

static void add_pid(pid_t pids[KIN], int *count, pid_t pid)
{
    for (int i = 0; i < *count; i++)
        if (pids[i] == pid) return;
    if (*count < KIN) pids[(*count)++] = pid;
}

static bool add_process(uint64_t number, void *argument)
{
    struct look *look = argument;
    const int directory = proc_open(number, "");
    if (directory < 0) return true;
    if (add_directory(look, directory, (pid_t)number)) add_pid(look->near, &look->near_count, (pid_t)number);
    sys_close(directory);
    return true;
}

/* Looks once more at those who were seen with the image and are no strangers, and at nobody else: that is soon done. */
static void look_at_near(struct look *look)
{
    look->known_count = look->own_known;
    for (int i = 0; i < look->near_count; i++) add_process((uint64_t)look->near[i], look);
}

/* ---- who is looked at first ----------------------------------------------------------------------------- */

static void add_kin(struct look *look, pid_t pid)
{
    add_pid(look->kin, &look->kin_count, pid);
}

/* The children that a thread has made, /proc/PID/task/TID/children. */
static void add_children(struct look *look, int tasks, int thread)
{
    char name[24], bytes[1024];
    size_t have = 0;
    struct text text = text_in(name, sizeof name);
    text_append_number(&text, thread);
    text_append(&text, "/children");
    const int list = sys_openat(tasks, name, O_RDONLY | O_CLOEXEC, 0);
    if (list < 0) return;
    for (ssize_t got; (got = sys_read(list, bytes + have, sizeof bytes - 1 - have)) > 0;) {
        have += (size_t)got;
        bytes[have] = '\0';
        const char *at = bytes;
        uint64_t number;
        for (const char *end; (end = strchr(at, ' ')); at = end + 1)
            if (text_parse_number(&at, &number)) add_kin(look, (pid_t)number);
        have -= (size_t)(at - bytes);
        memmove(bytes, at, have);
        if (have == sizeof bytes - 1) have = 0;
    }
    sys_close(list);
}

struct of_tasks {
    struct look *look;
    int tasks;
};

static bool add_children_of(uint64_t thread, void *argument)
{
    const struct of_tasks *of = argument;
    add_children(of->look, of->tasks, (int)thread);
    return true;
}

static void add_descendants(struct look *look)
{
    add_kin(look, look->self);
    for (int i = 0; i < look->kin_count; i++) {
        struct of_tasks of = {look, proc_open((uint64_t)look->kin[i], "/task")};
        if (of.tasks < 0) continue;
        proc_each_number(look->deadline, of.tasks, add_children_of, &of);
        sys_close(of.tasks);
    }
}

/* The records only say where to look. */
static void add_holders(struct look *look)
{
    struct holder holder;
    struct holders_walk walk = holders_begin(look->question->lock_descriptor);
    while (look->kin_count < KIN && holders_walk(&walk, &holder))
        if (holder.recorded && process_is_of_here(&holder.process)) add_kin(look, holder.process.pid);
}

/* ---- all of them ---------------------------------------------------------------------------------------- */

static bool note_own(const struct fdinfo_lock *lock, void *argument)
{
    struct look *look = argument;
    if (lock->inode != look->image.st_ino || lock->owner != FDINFO_DESCRIPTION) return true;
    look->major = lock->major;
    look->minor = lock->minor;
    if (!look->question->by_process && is_in_the_way(look->question, lock) && look->own_count < ROWS) {
        look->known[look->known_count++] = look->own[look->own_count++] =
            row_of(lock, look->self, look->question->descriptor);
        keep_rows(look, look->known_count - 1);
    }
    return true;
}

static void note_ancestors(struct look *look)
{
    uint64_t start;
    pid_t parent;
    look->self = proc_self();
    if (!look->self) return;
    for (pid_t pid = look->self; look->ancestor_count < ANCESTORS; pid = parent) {
        if (!process_read_stat(pid, &start, &parent, NULL) || parent <= 0) return;
        look->ancestors[look->ancestor_count++] = parent;
    }
}

/* Rows that are in the way. */
struct counted {
    int all;                   /* -1: not told */
    int marks[RANGES_OF_MARK]; /* of them such as imglock sets: of use, and of what is not shared */
};

static void count_row(const struct fdinfo_lock *lock, void *argument, struct lock_counts *counts)
{
    const struct look *look = argument;
    if (!is_of_image(look, lock) || !is_in_the_way(look->question, lock)) return;
    counts->of[0]++;
    if (mark_is_row(lock)) counts->of[lock->start == UNSHARED_BYTE ? 2 : 1]++;
}

static struct counted counted_of(bool told, const struct lock_counts *counts)
{
    return (struct counted){.all = told ? counts->of[0] : -1, .marks = {counts->of[1], counts->of[2]}};
}

/* All there are, whoever has them. */
static struct counted count_all(struct look *look)
{
    struct lock_counts counts = {0};
    const bool told = lock_list_count(count_row, look, look->known_count, &counts) == LOCK_LIST_TOLD;
    return counted_of(told, &counts);
}

/* The same by one reading.  *whole: it was of one moment. */
static struct counted count_once(struct look *look, bool *whole)
{
    struct lock_counts counts = {0};
    const enum lock_list_answer answer = lock_list_read(count_row, look, &counts);
    *whole = answer == LOCK_LIST_TOLD;
    return counted_of(answer != LOCK_LIST_UNREAD, &counts);
}

static struct fdinfo_lock lock_of(const struct row *row)
{
    return (struct fdinfo_lock){
        .owner = FDINFO_DESCRIPTION, .exclusive = row->exclusive, .start = row->start, .end = row->end};
}

/* Of how many descriptions at least are the marks that were counted and that nobody has who was looked at?  One has one
 * of each kind.  *others: how many of the other locks nobody has. */
static int unseen_marks(const struct look *look, const struct counted *counted, int *others)
{
    int marks[RANGES_OF_MARK] = {counted->marks[0], counted->marks[1]};
    *others = counted->all - look->known_count - marks[0] - marks[1];
    for (int i = 0; i < look->known_count; i++) {
        const struct fdinfo_lock lock = lock_of(&look->known[i]);
        if (!mark_is_row(&lock)) continue;
        marks[lock.start == UNSHARED_BYTE]--;
        ++*others;
    }
    return marks[0] > marks[1] ? marks[0] : marks[1];
}

/* ---- mappings ------------------------------------------------------------------------------------------- */

/* A mapping keeps its description, and that its marks, when the descriptor is closed: then nothing in /proc shows whose
 * they are. */
static int mappings_of_process(struct look *look, pid_t pid, int most)
{
    const bool known = look->major || look->minor;
    const struct mapped_file file = {.device = known ? makedev(look->major, look->minor) : look->image.st_dev,
                                     .inode = look->image.st_ino,
                                     .path = *look->path ? look->path : NULL};
    const int process = proc_open((uint64_t)pid, "");
    if (process < 0) return process;
    const int count = mappings_of(process, &file, most, look->line, sizeof look->line);
    sys_close(process);
    return count;
}

static bool is_own_or_ancestors(const struct look *look, pid_t pid)
{
    return pid == look->self || (look->question->ancestors && is_ancestor(look, pid));
}

static bool note_mapping_of_stranger(uint64_t number, void *argument)
{
    struct look *look = argument;
    if (is_own_or_ancestors(look, (pid_t)number)) return true;
    const int count = mappings_of_process(look, (pid_t)number, 1);
    look->stranger |= count > 0;
    look->unread |= count == -EACCES || count == -EPERM;
    return !look->stranger;
}

struct of_descriptors {
    const struct look *look;
    int process, asks; /* the one that asks is not counted */
    bool any;
};

static bool note_descriptor(uint64_t number, void *argument)
{
    struct of_descriptors *of = argument;
    char name[PROC_NAME_SIZE];
    dev_t device;
    ino_t inode;
    proc_name(name, "fd/", number);
    of->any = (int)number != of->asks && proc_identify(of->process, name, &device, &inode) == 0 &&
              device == of->look->image.st_dev && inode == of->look->image.st_ino;
    return !of->any;
}

static bool has_open(const struct look *look, pid_t pid)
{
    struct of_descriptors of = {.look = look, .asks = pid == look->self ? look->question->descriptor : -1};
    of.process = proc_open((uint64_t)pid, "");
    if (of.process < 0) return false;
    const int list = sys_openat(of.process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (list >= 0) {
        proc_each_number(look->deadline, list, note_descriptor, &of);
        sys_close(list);
    }
    sys_close(of.process);
    return of.any;
}

/* May the mappings of this process and its ancestors be of descriptors that they have open?  Those have marks of their
 * own, but while the process asks without them. */
static bool may_be_of_descriptors(const struct look *look)
{
    if (has_open(look, look->self)) return true;
    for (int i = 0; look->question->ancestors && i < look->ancestor_count; i++)
        if (has_open(look, look->ancestors[i])) return true;
    return false;
}

/* Were all processes to be looked into?  Outside this PID namespace, whose number the first one's is, there are more.
 */
static bool is_everybody_seen(const struct look *look)
{
    const uint64_t first_space = 0xeffffffc; /* PROC_PID_INIT_INO, <linux/proc_ns.h> */
    return !look->unread && process_self()->pid_space == first_space;
}

/* May the marks of so many descriptions, which no descriptor shows, be those of mappings that this process and its
 * ancestors have, and nobody else who can be seen?  A description may have many mappings, so with the marks of more
 * than one it has to be seen that nobody else has a mapping. */
static bool are_of_own_mappings(struct look *look, int unseen)
{
    bool deleted;
    if (distant_is(look->question->descriptor)) return false; /* other hosts' marks stand in no list */
    if (realpath_of_descriptor(look->question->descriptor, look->path, &deleted) < 0) *look->path = '\0';
    int64_t mappings = mappings_of_process(look, look->self, unseen);
    for (int i = 0; look->question->ancestors && i < look->ancestor_count; i++) {
        const int of_ancestor = mappings_of_process(look, look->ancestors[i], unseen);
        if (of_ancestor > 0) mappings += of_ancestor;
    }
    if (unseen > mappings) return false;
    proc_each_process(look->deadline, note_mapping_of_stranger, look);
    return !look->stranger && ((unseen <= 1 && !may_be_of_descriptors(look)) || is_everybody_seen(look));
}

/* ---- the answer ----------------------------------------------------------------------------------------- */

/* Is the lock that the kernel names in this range in nobody's way, or seen with somebody who is no stranger?
 * found->start is -1 where it names none. */
static bool is_known(const struct look *look, const struct mark_range *range, struct bytes_found *found)
{
    const struct markers_question *question = look->question;
    *found = (struct bytes_found){.start = -1};
    if (bytes_held(question->descriptor, range->type, range->start, range->length, found) <= 0) return true;
    const struct fdinfo_lock lock = {.owner = FDINFO_DESCRIPTION,
                                     .exclusive = found->type == F_WRLCK,
                                     .start = found->start,
                                     .end = found->length ? found->start + found->length - 1 : INT64_MAX};
    const struct row row = row_of(&lock, 0, 0);
    /* By F_SETLK of this very process it is ours. */
    bool known = !is_in_the_way(question, &lock) || (found->pid > 0 && found->pid == sys_getpid()) ||
                 (look->mapped && found->pid < 0 && mark_is_row(&lock));
    for (int i = 0; i < look->known_count && !known; i++)
        known = same_row(&look->known[i], &row) &&
                (look->known[i].pid != look->self || look->known[i].number != question->descriptor);
    return known;
}

/* Has each lock that the kernel names been seen with somebody who is no stranger?  /proc/locks leaves out what other
 * hosts have locked, and what those outside this PID namespace have by F_SETLK.  It names one lock in a range, and the
 * first of a reader's is the byte that is in nobody's way. */
static bool is_explained(const struct look *look)
{
    const struct markers_question *question = look->question;
    for (int i = 0; i < question->count; i++) {
        struct mark_range beside[2];
        struct bytes_found found;
        if (!is_known(look, &question->ranges[i], &found)) return false;
        if (found.start < 0 || !mark_only_reads(found.type == F_WRLCK, found.start, found.length)) continue;
        mark_ranges_beside(&question->ranges[i], beside);
        if (!is_known(look, &beside[0], &found) || !is_known(look, &beside[1], &found)) return false;
    }
    return true;
}

/* Are these no more than were seen with those who are no strangers?  Whoever is seen beside them shares their
 * descriptions, or there would be more. */
static bool are_all_known(struct look *look, const struct counted *counted)
{
    if (counted->all < 0) return false;
    if (counted->all <= look->known_count) return true;
    int others;
    const int unseen = unseen_marks(look, counted, &others);
    return others <= 0 && (look->mapped = are_of_own_mappings(look, unseen));
}

/* What one look has found. */
struct found {
    bool nobody;
    enum stillness stillness;
};

static void look_at_kin(struct look *look)
{
    add_descendants(look);
    for (int i = 0; i < look->ancestor_count; i++) add_kin(look, look->ancestors[i]);
    add_holders(look);
    for (int i = 0; i < look->kin_count; i++) add_process((uint64_t)look->kin[i], look);
}

/* Looks at those again who have the image, and counts once more, until nobody has closed it between the one and the
 * other: beside those who open and close it all the time that takes a few tries, of a tenth of a millisecond each.  A
 * list that came in pieces may have missed somebody: it has to say so often that there is nobody, and the contrary once
 * at most. */
static struct found find_still(struct look *look, int watch, int64_t end)
{
    enum { ENOUGH = 4 };
    int nobody = 0, contrary = 0;
    bool looked_at_mappings = false;
    for (; sys_monotonic() < end && contrary < ENOUGH; lock_list_pause()) {
        bool whole;
        stillness_ask(watch);
        look_at_near(look);
        const struct counted counted = count_once(look, &whole);
        if (counted.all < 0) break;
        if (stillness_ask(watch) != STILLNESS_STILL) continue;
        const bool all = counted.all <= look->known_count || (!looked_at_mappings && are_all_known(look, &counted));
        looked_at_mappings |= counted.all > look->known_count;
        const bool known = all && !look->is_own && is_explained(look);
        nobody += known;
        contrary += !known;
        if (known && (whole || (nobody == ENOUGH && contrary <= 1))) return (struct found){true, STILLNESS_STILL};
    }
    return (struct found){false, STILLNESS_CHANGED};
}

/* Where the kernel shows what is locked, all that there is has to be known when it is counted.  The processes are
 * looked at one after the other: who has closed something meanwhile is known, and counted no longer. */
static struct found find(struct look *look, bool everybody, bool patient)
{
    enum { SOON_NS = 1000 * 1000, PATIENT_NS = 20 * SOON_NS };
    const int watch = look->rows ? stillness_begin(look->question->descriptor) : -1;
    if (everybody)
        proc_each_process(look->deadline, add_process, look);
    else
        look_at_kin(look);
    if (!look->rows) return (struct found){!look->is_own && !look->stranger && look->known_count, STILLNESS_STILL};
    struct found found = {false, STILLNESS_STILL};
    if (!look->is_own) {
        const struct counted counted = count_all(look);
        found.nobody = are_all_known(look, &counted) && is_explained(look);
        found.stillness = stillness_ask(watch);
        if (found.stillness == STILLNESS_CHANGED)
            found = find_still(look, watch, sys_monotonic() + (patient ? PATIENT_NS : SOON_NS));
    }
    stillness_end(watch);
    return found;
}

static struct found look_once(const struct markers_question *question, bool everybody, bool patient,
                              struct marker *stranger)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    char name[FDINFO_OWN_SIZE];
    sys_signals signals;
    struct found found = {.nobody = false};
    *stranger = (struct marker){.pid = 0};
    struct look *look = sys_mmap(sizeof *look);
    if (!look) return found;
    /* A handler that jumps away would leave descriptors behind. */
    sys_sigmask(SIG_BLOCK, &all, &signals);
    look->question = question;
    look->marker = stranger;
    look->deadline = sys_monotonic() + LOOKING_NS;
    look->rows = distant_shows_rows(question->descriptor);
    if (question->lock_descriptor >= 0) sys_fstat(question->lock_descriptor, &look->lock_file);
    if (sys_fstat(question->descriptor, &look->image) == 0) {
        note_ancestors(look);
        fdinfo_own(name, question->descriptor);
        fdinfo_each_lock(AT_FDCWD, name, note_own, look);
        look->own_known = look->known_count;
        /* FUSE shows them where the kernel keeps its locks. */
        look->rows |= look->major || look->minor;
        found = find(look, everybody, patient);
    }
    sys_sigmask(SIG_SETMASK, &signals, NULL);
    sys_munmap(look, sizeof *look);
    return found;
}

/* A look that finds nobody counts where nobody closed the image meanwhile.  Else a relative may have hidden a stranger,
 * by having the image when it was looked at and not when all was counted: beside four threads that open and close it
 * all the time, four of five opens got in.  Where that cannot be told, four looks have to find nobody. */
static bool is_settled(const struct found *found, int *unsettled)
{
    enum { ENOUGH = 4 };
    if (!found->nobody || found->stillness == STILLNESS_CHANGED) return false;
    return found->stillness == STILLNESS_STILL || ++*unsettled >= ENOUGH;
}

/* Who is nobody that can be seen may be a relative that came or went during the look; or a description that is closed
 * already, and kept for a moment by somebody who looks at its fdinfo.  A stranger is there all the time: 127 ms.  Among
 * relatives that come and go without pause it takes more looks. */
enum markers_answer markers_look(const struct markers_question *question, bool everybody, struct marker *stranger)
{
    enum { FIRST_NS = 1000 * 1000, LAST_NS = 64 * 1000 * 1000 };
    struct marker ignored;
    int unsettled = 0;
    struct found found = look_once(question, everybody, everybody, stranger);
    bool settled = is_settled(&found, &unsettled);
    while (!settled && found.nobody) {
        found = look_once(question, false, everybody, &ignored);
        settled = is_settled(&found, &unsettled);
    }
    if (settled) return MARKERS_NO_STRANGERS;
    if (!everybody || stranger->pid) return MARKERS_STRANGERS;
    bool busy = found.stillness == STILLNESS_CHANGED;
    for (int64_t pause = FIRST_NS; !settled && pause <= (busy || unsettled ? 4 * LAST_NS : LAST_NS); pause *= 2) {
        sys_sleep(pause);
        found = look_once(question, false, everybody, &ignored);
        settled = is_settled(&found, &unsettled);
        busy |= found.stillness == STILLNESS_CHANGED;
    }
    return settled ? MARKERS_NO_STRANGERS : MARKERS_STRANGERS;
}

void marker_append_has(struct text *text, const struct marker *marker)
{
    if (marker->use) {
        text_append(text, marker->use);
    } else if (marker->imglock) {
        text_append(text, "imglock's marks");
    } else if (!marker->qemu) {
        text_append(text, marker->exclusive ? "it has locked the file for itself" : "it has locked the file");
    } else {
        text_append(text, marker->writes ? "QEMU's own lock: writes" : "QEMU's own lock: reads");
        if (!marker->shares) text_append(text, marker->writes ? ", shares nothing" : ", shares no writing");
    }
}

struct markers_question markers_question_of(int descriptor, enum lock_mode mode, int access)
{
    struct markers_question question = {
        .descriptor = descriptor, .lock_descriptor = -1, .reads = mode != LOCK_EXCLUSIVE && access == O_RDONLY};
    question.count = mark_ranges(mode, access, question.ranges);
    return question;
}
