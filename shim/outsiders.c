#include "outsiders.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "mappings.h"
#include "mark.h"
#include "proc.h"
#include "process.h"
#include "sys.h"

/* Looking at /proc takes as long as the machine is busy; it ends after this, and who was not found then is unseen. */
#define LOOKING_NS (INT64_C(5) * 1000 * 1000 * 1000)

/* A description by which this process or an ancestor has the image. */
struct own_description {
    pid_t process;
    int number;
};

enum { KIN_MAX = 64, OWN_MAX = 64, LINE_SIZE = PROC_LINE_SIZE };

struct search {
    const struct outsiders_question *question;
    sys_signals signals; /* the program's: a handler that jumps away would leave descriptors behind */
    int64_t deadline;
    struct stat lock_file;
    bool has_lock_file;
    bool inside; /* somebody who does not count has it open for writing */
    bool by_us;  /* this process, or an ancestor with the library */
    bool found;
    struct outsider *outsider;
    int kin_count, own_count;
    pid_t kin[KIN_MAX];
    struct own_description own[OWN_MAX];
    char line[LINE_SIZE];
};

/* ---- the descriptors of one process --------------------------------------------------------------------- */

struct of_process {
    struct search *search;
    pid_t pid;
    int process;   /* its directory in /proc */
    bool kin;      /* this process or an ancestor */
    bool self;     /* this process */
    int writer;    /* its descriptor that is open for writing on the image; -1: none */
    int lock_file; /* its descriptor of the lock file; -1: none */
};

/* The link's permissions show what the descriptor is open for, proc_pid_fd(5). */
static bool is_for_writing(int process, const char *name)
{
    struct stat link;
    return sys_fstatat(process, name, &link, AT_SYMLINK_NOFOLLOW) == 0 && link.st_mode & S_IWUSR;
}

static bool add_descriptor(uint64_t number, void *argument)
{
    struct of_process *of = argument;
    struct search *search = of->search;
    const struct outsiders_question *question = search->question;
    char name[PROC_NAME_SIZE];
    dev_t device;
    ino_t inode;
    if (of->self && (int)number == question->skipped) return true;
    proc_name(name, "fd/", number);
    const int result = proc_identify(of->process, name, &device, &inode);
    /* Who may not look at one descriptor of a process may look at none. */
    if (result < 0) return result != -EACCES;
    if (search->has_lock_file && device == search->lock_file.st_dev && inode == search->lock_file.st_ino)
        of->lock_file = (int)number;
    if (device != question->device || inode != question->inode) return true;
    if (is_for_writing(of->process, name)) of->writer = (int)number;
    if (of->kin && search->own_count < OWN_MAX)
        search->own[search->own_count++] = (struct own_description){of->pid, (int)number};
    return true;
}

static void add_descriptors(struct of_process *of)
{
    of->writer = of->lock_file = -1;
    const int list = sys_openat(of->process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (list < 0) return;
    proc_each_number(of->search->deadline, list, add_descriptor, of);
    sys_close(list);
}

/* ---- who does not count --------------------------------------------------------------------------------- */

static bool is_kin(const struct search *search, pid_t pid)
{
    for (int i = 0; i < search->kin_count; i++)
        if (search->kin[i] == pid) return true;
    return false;
}

static void add_one_of_kin(struct search *search, pid_t pid, int process, bool self)
{
    struct of_process of = {.search = search, .pid = pid, .process = process, .kin = true, .self = self};
    if (search->kin_count < KIN_MAX) search->kin[search->kin_count++] = pid;
    add_descriptors(&of);
    if (of.writer < 0) return;
    search->inside = true;
    search->by_us |= self || proc_has_library(process) > 0;
}

static void add_kin(struct search *search)
{
    pid_t number = proc_self();
    int process = number ? proc_open((uint64_t)number, "") : -ENOENT;
    if (process < 0) return;
    add_one_of_kin(search, number, process, true);
    sys_close(process);
    while (search->question->ancestors && sys_monotonic() < search->deadline) {
        process = proc_open_parent(&number);
        if (process == -ESRCH) return;
        if (process < 0) continue;
        add_one_of_kin(search, number, process, false);
        sys_close(process);
    }
}

static bool descends_from(const struct search *search, pid_t pid, pid_t ancestor)
{
    uint64_t start;
    for (pid_t parent; sys_monotonic() < search->deadline; pid = parent) {
        if (!process_read_stat(pid, &start, &parent, NULL) || parent <= 0) return false;
        if (parent == ancestor) return true;
    }
    return false;
}

/* Has it the descriptor from this process or an ancestor?  It has the number that it had there. */
static bool is_handed_down(const struct of_process *of)
{
    const struct search *search = of->search;
    for (int i = 0; i < search->own_count; i++)
        if (search->own[i].number == of->writer && descends_from(search, of->pid, search->own[i].process)) return true;
    return false;
}

/* What one descriptor has locked of a file: under its number there may be another file by now. */
struct locks {
    uint64_t inode;
    int all, descriptions, keepers;
};

static bool note_lock(const struct fdinfo_lock *lock, void *argument)
{
    struct locks *locks = argument;
    if (lock->inode != locks->inode) return true;
    locks->all++;
    locks->descriptions += lock->owner == FDINFO_DESCRIPTION;
    locks->keepers += mark_is_keepers(lock);
    return true;
}

static bool has_lock(const struct of_process *of)
{
    char name[PROC_NAME_SIZE];
    struct locks locks = {.inode = of->search->lock_file.st_ino};
    if (of->lock_file < 0) return false;
    proc_name(name, "fdinfo/", (uint64_t)of->lock_file);
    fdinfo_each_lock(of->process, name, note_lock, &locks);
    return locks.descriptions > 0;
}

static bool is_lock_keeper(const struct of_process *of)
{
    char name[PROC_NAME_SIZE];
    struct locks locks = {.inode = of->search->question->inode};
    proc_name(name, "fdinfo/", (uint64_t)of->writer);
    fdinfo_each_lock(of->process, name, note_lock, &locks);
    return locks.keepers == 1 && locks.all == 1;
}

static bool is_there_still(const struct of_process *of)
{
    char name[PROC_NAME_SIZE];
    dev_t device;
    ino_t inode;
    proc_name(name, "fd/", (uint64_t)of->writer);
    return proc_identify(of->process, name, &device, &inode) == 0 && device == of->search->question->device &&
           inode == of->search->question->inode;
}

/* ---- processes ------------------------------------------------------------------------------------------ */

static void note_process(struct search *search, enum outsider_kind kind, pid_t pid)
{
    pid_t parent;
    *search->outsider = (struct outsider){.kind = kind, .pid = pid};
    search->found = process_read_stat(pid, &search->outsider->start, &parent, NULL);
}

static bool look_at_process(uint64_t number, void *argument)
{
    struct search *search = argument;
    if (is_kin(search, (pid_t)number)) return true;
    struct of_process of = {.search = search, .pid = (pid_t)number, .process = proc_open(number, "")};
    if (of.process < 0) return true;
    add_descriptors(&of);
    if (of.writer >= 0) {
        if (is_handed_down(&of) || has_lock(&of) || proc_has_library(of.process) > 0 || is_lock_keeper(&of))
            search->inside = true;
        else if (is_there_still(&of))
            note_process(search, OUTSIDER_PROCESS, of.pid);
    }
    sys_close(of.process);
    return !search->found;
}

/* ---- mappings ------------------------------------------------------------------------------------------- */

/* A mapping keeps the description that it was made of.  It does not tell what that was open for; so these are looked at
 * last. */
static bool look_at_mappings(uint64_t number, void *argument)
{
    struct search *search = argument;
    const struct outsiders_question *question = search->question;
    const struct mapped_file file = {question->device, question->inode, question->path};
    const int process = proc_open(number, "");
    if (process < 0) return true;
    if (mappings_of(process, &file, 1, search->line, LINE_SIZE) > 0) {
        const bool library = proc_has_library(process) > 0;
        if (is_kin(search, (pid_t)number) || (library && !question->marked))
            search->inside = true;
        else
            note_process(search, OUTSIDER_MAPPING, (pid_t)number);
        search->outsider->library = library;
    }
    sys_close(process);
    return !search->found;
}

/* ---- loop devices --------------------------------------------------------------------------------------- */

/* What a file of /sys/block/loopN says, without its newline; false: there is none. */
static bool read_about_loop(unsigned loop, const char *name, char *bytes, size_t size)
{
    char path[48];
    struct text text = text_in(path, sizeof path);
    text_append(&text, "/sys/block/loop");
    text_append_number(&text, loop);
    text_append(&text, name);
    const int file = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return false;
    const ssize_t got = sys_read(file, bytes, size - 1);
    sys_close(file);
    if (got <= 0) return false;
    bytes[got - (bytes[got - 1] == '\n')] = '\0';
    return true;
}

/* Its file has no name any more, or one that is seen elsewhere. */
static bool is_loop_by_device(const struct outsiders_question *question, unsigned loop)
{
    char path[24];
    struct loop_info64 info;
    struct text text = text_in(path, sizeof path);
    text_append(&text, "/dev/loop");
    text_append_number(&text, loop);
    const int device = sys_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
    if (device < 0) return false;
    const long result = sys_call(SYS_ioctl, device, LOOP_GET_STATUS64, (long)&info, 0, 0, 0);
    sys_close(device);
    return result == 0 && info.lo_inode == question->inode &&
           makedev((unsigned)(info.lo_device >> 8 & 0xfff),
                   (unsigned)((info.lo_device & 0xff) | (info.lo_device >> 12 & 0xfff00))) == question->device;
}

/* A loop device that only reads has its file open for reading. */
static bool loop_only_reads(unsigned loop)
{
    char read_only[8];
    return read_about_loop(loop, "/ro", read_only, sizeof read_only) && *read_only == '1';
}

static bool is_loop_of_image(struct search *search, unsigned loop)
{
    const struct outsiders_question *question = search->question;
    dev_t device;
    ino_t inode;
    if (!read_about_loop(loop, "/loop/backing_file", search->line, LINE_SIZE)) return false;
    if (!question->readers && loop_only_reads(loop)) return false;
    if (proc_identify(AT_FDCWD, search->line, &device, &inode) < 0) return is_loop_by_device(question, loop);
    return device == question->device && inode == question->inode;
}

static void look_at_loops(struct search *search)
{
    _Alignas(8) char bytes[1024];
    static const char prefix[] = "loop";
    const int blocks = sys_openat(AT_FDCWD, "/sys/block", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (blocks < 0) return;
    for (long size; !search->found && (size = sys_getdents(blocks, bytes, sizeof bytes)) > 0;) {
        const struct sys_entry *entry;
        for (long at = 0; !search->found && at < size; at += entry->length) {
            entry = (const struct sys_entry *)(bytes + at);
            const char *name = entry->name + sizeof prefix - 1;
            uint64_t number;
            if (strncmp(entry->name, prefix, sizeof prefix - 1) != 0 || !text_parse_number(&name, &number) ||
                !is_loop_of_image(search, (unsigned)number))
                continue;
            search->found = true;
            *search->outsider = (struct outsider){
                .kind = OUTSIDER_LOOP, .loop = (unsigned)number, .reads = loop_only_reads((unsigned)number)};
        }
    }
    sys_close(blocks);
}

/* ---- all of it ------------------------------------------------------------------------------------------ */

static struct search *start(const struct outsiders_question *question)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_signals before;
    sys_sigmask(SIG_BLOCK, &all, &before);
    struct search *search = sys_mmap(sizeof *search);
    if (!search) {
        sys_sigmask(SIG_SETMASK, &before, NULL);
        return NULL;
    }
    search->signals = before;
    search->question = question;
    search->deadline = sys_monotonic() + LOOKING_NS;
    search->has_lock_file =
        question->lock_descriptor >= 0 && sys_fstat(question->lock_descriptor, &search->lock_file) == 0;
    return search;
}

static void finish(struct search *search)
{
    const sys_signals before = search->signals;
    sys_munmap(search, sizeof *search);
    sys_sigmask(SIG_SETMASK, &before, NULL);
}

bool outsiders_is_own(const struct outsiders_question *question)
{
    struct search *search = start(question);
    if (!search) return false;
    add_kin(search);
    const bool own = search->by_us;
    finish(search);
    return own;
}

enum outsiders_found outsiders_find(const struct outsiders_question *question, struct outsider *outsider)
{
    struct search *search = start(question);
    if (!search) return OUTSIDERS_NOBODY; /* none who could be looked at */
    search->outsider = outsider;
    look_at_loops(search);
    if (!search->found) add_kin(search);
    if (!search->found) proc_each_process(search->deadline, look_at_process, search);
    if (!search->found && !search->inside) proc_each_process(search->deadline, look_at_mappings, search);
    const enum outsiders_found answer = search->found    ? OUTSIDERS_FOUND
                                        : search->inside ? OUTSIDERS_INSIDE
                                                         : OUTSIDERS_NOBODY;
    finish(search);
    return answer;
}

bool outsiders_same(const struct outsider *one, const struct outsider *other)
{
    return one->kind == other->kind && one->pid == other->pid && one->start == other->start && one->loop == other->loop;
}

void outsider_append_has(struct text *text, const struct outsider *outsider)
{
    text_append(text, outsider->kind == OUTSIDER_MAPPING ? "has it mapped"
                      : outsider->reads                  ? "has it open for reading"
                                                         : "has it open for writing");
    if (!outsider->library) text_append(text, ", outside imglock");
}

/* ---- mounts --------------------------------------------------------------------------------------------- */

struct mounted {
    char device[20]; /* "/dev/loop0" */
    struct text *text;
    bool any;
};

/* mountinfo has blanks and backslashes as \ooo. */
static void append_unescaped(struct text *text, const char *at)
{
    for (; *at && *at != ' '; at++) {
        char byte = *at;
        if (byte == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] && at[3]) {
            byte = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
            at += 3;
        }
        const size_t length = text_utf8_sequence(at, strlen(at));
        if (byte == *at && length > 1) {
            text_append_untrusted(text, at, length);
            at += length - 1;
        } else {
            text_append_untrusted(text, &byte, 1);
        }
    }
}

/* "36 35 7:0 / /mnt rw,noatime shared:1 - ext4 /dev/loop0 rw", proc_pid_mountinfo(5).  A partition's name goes on with
 * p and a number. */
static bool note_mount(const char *line, void *argument)
{
    struct mounted *mounted = argument;
    const char *behind = strstr(line, " - ");
    const size_t length = strlen(mounted->device);
    if (!behind) return true;
    const char *source = proc_next_word(behind + 3);
    if (strncmp(source, mounted->device, length) != 0 || (source[length] != ' ' && source[length] != 'p')) return true;
    append_unescaped(mounted->text, proc_next_word(proc_next_word(proc_next_word(proc_next_word(line)))));
    mounted->any = true;
    return false;
}

bool outsiders_append_mount(struct text *text, unsigned loop)
{
    struct mounted mounted = {.text = text};
    struct text device = text_in(mounted.device, sizeof mounted.device);
    struct search *search = sys_mmap(sizeof *search);
    if (!search) return false;
    text_append(&device, "/dev/loop");
    text_append_number(&device, loop);
    proc_each_line(AT_FDCWD, "/proc/self/mountinfo", search->line, LINE_SIZE, note_mount, &mounted);
    sys_munmap(search, sizeof *search);
    return mounted.any;
}
