#include "relatives.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>

#include "bytes.h"
#include "distant.h"
#include "fdinfo.h"
#include "lingering.h"
#include "lock_list.h"
#include "pause.h"
#include "proc.h"
#include "process.h"
#include "sys.h"
#include "text.h"

/* ---- the locks of relatives ----------------------------------------------------------------------------- */

/* One lock of one description: on bytes 0-1, or on a byte of the relatives' range. */
struct kin_lock {
    off_t start, end;
    int slot; /* tells a description from others; -1: it has none */
    bool exclusive;
};

/* Mapped only after a conflict.  A holder with more generations than this is unheard of; the rest are strangers. */
enum { KIN_MAX = 8192 };

/* Looking at /proc takes a millisecond, and as long as the machine is busy; it ends after this, and who is left then is
 * a stranger. */
#define LOOKING_NS (INT64_C(5) * 1000 * 1000 * 1000)
struct kin {
    const struct relatives_question *question;
    int64_t deadline; /* CLOCK_MONOTONIC, ns */
    struct stat file; /* the lock file */
    bool distant;     /* other hosts may have locks there, which no list of this one shows */
    bool asks;        /* therefore, or since no list is to be seen, it is asked through relatives' own descriptions */
    bool lock_is_kin; /* then: what is in the way on bytes 0-1 is one relative's, by its own description */
    bool range_is_kin;
    bool open;    /* a relative has the lock file open */
    bool wrapped; /* an ancestor has the library */
    int count;
    struct kin_lock locks[KIN_MAX];
};

/* What is collected from one description. */
struct description {
    struct kin *kin;
    int first; /* of its locks */
    int slot;
};

static bool add_lock(const struct fdinfo_lock *lock, void *argument)
{
    struct description *description = argument;
    struct kin *kin = description->kin;
    /* Under this number there may be another file by now. */
    if (lock->owner == FDINFO_OTHER || lock->inode != kin->file.st_ino) return true;
    if (lock->start >= SLOT_BYTE && lock->start < SLOT_BYTE + SLOTS && lock->start == lock->end)
        description->slot = (int)lock->start - SLOT_BYTE;
    const bool beside = lock->start < RELATIVES_BYTE + (off_t)RELATIVES && lock->end >= RELATIVES_BYTE;
    if (lock->start >= LOCK_BYTE + LOCK_BYTES && !beside) return true;
    if (kin->count == KIN_MAX) return false;
    kin->locks[kin->count++] =
        (struct kin_lock){.start = lock->start, .end = lock->end, .slot = -1, .exclusive = lock->exclusive};
    return true;
}

/* Is the same lock of the same description noted already?  Processes share descriptions.  An exclusive lock is one
 * description's, whoever has it; a shared one goes with its slot, which one description has.  Two shared locks without
 * a slot count as one: too few let nobody past. */
static bool is_noted(const struct kin *kin, const struct kin_lock *lock, int before)
{
    for (int i = 0; i < before; i++) {
        const struct kin_lock *other = &kin->locks[i];
        if (other->start == lock->start && other->end == lock->end && other->exclusive == lock->exclusive &&
            (lock->exclusive || other->slot == lock->slot))
            return true;
    }
    return false;
}

/* Notes what the descriptor named "fdinfo/N" or the like, seen from directory, has locked. */
static void add_description(struct kin *kin, int directory, const char *fdinfo)
{
    struct description description = {.kin = kin, .first = kin->count, .slot = -1};
    if (fdinfo_each_lock(directory, fdinfo, add_lock, &description) < 0) return;
    kin->open = true;
    int kept = description.first;
    for (int i = description.first; i < kin->count; i++) {
        struct kin_lock lock = kin->locks[i];
        lock.slot = description.slot;
        if (!is_noted(kin, &lock, kept)) kin->locks[kept++] = lock;
    }
    kin->count = kept;
}

/* "fd/12" or "fdinfo/12" into name[24]. */
static void descriptor_name(char name[24], const char *where, uint64_t number)
{
    struct text text = text_in(name, 24);
    text_append(&text, where);
    text_append_number(&text, (long long)number);
}

/* Is the descriptor named "fd/N", seen from directory, open on the lock file?  1, 0 or -errno. */
static int is_lock_file(const struct kin *kin, int directory, const char *name)
{
    struct stat status;
    const int result = (int)sys_fstatat(directory, name, &status, 0);
    if (result < 0) return result;
    return status.st_dev == kin->file.st_dev && status.st_ino == kin->file.st_ino;
}

/* Is somebody in the way in the range but for the one that asks, seen through a relative's description? */
static bool is_in_the_way_beside(const struct relatives_question *question, int descriptor, off_t start, off_t end)
{
    struct bytes_found found;
    while (start < end) {
        const int held = bytes_held(descriptor, bytes_type(question->mode), start, end - start, &found);
        if (held <= 0) return held < 0;
        if (found.length != 1 ||
            bytes_held(question->lock_descriptor, bytes_type(question->mode), found.start, 1, NULL) != 0)
            return true;
        /* Its own, which is one byte. */
        if (bytes_held(descriptor, bytes_type(question->mode), start, found.start - start, NULL) != 0) return true;
        start = found.start + 1;
    }
    return false;
}

/* Of other hosts' locks the server alone knows, and the list of this one's may be hidden.  Who sees nobody in the way
 * through a relative's own description has that relative's locks before it and no others: the relative's descriptor is
 * copied for the question.  process: its number; 0: this process, which has the descriptor already.
 *
 * While the copy is open, the relative's lock is this process's as well.  No handler runs meanwhile (collect), and exec
 * closes it.  What another thread forks in that moment has it until it executes something or ends: that cannot be
 * helped, but no time is spent there. */
static void ask_through_description(struct kin *kin, pid_t process, int number)
{
    struct stat status;
    int copy = number;
    if (process) {
        const int relative = (int)sys_call(SYS_pidfd_open, process, 0, 0, 0, 0, 0);
        if (relative < 0) return;
        copy = (int)sys_call(SYS_pidfd_getfd, relative, number, 0, 0, 0, 0);
        sys_close(relative);
    }
    if (copy < 0) return;
    if (sys_fstat(copy, &status) == 0 && status.st_dev == kin->file.st_dev && status.st_ino == kin->file.st_ino) {
        kin->lock_is_kin |= !is_in_the_way_beside(kin->question, copy, LOCK_BYTE, LOCK_BYTE + LOCK_BYTES);
        kin->range_is_kin |=
            !is_in_the_way_beside(kin->question, copy, RELATIVES_BYTE, RELATIVES_BYTE + (off_t)RELATIVES);
    }
    if (process) sys_close(copy);
}

/* The descriptor of a process that has this number, if it is open on the lock file; -EACCES: nobody may look.  process:
 * its directory in /proc; id: its number, 0: this process. */
static int add_numbered(struct kin *kin, int process, pid_t id, uint64_t number)
{
    char name[24];
    descriptor_name(name, "fd/", number);
    const int is_one = is_lock_file(kin, process, name);
    if (is_one <= 0) return is_one;
    descriptor_name(name, "fdinfo/", number);
    add_description(kin, process, name);
    if (kin->asks) ask_through_description(kin, id, (int)number);
    return 0;
}

/* ---- ancestors ------------------------------------------------------------------------------------------ */

struct of_process {
    struct kin *kin;
    int process; /* its directory in /proc */
    pid_t id;    /* its number; 0: this process */
};

/* Who may not look at one descriptor of a process may look at none: a service manager has hundreds. */
static bool add_of_process(uint64_t number, void *argument)
{
    const struct of_process *of = argument;
    return add_numbered(of->kin, of->process, of->id, number) != -EACCES;
}

static void add_process(struct kin *kin, int process, pid_t id)
{
    struct of_process of = {kin, process, id};
    int list = sys_openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (list < 0) return;
    proc_each_number(kin->deadline, list, add_of_process, &of);
    sys_close(list);
}

static void add_ancestors(struct kin *kin)
{
    pid_t number = 0; /* this process, whatever its number in /proc is */
    while (sys_monotonic() < kin->deadline) {
        const int process = proc_open_parent(&number);
        if (process == -ESRCH) return;
        if (process < 0) continue;
        /* Most ancestors are a shell, a terminal or a service manager, which lock nothing: nobody waits for them. */
        kin->wrapped |= proc_has_library(process) > 0;
        add_process(kin, process, number);
        sys_close(process);
    }
}

/* ---- descriptions of this process ----------------------------------------------------------------------- */

/* Of this process: what it knows of, and with IMGLOCK_FAMILY=on whatever else it has on the lock file: a child that was
 * made by a system call alone has a copy of what other threads were just about to lock.  The description that is asked
 * through is in nobody's way. */
static bool add_of_self(uint64_t number, void *argument)
{
    const struct of_process *of = argument;
    if (number != (uint64_t)of->kin->question->lock_descriptor) add_numbered(of->kin, of->process, of->id, number);
    return true;
}

static void add_own(struct kin *kin)
{
    const struct relatives_question *question = kin->question;
    struct of_process of = {kin, sys_openat(AT_FDCWD, "/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), 0};
    if (of.process < 0) return;
    int list = question->ancestors ? sys_openat(of.process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) : -1;
    if (list >= 0) {
        proc_each_number(kin->deadline, list, add_of_self, &of);
        sys_close(list);
    } else if (question->known && question->known->descriptor >= 0) {
        add_of_self((uint64_t)question->known->descriptor, &of);
    }
    sys_close(of.process);
}

/* Looks for one of the descriptions that this process has given to children. */
struct of_child {
    const struct kin *kin;
    bool found;
};

static bool note_token(const struct fdinfo_lock *lock, void *argument)
{
    struct of_child *of = argument;
    const struct relatives_known *known = of->kin->question->known;
    if (lock->owner != FDINFO_DESCRIPTION || lock->inode != of->kin->file.st_ino || lock->start < TOKEN_BYTE ||
        lock->start != lock->end)
        return true;
    for (int i = 0; i < known->given_count && !of->found; i++) of->found = known->given[i].token == lock->start;
    return !of->found;
}

/* Has the process one of them under this number? */
static bool has_given(const struct kin *kin, int process, int number)
{
    char name[24];
    struct of_child of = {.kin = kin};
    descriptor_name(name, "fd/", (uint64_t)number);
    if (is_lock_file(kin, process, name) <= 0) return false;
    descriptor_name(name, "fdinfo/", (uint64_t)number);
    fdinfo_each_lock(process, name, note_token, &of);
    return of.found;
}

/* A child has a description under the number that it had here, until it runs another program.  With it, whatever else
 * that child has on the lock file is a relative's: it may have raised what it got, by a lock of its own. */
static bool add_given(uint64_t process_number, void *argument)
{
    struct kin *kin = argument;
    const struct relatives_known *known = kin->question->known;
    int process = proc_open(process_number, "");
    if (process < 0) return true;
    int before = -1;
    bool found = false;
    for (int i = 0; i < known->given_count && !found; i++) {
        if (known->given[i].number == before) continue;
        before = known->given[i].number;
        found = has_given(kin, process, before);
    }
    if (found) add_process(kin, process, (pid_t)process_number);
    sys_close(process);
    return true;
}

static void add_all_given(struct kin *kin)
{
    int processes = sys_openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (processes < 0) return;
    proc_each_number(kin->deadline, processes, add_given, kin);
    sys_close(processes);
}

static void look_at_all(struct kin *kin)
{
    const struct relatives_question *question = kin->question;
    kin->deadline = sys_monotonic() + LOOKING_NS;
    /* Numbers in another PID namespace's /proc are nobody's here. */
    kin->distant = distant_is(question->lock_descriptor);
    kin->asks = (kin->distant || !lock_list_is_there()) && proc_self() == sys_getpid();
    kin->distant &= kin->asks;
    if (sys_fstat(question->lock_descriptor, &kin->file) < 0) return;
    add_own(kin);
    if (question->ancestors) add_ancestors(kin);
    if (question->known && question->known->given_count) add_all_given(kin);
}

static struct kin *collect(const struct relatives_question *question)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_signals before;
    struct kin *kin = sys_mmap(sizeof *kin);
    if (!kin) return NULL;
    kin->question = question;
    /* A handler that jumps away would leave descriptors behind, one of which may have a relative's lock. */
    sys_sigmask(SIG_BLOCK, &all, &before);
    look_at_all(kin);
    sys_sigmask(SIG_SETMASK, &before, NULL);
    return kin;
}

/* ---- who is in the way ---------------------------------------------------------------------------------- */

static bool kin_has(const struct kin *kin, off_t byte, bool exclusive)
{
    for (int i = 0; i < kin->count; i++)
        if (kin->locks[i].start <= byte && kin->locks[i].end >= byte && kin->locks[i].exclusive == exclusive)
            return true;
    return false;
}

static void count_reader(const struct fdinfo_lock *lock, void *argument, struct lock_counts *counts)
{
    const struct kin *kin = argument;
    if (!lock->waits && lock->owner != FDINFO_OTHER && !lock->exclusive && lock->inode == kin->file.st_ino &&
        lock->start < LOCK_BYTE + LOCK_BYTES)
        counts->of[0]++;
}

static bool is_reader(const struct kin_lock *lock)
{
    return !lock->exclusive && lock->start < LOCK_BYTE + LOCK_BYTES;
}

/* Do both have the same shared locks on bytes 0-1, in the same order? */
static bool same_readers(const struct kin *one, const struct kin *other)
{
    int i = 0, j = 0;
    for (;; i++, j++) {
        while (i < one->count && !is_reader(&one->locks[i])) i++;
        while (j < other->count && !is_reader(&other->locks[j])) j++;
        if (i == one->count || j == other->count) return i == one->count && j == other->count;
        if (one->locks[i].slot != other->locks[j].slot) return false;
    }
}

/* What one look at the relatives and at the lock tells of who is in the way. */
enum seen {
    SEEN_STRANGER,
    SEEN_CHANGING, /* somebody came or went during the look: it tells nothing */
    SEEN_KIN,      /* all of them are relatives */
};

/* All that is shared on bytes 0-1 has to be the relatives', but for what the description that asks has itself.  They
 * are looked at before the count and after it: a relative that came or went meanwhile would hide a stranger. */
static enum seen see_readers(struct kin *kin)
{
    int relatives = kin->question->reads;
    struct lock_counts counts;
    /* Other hosts' locks are in no list of this one's. */
    if (distant_is(kin->question->lock_descriptor)) return SEEN_STRANGER;
    for (int i = 0; i < kin->count; i++) relatives += is_reader(&kin->locks[i]);
    /* GETLK names but one.  Reading the list slows every lock of the host for a moment. */
    const enum lock_list_answer answer = lock_list_count(count_reader, kin, &counts);
    if (answer == LOCK_LIST_CHANGING) return SEEN_CHANGING;
    if (answer == LOCK_LIST_UNREAD || counts.of[0] > relatives) return SEEN_STRANGER;
    struct kin *after = collect(kin->question);
    if (!after) return SEEN_STRANGER;
    const bool same = same_readers(kin, after);
    sys_munmap(after, sizeof *after);
    return same ? SEEN_KIN : SEEN_CHANGING;
}

/* Who is in the way on bytes 0-1? */
static enum seen see_lock(struct kin *kin)
{
    const struct relatives_question *question = kin->question;
    bool shared = false;
    for (off_t byte = LOCK_BYTE; byte < LOCK_BYTE + LOCK_BYTES; byte++) {
        struct bytes_found found;
        int held = bytes_held(question->lock_descriptor, bytes_type(question->mode), byte, 1, &found);
        if (held < 0 || (held && found.type == F_WRLCK && !kin_has(kin, byte, true))) return SEEN_STRANGER;
        shared |= held && found.type == F_RDLCK;
    }
    return shared ? see_readers(kin) : SEEN_KIN;
}

/* Is each byte that is in the way in the relatives' range a relative's?  GETLK reports any one lock, so each half
 * beside the one that was found is asked for as well: a list of what is left to ask. */
static bool kin_has_range(const struct kin *kin)
{
    const struct relatives_question *question = kin->question;
    const off_t end = RELATIVES_BYTE + (off_t)RELATIVES;
    for (off_t from = RELATIVES_BYTE; from < end;) {
        struct bytes_found found = {0};
        off_t until = end, lowest = -1, length = 0;
        short type = F_WRLCK;
        while (from < until &&
               bytes_held(question->lock_descriptor, bytes_type(question->mode), from, until - from, &found) > 0) {
            lowest = found.start > from ? found.start : from;
            length = found.length;
            type = found.type;
            until = lowest;
        }
        if (lowest < 0) return true;
        if (length != 1 || sys_monotonic() >= kin->deadline || !kin_has(kin, lowest, type == F_WRLCK)) return false;
        from = lowest + 1;
    }
    return true;
}

/* What of bytes 0-1 and the relatives' range has somebody in the way that is not known for a relative yet. */
struct unexplained {
    const struct relatives_question *question;
    bool lock, range;
};

static bool is_in_the_way(const struct relatives_question *question, int descriptor, off_t start, off_t length)
{
    return bytes_held(descriptor, bytes_type(question->mode), start, length, NULL) != 0;
}

/* Is nobody seen in the way through this descriptor of the lock file, which this process has?  Then all who are there
 * have its very open file description. */
static void ask_through(struct unexplained *unexplained, int descriptor)
{
    struct stat own, file;
    const struct relatives_question *question = unexplained->question;
    if (descriptor < 0 || sys_fstat(descriptor, &own) < 0 || sys_fstat(question->lock_descriptor, &file) < 0 ||
        own.st_dev != file.st_dev || own.st_ino != file.st_ino)
        return;
    if (unexplained->lock) unexplained->lock = is_in_the_way(question, descriptor, LOCK_BYTE, LOCK_BYTES);
    if (unexplained->range) unexplained->range = is_in_the_way(question, descriptor, RELATIVES_BYTE, RELATIVES);
}

static bool ask_through_number(uint64_t number, void *argument)
{
    struct unexplained *unexplained = argument;
    if (number <= INT_MAX && (int)number != unexplained->question->lock_descriptor)
        ask_through(unexplained, (int)number);
    return unexplained->lock || unexplained->range;
}

/* imglock hold hands its locks' descriptors down; so a command that it starts as another user, who may not look at
 * hold's own, is inside all the same. */
static void ask_through_inherited(struct unexplained *unexplained)
{
    int list = sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (list < 0) return;
    proc_each_number(sys_monotonic() + LOOKING_NS, list, ask_through_number, unexplained);
    sys_close(list);
}

static enum seen see(struct kin *kin, const struct unexplained *left)
{
    const enum seen lock = left->lock && !kin->lock_is_kin ? see_lock(kin) : SEEN_KIN;
    if (lock != SEEN_KIN || !left->range || kin->range_is_kin) return lock;
    return kin_has_range(kin) ? SEEN_KIN : SEEN_STRANGER;
}

static bool same_kin(const struct kin *one, const struct kin *other)
{
    if (one->count != other->count) return false;
    for (int i = 0; i < one->count; i++) {
        const struct kin_lock *first = &one->locks[i], *second = &other->locks[i];
        if (first->start != second->start || first->end != second->end || first->slot != second->slot ||
            first->exclusive != second->exclusive)
            return false;
    }
    return true;
}

/* Are there relatives that lock, as far as it is known without a look at the lock? */
static bool has_kin(const struct kin *kin)
{
    const struct relatives_known *known = kin->question->known;
    return kin->wrapped || kin->open || (known && (known->given_count > 0 || known->descriptor >= 0));
}

static bool is_relatives_slot(int slot, const void *argument)
{
    const struct kin *kin = argument;
    for (int i = 0; i < kin->count; i++)
        if (kin->locks[i].slot == slot) return true;
    return false;
}

static bool may_linger(const struct kin *kin)
{
    const struct lingering_question question = {.lock_descriptor = kin->question->lock_descriptor,
                                                .mode = kin->question->mode,
                                                .is_relative = is_relatives_slot,
                                                .argument = kin};
    return lingering_may_be(&question);
}

/* How long a stranger has to be there, ns.  One may lock for an instant and give back because it is refused itself; and
 * where there are relatives that lock, each of their locks may be shorter than a look at /proc.  Most strangers are
 * there to stay, so they are given less time. */
static int64_t moment_of(bool family)
{
    enum { FAMILY_NS = 250 * 1000 * 1000 };
    return family ? FAMILY_NS : PAUSE_INSTANT_NS;
}

/* A lock that nobody has any more goes when somebody else gets a processor, who is let go first by sched_yield(2).  It
 * is no matter of microseconds, so it is looked at less often: a lie in a record costs a refusal 0.2 s, and little of a
 * processor. */
enum { LINGERING_NS = 200 * 1000 * 1000, LINGERING_PAUSE_NS = 4 * 1000 * 1000, LINGERING_TURNS = 8 };

/* A stranger is told by so many points.  Among relatives that come and go all the time, a look may find the same of
 * them before and after while others were there between.  Whoever takes the lock writes a record, so a look after which
 * the file is as it was is worth more.  With two looks of any kind, a child of sixteen threads was refused in one of
 * 1,200 opens at a load of 20. */
enum { TOLD = 8, STEADY = 4, UNSTEADY = 1 };

static bool is_unwritten(const struct kin *before, const struct kin *after)
{
    return before->file.st_mtim.tv_sec == after->file.st_mtim.tv_sec &&
           before->file.st_mtim.tv_nsec == after->file.st_mtim.tv_nsec;
}

/* What the looks so far have told of strangers. */
struct told {
    int64_t first; /* when the first look was over that told of one */
    int points;
    bool family;  /* there are relatives that lock, or were */
    bool lingers; /* nobody was seen who has the lock, at one look at the least */
    int turns;    /* that others have had since that look */
};

/* Was the moment over when a look began that tells of a stranger again?  On a busy machine one look alone may take
 * longer than that. */
static bool is_over(const struct told *told, int64_t begun)
{
    return told->first && begun >= told->first + moment_of(told->family);
}

static bool is_certain(const struct told *told, int64_t begun)
{
    if (told->points < TOLD || !is_over(told, begun)) return false;
    return !told->lingers || (begun >= told->first + LINGERING_NS && told->turns >= LINGERING_TURNS);
}

/* Longer once nobody was seen who has the lock.  False: the time is over. */
static bool pause_between_looks(struct told *told, int64_t end)
{
    if (!sys_pause(end)) return false;
    if (!told->lingers) return true;
    sys_sleep(LINGERING_PAUSE_NS);
    sys_yield();
    told->turns++;
    return true;
}

/* A look tells of a stranger only if the relatives were the same before and after it.  One look is enough to tell that
 * all are relatives. */
static enum relatives_answer ask_kin(const struct relatives_question *question, const struct unexplained *left)
{
    const int64_t end = sys_monotonic() + LOOKING_NS;
    struct told told = {.first = 0};
    enum seen seen = SEEN_STRANGER;
    struct kin *kin = collect(question);
    while (kin) {
        const int64_t begun = sys_monotonic();
        /* Before the look: who is seen and gives the lock up is not in the way at the look. */
        if (is_over(&told, begun) && !told.lingers) told.lingers = may_linger(kin);
        seen = see(kin, left);
        if (seen == SEEN_KIN || kin->file.st_nlink == 0) break; /* deleted: the caller takes the new lock file */
        struct kin *after = collect(question);
        if (after && !same_kin(kin, after)) seen = SEEN_CHANGING;
        told.family |= has_kin(kin); /* even of those that have ended meanwhile */
        if (seen == SEEN_STRANGER)
            told.points += !told.family || (after && is_unwritten(kin, after)) ? STEADY : UNSTEADY;
        sys_munmap(kin, sizeof *kin);
        kin = after;
        if (question->once || (seen == SEEN_STRANGER && (question->waits || is_certain(&told, begun)))) break;
        if (seen == SEEN_STRANGER && !told.first) told.first = sys_monotonic();
        if (!pause_between_looks(&told, end)) break;
    }
    if (kin) sys_munmap(kin, sizeof *kin);
    return seen == SEEN_KIN ? RELATIVES_ALL : RELATIVES_STRANGERS;
}

enum relatives_answer relatives_in_the_way(const struct relatives_question *question)
{
    struct unexplained left = {.question = question,
                               .lock = is_in_the_way(question, question->lock_descriptor, LOCK_BYTE, LOCK_BYTES),
                               .range = is_in_the_way(question, question->lock_descriptor, RELATIVES_BYTE, RELATIVES)};
    if (!left.lock && !left.range) return RELATIVES_NOBODY;
    if (question->known) ask_through(&left, question->known->descriptor);
    if (question->ancestors && (left.lock || left.range)) ask_through_inherited(&left);
    if (!left.lock && !left.range) return RELATIVES_ALL;
    return ask_kin(question, &left);
}

bool relatives_hold_any(const struct relatives_question *question)
{
    struct kin *kin = collect(question);
    if (!kin) return false;
    const bool any = kin->count > 0 || (kin->distant && kin->open);
    sys_munmap(kin, sizeof *kin);
    return any;
}
