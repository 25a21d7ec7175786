#include "process.h"

#include <stdatomic.h>

#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>

#include "sys.h"
#include "text.h"

static ssize_t read_file(const char *path, char *bytes, size_t size)
{
    int descriptor = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return descriptor;
    ssize_t length = sys_read(descriptor, bytes, size - 1);
    sys_close(descriptor);
    bytes[length > 0 ? length : 0] = '\0';
    return length;
}

/* Of the process with this number in /proc, or of this one with 0, whose number in /proc is another than its pid where
 * /proc belongs to another PID namespace. */
static void process_path(pid_t number, const char *name, char path[32])
{
    struct text text = text_in(path, 32);
    text_append(&text, "/proc/");
    if (number)
        text_append_number(&text, number);
    else
        text_append(&text, "self");
    text_append(&text, name);
}

bool process_read_stat(pid_t number, uint64_t *start, pid_t *parent, char *command)
{
    char path[32];
    char stat[512];
    process_path(number, "/stat", path);
    ssize_t length = read_file(path, stat, sizeof stat);
    if (length <= 0) return false;
    /* "pid (command) state ppid ... starttime": the command may hold blanks and brackets, so the fields are
     * counted from the last bracket. */
    const char *open = memchr(stat, '(', (size_t)length);
    const char *close = memrchr(stat, ')', (size_t)length);
    if (!open || !close || close < open) return false;
    if (command) {
        size_t size = (size_t)(close - open - 1) < 16 ? (size_t)(close - open - 1) : 16;
        memcpy(command, open + 1, size);
        command[size] = '\0';
    }
    uint64_t value = 0;
    const char *at = close + 1;
    for (int field = 3; field <= 22; field++) {
        while (*at == ' ') at++;
        const char *cursor = at;
        if (field == 4 || field == 22)
            if (!text_parse_number(&cursor, &value)) return false;
        if (field == 4) *parent = (pid_t)value;
        at += strcspn(at, " ");
    }
    *start = value;
    return true;
}

/* From "NSpid:" in /proc/PID/status, proc_pid_status(5), which comes after the groups, of which there may be thousands.
 */
int process_space_pids(pid_t number, uint64_t *innermost)
{
    static const char key[] = "\nNSpid:";
    enum { LONGEST_LINE = 512 }; /* of 32 namespaces, MAX_PID_NS_LEVEL */
    char path[32], bytes[2 * LONGEST_LINE];
    size_t have = 0;
    int count = 0;
    process_path(number, "/status", path);
    int descriptor = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return 0;
    for (ssize_t got; (got = sys_read(descriptor, bytes + have, sizeof bytes - 1 - have)) > 0;) {
        have += (size_t)got;
        bytes[have] = '\0';
        const char *at = strstr(bytes, key);
        if (at && strchr(at + 1, '\n')) {
            for (at += sizeof key - 1; *at == '\t'; count++) {
                at++;
                if (!text_parse_number(&at, innermost)) break;
            }
            break;
        }
        if (have <= LONGEST_LINE) continue;
        memmove(bytes, bytes + have - LONGEST_LINE, LONGEST_LINE);
        have = LONGEST_LINE;
    }
    sys_close(descriptor);
    return count;
}

bool process_is(pid_t pid, pid_t number)
{
    uint64_t own, others;
    int depth = process_space_pids(0, &own);
    uint64_t start;
    pid_t parent;
    /* Before Linux 4.1; or /proc does not have this process, and nobody in it is who we mean. */
    if (depth == 0) return pid == number && process_read_stat(0, &start, &parent, NULL);
    return process_space_pids(number, &others) == depth && others == (uint64_t)pid;
}

static uint64_t read_boot_id(void)
{
    char text[64];
    uint64_t id = 0;
    if (read_file("/proc/sys/kernel/random/boot_id", text, sizeof text) <= 0) return 0;
    int digits = 0;
    for (const char *at = text; *at && digits < 16; at++) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0' : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : -1;
        if (digit < 0) continue;
        id = id << 4 | (unsigned)digit;
        digits++;
    }
    return id;
}

/* The inode number of the PID namespace, from the text of the link, "pid:[4026531836]" (namespaces(7)): to follow it
 * makes the inode, which takes twice as long. */
static uint64_t read_pid_space(void)
{
    static const char start[] = "pid:[";
    char link[32];
    uint64_t space;
    ssize_t length = sys_readlinkat(AT_FDCWD, "/proc/self/ns/pid", link, sizeof link - 1);
    if (length <= (ssize_t)sizeof start - 1 || memcmp(link, start, sizeof start - 1) != 0) return 0;
    link[length] = '\0';
    const char *at = link + sizeof start - 1;
    return text_parse_number(&at, &space) ? space : 0;
}

/* Records are words between blanks. */
static void append_word(struct text *text, const char *word, size_t longest)
{
    size_t end = text->length + longest;
    for (; *word && text->length < end; word++) {
        if (*word == ' ')
            text_append(text, "_");
        else
            text_append_untrusted(text, word, 1);
    }
}

/* Stands for the start time where /proc does not tell it: else two processes with one pid, in PID namespaces of their
 * own, would be the same. */
static _Atomic uint64_t random_start;

static uint64_t choose_start(void)
{
    uint64_t none = 0, random = 0;
    struct timespec now = {0};
    if (sys_call(SYS_getrandom, (long)&random, sizeof random, GRND_NONBLOCK, 0, 0, 0) != sizeof random) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        random = ((uint64_t)now.tv_sec << 30 | (uint64_t)now.tv_nsec) * 1099511628211u;
    }
    random = (random & INT64_MAX) | UINT64_C(1) << 62; /* later than any start time */
    return atomic_compare_exchange_strong(&random_start, &none, random) ? random : none;
}

static struct process_identity this_process;

void process_forget_self(void)
{
    __atomic_store_n(&this_process.pid, 0, __ATOMIC_RELEASE);
    random_start = 0;
}

/* What is filled in by two threads at once is the same, and the pid, which says that it is there, comes last. */
const struct process_identity *process_self_of(pid_t pid)
{
    if (__atomic_load_n(&this_process.pid, __ATOMIC_ACQUIRE) == pid) return &this_process;
    struct process_identity found = {0};
    char command[17] = "";
    pid_t parent;
    if (!process_read_stat(0, &found.start, &parent, command)) {
        found.start = choose_start();
        sys_call(SYS_prctl, PR_GET_NAME, (long)command, 0, 0, 0, 0);
    }
    found.boot = read_boot_id();
    found.pid_space = read_pid_space();
    struct utsname names;
    struct text host = text_in(found.host, sizeof found.host);
    if (sys_call(SYS_uname, (long)&names, 0, 0, 0, 0, 0) == 0) append_word(&host, names.nodename, 32);
    struct text word = text_in(found.command, sizeof found.command);
    append_word(&word, command, 48);
    this_process = found;
    __atomic_store_n(&this_process.pid, pid, __ATOMIC_RELEASE);
    return &this_process;
}

const struct process_identity *process_self(void)
{
    return process_self_of(sys_getpid());
}

bool process_is_of_another_host(const struct process_identity *process)
{
    return strncmp(process->host, process_self()->host, strlen(process->host)) != 0;
}

bool process_is_of_here(const struct process_identity *process)
{
    const struct process_identity *self = process_self();
    return process->boot == self->boot && process->pid_space == self->pid_space && !process_is_of_another_host(process);
}

bool process_look_at(const struct process_identity *process, uid_t *user, char *command)
{
    char path[32], status[512];
    uint64_t start, uid;
    pid_t parent;
    if (!process_is_of_here(process) || !process_read_stat(process->pid, &start, &parent, command) ||
        start != process->start)
        return false;
    process_path(process->pid, "/status", path);
    if (read_file(path, status, sizeof status) <= 0) return false;
    /* "Uid:\treal\teffective\t..."; the command, which comes first, has its newlines escaped. */
    const char *at = strstr(status, "\nUid:\t");
    if (at) at = strchr(at + sizeof "\nUid:\t" - 1, '\t');
    if (!at++ || !text_parse_number(&at, &uid)) return false;
    *user = (uid_t)uid;
    return true;
}
