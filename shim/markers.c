#include "markers.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "distant.h"
#include "family.h"
#include "holders.h"
#include "lock_list.h"
#include "marker_rows.h"
#include "own_mappings.h"
#include "proc.h"
#include "process.h"
#include "stillness.h"
#include "sys.h"
#include "text.h"

/* ---- what is collected ---------------------------------------------------------------------------------- */

enum { ROWS = 64, NEAR = 1024 };

/* One descriptor of a process, by its fdinfo. */
struct shown {
    pid_t pid;
    int number;
    int rows; /* that are in the way */
    struct marker_row way[ROWS];
    struct mark_meaning meaning;
    bool lock; /* it is the lock file, and holds its lock, or has what counts as much */
};

/* Mapped: a handler's stack may be small. */
struct look {
    const struct markers_question *question;
    int64_t deadline; /* CLOCK_MONOTONIC, ns */
    struct stat image, lock_file;
    bool rows;            /* fdinfo shows locks on this file system */
    struct family family; /* who is looked at first: its members, with who holds the lock */
    struct shown shown;
    struct marker_rows known; /* of those who are no strangers */
    int own_count;            /* of them, first, those of the description that asks */
    pid_t near[NEAR];         /* whose the others are */
    int near_count;
    struct own_mappings mappings;
    int mappings_asked; /* about the marks of so many descriptions, which no descriptor shows; 0: not yet */
    bool mapped;        /* these are of mappings of no strangers */
    bool stranger;
    bool is_own;  /* a lock of this process itself is in the way */
    bool watched; /* closes can be told */
    struct marker *marker;
};

/* Looking at all of /proc takes milliseconds, and as long as the machine is busy. */
#define LOOKING_NS (INT64_C(5) * 1000 * 1000 * 1000)

static bool note_row(const struct fdinfo_lock *lock, void *argument)
{
    struct look *look = argument;
    struct shown *shown = &look->shown;
    if (look->lock_file.st_ino && lock->inode == look->lock_file.st_ino && lock->owner != FDINFO_OTHER &&
        (lock->start < LOCK_BYTE + LOCK_BYTES || lock->start >= RELATIVES_BYTE || look->question->recorded))
        shown->lock = true;
    if (!marker_rows_is_of_image(&look->known, lock) || lock->owner == FDINFO_OTHER) return true;
    mark_note(&shown->meaning, lock);
    if (markers_question_excludes(look->question, lock) && shown->rows < ROWS)
        shown->way[shown->rows++] = marker_row_of(lock, shown->pid, shown->number);
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
    for (int i = 0; i < shown->rows; i++) marker_rows_add(&look->known, &shown->way[i]);
    return true;
}

/* Has it nothing but what the description has that asks? */
static bool has_own_rows(const struct look *look, int first)
{
    for (int i = first; i < look->known.count; i++) {
        bool own = false;
        for (int j = 0; j < look->own_count && !own; j++)
            own = marker_row_is(&look->known.list[j], &look->known.list[i]);
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
    if (question->by_marks_alone && of->pid == look->family.self)
        return !question->by_process && has_own_rows(look, of->next);
    if (question->by_marks_alone && !of->marks) return false;
    if (question->all_marks) return true;
    if (of->pid == look->family.self || of->holds_lock) return true;
    if (question->ancestors && family_is_ancestor(&look->family, of->pid)) return true;
    return of->marks && family_is_descendant(&look->family, of->pid);
}

/* Notes what a process has.  Is it no stranger, and has it the image? */
static bool add_directory(struct look *look, int directory, pid_t pid)
{
    struct of_process of = {.look = look, .directory = directory, .pid = pid, .next = look->known.count, .marks = true};
    const int list = sys_openat(directory, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (list >= 0) {
        proc_each_number(look->deadline, list, add_descriptor, &of);
        sys_close(list);
    }
    if (!of.any) return false;
    if (is_no_stranger(&of)) {
        marker_rows_keep(&look->known, of.next);
        return true;
    }
    of.marker.outside = !of.marker.imglock && proc_has_library(directory) == 0;
    look->known.count = of.next;
    /* One under imglock is in the way whatever IMGLOCK_OUTSIDERS says, so it comes before those outside. */
    if (!look->stranger || (look->marker->outside && !of.marker.outside)) *look->marker = of.marker;
    look->stranger = true;
    look->is_own |= pid == look->family.self;
    return false;
}

/* The same by its number. */
static bool look_at(struct look *look, pid_t pid)
{
    const int directory = proc_open((uint64_t)pid, "");
    if (directory < 0) return false;
    const bool near = add_directory(look, directory, pid);
    sys_close(directory);
    return near;
}

static bool add_process(uint64_t number, void *argument)
{
    struct look *look = argument;
    if (look_at(look, (pid_t)number) && look->near_count < NEAR) look->near[look->near_count++] = (pid_t)number;
    return true;
}

/* ---- who is looked at ----------------------------------------------------------------------------------- */

static bool note_own(const struct fdinfo_lock *lock, void *argument)
{
    struct look *look = argument;
    if (lock->inode != look->image.st_ino || lock->owner != FDINFO_DESCRIPTION) return true;
    look->known.major = lock->major;
    look->known.minor = lock->minor;
    if (!look->question->by_process && markers_question_excludes(look->question, lock)) {
        const struct marker_row row = marker_row_of(lock, look->family.self, look->question->descriptor);
        marker_rows_add(&look->known, &row);
    }
    return true;
}

static void look_at_self(struct look *look)
{
    char name[FDINFO_OWN_SIZE];
    family_find(&look->family);
    look->known.question = look->question;
    look->known.inode = look->image.st_ino;
    look->known.self = look->family.self;
    fdinfo_own(name, look->question->descriptor);
    fdinfo_each_lock(AT_FDCWD, name, note_own, look);
    marker_rows_keep(&look->known, 0);
    look->own_count = look->known.count;
    /* FUSE shows them where the kernel keeps its locks. */
    look->rows |= look->known.major || look->known.minor;
}

/* The records only say where to look. */
static void add_holders(struct look *look)
{
    struct holder holder;
    struct holders_walk walk = holders_begin(look->question->lock_descriptor);
    while (look->family.count < FAMILY_MEMBERS && holders_walk(&walk, &holder))
        if (holder.recorded && process_is_of_here(&holder.process)) family_add(&look->family, holder.process.pid);
}

static void look_at_kin(struct look *look)
{
    struct family *family = &look->family;
    family_gather(family, look->deadline);
    add_holders(look);
    for (int i = 0; i < family->count; i++) add_process((uint64_t)family->members[i], look);
}

static void look_at_everybody(struct look *look)
{
    proc_each_process(look->deadline, add_process, look);
}

/* Looks once more at those who were seen with the image and are no strangers, and at nobody else: that is soon done. */
static void look_at_near(struct look *look)
{
    look->known.count = look->own_count;
    for (int i = 0; i < look->near_count; i++) look_at(look, look->near[i]);
}

/* ---- the answer ----------------------------------------------------------------------------------------- */

/* May the marks of so many descriptions, which no descriptor shows, be of mappings of no strangers?  One answer a look:
 * it takes long. */
static bool are_of_own_mappings(struct look *look, int unseen)
{
    const struct marker_rows *known = &look->known;
    struct own_mappings *own = &look->mappings;
    if (look->stranger) return false;
    if (look->mappings_asked) return look->mapped && unseen <= look->mappings_asked;
    own->descriptor = look->question->descriptor;
    own->device = look->image.st_dev;
    own->inode = look->image.st_ino;
    own->mapped_device = known->major || known->minor ? makedev(known->major, known->minor) : look->image.st_dev;
    own->family = &look->family;
    own->ancestors = look->question->ancestors;
    own->deadline = look->deadline;
    look->mappings_asked = unseen;
    look->mapped = own_mappings_explain(own, unseen);
    return look->mapped;
}

/* Does what was counted leave room for a stranger beside those who are none?  Whoever is seen beside them shares their
 * descriptions, or there would be more.  What no descriptor shows may be a mapping's. */
static bool is_nobody(struct look *look, const struct marker_counts *counted)
{
    bool mapped = false;
    if (look->is_own) return false;
    if (counted->all > look->known.count) {
        int others;
        const int unseen = marker_rows_unseen(&look->known, counted, &others);
        mapped = others <= 0 && are_of_own_mappings(look, unseen);
        if (!mapped) return false;
    }
    return marker_rows_explain(&look->known, mapped);
}

/* What one try has found. */
enum tried {
    TRIED_IN_VAIN, /* somebody came or went meanwhile: it tells nothing */
    TRIED_UNREAD,  /* there is no list of all locks */
    TRIED_SOMEBODY,
    TRIED_NOBODY, /* but it may be wrong: the list came in pieces, or who closes the image cannot be told */
    TRIED_NOBODY_AT_ALL,
};

/* All that there is has to be known when it is counted.  Processes are looked at one after the other.
 *
 * A relative that closes after it was seen makes one too many known, which would hide a stranger: inotify tells.
 *
 * One that gives its marks back and closes nothing, as for locks of its own, does the same: it is looked at again.
 *
 * One that has them again by then, as after it has opened the image for writing as well, had them off at one of the
 * counts and not at the other: all is counted before, too. */
static enum tried try(struct look *look, struct stillness *stillness, void (*collect)(struct look *look))
{
    stillness_begin(stillness);
    const struct marker_counts before = marker_rows_count(&look->known);
    collect(look);
    const struct marker_counts after = marker_rows_count(&look->known);
    if (before.all < 0 || after.all < 0) return TRIED_UNREAD;
    const bool nobody = is_nobody(look, &after);
    marker_rows_remember(&look->known);
    look_at_near(look);
    const enum stillness_answer answer = stillness_ask(stillness);
    if (answer == STILLNESS_CHANGED || !marker_rows_are_as_remembered(&look->known)) return TRIED_IN_VAIN;
    if (!nobody) return TRIED_SOMEBODY;
    if (before.all > look->known.count && before.all > after.all) return TRIED_IN_VAIN;
    return answer == STILLNESS_STILL && before.whole && after.whole ? TRIED_NOBODY_AT_ALL : TRIED_NOBODY;
}

/* What some tries have found. */
enum found {
    FOUND_SOMEBODY,
    FOUND_CHANGES, /* somebody opens and closes the image all the time, which hides who else has it */
    FOUND_NOBODY,
};

/* The first try finds who has the image and is no stranger; the others look at these alone, and take a fifth of a
 * millisecond each: beside those who open and close it all the time it needs a few.  A try that may be wrong has to say
 * so often that there is nobody, and the contrary once at most.  The length is for tries in vain: the others end it by
 * themselves. */
static enum found try_often(struct look *look, struct stillness *stillness, void (*collect)(struct look *look),
                            int64_t length)
{
    enum { ENOUGH = 4 };
    int nobody = 0, contrary = 0;
    bool changes = false;
    enum tried tried = try(look, stillness, collect);
    for (const int64_t end = sys_monotonic() + length;; tried = try(look, stillness, look_at_near)) {
        nobody += tried == TRIED_NOBODY;
        contrary += tried == TRIED_SOMEBODY;
        changes |= tried == TRIED_IN_VAIN;
        if (tried == TRIED_NOBODY_AT_ALL || nobody == ENOUGH) return FOUND_NOBODY;
        if (look->is_own || tried == TRIED_UNREAD) return FOUND_SOMEBODY;
        if (contrary > 1) return nobody || changes ? FOUND_CHANGES : FOUND_SOMEBODY;
        if (tried == TRIED_IN_VAIN && sys_monotonic() >= end) return FOUND_CHANGES;
        lock_list_pause();
    }
}

static enum found find(struct look *look, bool everybody, bool patient)
{
    enum { SOON_NS = 2 * 1000 * 1000, PATIENT_NS = 20 * 1000 * 1000 };
    void (*const collect)(struct look * look) = everybody ? look_at_everybody : look_at_kin;
    if (!look->rows) {
        /* Where the kernel does not show what is locked, nothing can be counted. */
        collect(look);
        return !look->is_own && !look->stranger && look->known.count ? FOUND_NOBODY : FOUND_SOMEBODY;
    }
    struct stillness stillness = stillness_of(look->question->descriptor);
    look->watched = stillness.watches >= 0;
    const enum found found = try_often(look, &stillness, collect, patient ? PATIENT_NS : SOON_NS);
    stillness_end(&stillness);
    return found;
}

/* *watched: could closes be told? */
static enum found look_once(const struct markers_question *question, bool everybody, bool patient,
                            struct marker *stranger, bool *watched)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_signals signals;
    enum found found = FOUND_SOMEBODY;
    *watched = false;
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
        look_at_self(look);
        found = find(look, everybody, patient);
    }
    sys_sigmask(SIG_SETMASK, &signals, NULL);
    *watched = look->watched;
    sys_munmap(look, sizeof *look);
    return found;
}

/* Looks on, for an eighth of a second; and beside those who close the image meanwhile for a second, 66 times: a thread
 * that leaves the processor within close(2) has a description by then that nobody sees, and of sixteen threads there is
 * mostly one.  With looks for half a second, and fewer, 2 of 48 runs of sixteen threads beside children failed, four at
 * once.  sched_yield(2) lets those threads run.  Where closes cannot be told, each look may be wrong, so there are few.
 */
static enum found look_on(const struct markers_question *question, bool busy, bool watched)
{
    enum { FIRST_NS = 1000 * 1000, LAST_NS = 64 * 1000 * 1000, LAST_WATCHED_NS = 16 * 1000 * 1000 };
    enum { LOOKS = 7, LOOKS_WATCHED = 11, LOOKS_BUSY = 66 };
    struct marker ignored;
    enum found found = FOUND_SOMEBODY;
    int64_t pause = FIRST_NS;
    for (int looks = 0; looks < (!watched ? LOOKS : busy ? LOOKS_BUSY : LOOKS_WATCHED); looks++) {
        sys_sleep(pause);
        if (busy) sys_yield();
        found = look_once(question, false, true, &ignored, &watched);
        if (found == FOUND_NOBODY) break;
        busy |= found == FOUND_CHANGES;
        if (pause < (watched ? LAST_WATCHED_NS : LAST_NS)) pause *= 2;
    }
    return found;
}

/* Who is nobody that can be seen may be a relative that came or went during the look; or a description that is closed
 * already, and kept for a moment by somebody who looks at its fdinfo.  A stranger is there all the time. */
enum markers_answer markers_look(const struct markers_question *question, bool everybody, struct marker *stranger)
{
    bool watched;
    const enum found found = look_once(question, everybody, everybody, stranger, &watched);
    if (found == FOUND_NOBODY) return MARKERS_NO_STRANGERS;
    if (!everybody || stranger->pid) return MARKERS_STRANGERS;
    return look_on(question, found == FOUND_CHANGES, watched) == FOUND_NOBODY ? MARKERS_NO_STRANGERS
                                                                              : MARKERS_STRANGERS;
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
