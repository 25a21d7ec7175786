#include "fdinfo.h"

#include <string.h>

#include "proc.h"
#include "sys.h"
#include "text.h"

static const char *skip_blanks(const char *at)
{
    while (*at == ' ' || *at == '\t') at++;
    return at;
}

static const char *next_word(const char *at)
{
    return skip_blanks(at + strcspn(at, " \t"));
}

static bool is_word(const char *at, const char *word)
{
    const size_t length = strlen(word);
    return strncmp(at, word, length) == 0 && (at[length] == ' ' || at[length] == '\t' || !at[length]);
}

/* "fe:" */
static bool parse_hex(const char **cursor, unsigned *number)
{
    const char *at = *cursor;
    *number = 0;
    for (; (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'f'); at++)
        *number = *number << 4 | (((unsigned)*at & 15u) + (*at >= 'a' ? 9 : 0));
    *cursor = at + 1;
    return *at == ':';
}

/* "WRITE -1 fe:00:131 0 1": what a row says behind the kind of lock. */
static bool parse_range(const char *at, struct fdinfo_lock *lock)
{
    uint64_t start, end = INT64_MAX, pid;
    lock->exclusive = is_word(at, "WRITE");
    if (!lock->exclusive && !is_word(at, "READ")) return false;
    const char *owner = next_word(at);
    const char *inode = next_word(owner);
    lock->pid = text_parse_number(&owner, &pid) ? (pid_t)pid : -1;
    if (!parse_hex(&inode, &lock->major) || !parse_hex(&inode, &lock->minor) ||
        !text_parse_number(&inode, &lock->inode))
        return false;
    at = skip_blanks(inode);
    if (!text_parse_number(&at, &start)) return false;
    at = skip_blanks(at);
    if (!is_word(at, "EOF") && !text_parse_number(&at, &end)) return false;
    lock->start = (off_t)start;
    lock->end = (off_t)end;
    return true;
}

/* "lock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:131 0 1"; of one that waits "1: -> OFDLCK ...". */
bool fdinfo_parse_lock(const char *line, struct fdinfo_lock *lock)
{
    static const char key[] = "lock:";
    uint64_t number;
    if (strncmp(line, key, sizeof key - 1) == 0) line += sizeof key - 1;
    line = skip_blanks(line);
    if (!text_parse_number(&line, &number) || *line++ != ':') return false;
    line = skip_blanks(line);
    lock->waits = is_word(line, "->");
    if (lock->waits) line = next_word(line);
    lock->owner = is_word(line, "OFDLCK") ? FDINFO_DESCRIPTION : is_word(line, "POSIX") ? FDINFO_PROCESS : FDINFO_OTHER;
    return parse_range(next_word(next_word(line)), lock);
}

void fdinfo_own(char name[FDINFO_OWN_SIZE], int descriptor)
{
    struct text text = text_in(name, FDINFO_OWN_SIZE);
    text_append(&text, "/proc/self/fdinfo/");
    text_append_number(&text, descriptor);
}

struct sought {
    int descriptor;
    struct stat status;
    int parent; /* its directory in /proc */
    bool found;
};

static bool is_same_description(uint64_t number, void *argument)
{
    enum { COMPARE_FILES = 0 }; /* KCMP_FILE, <linux/kcmp.h> */
    struct sought *sought = argument;
    struct stat status;
    char name[PROC_NAME_SIZE];
    proc_name(name, "fd/", number);
    if (sys_fstatat(sought->parent, name, &status, 0) < 0 || status.st_ino != sought->status.st_ino ||
        status.st_dev != sought->status.st_dev)
        return true;
    const long parent = sys_call(SYS_getppid, 0, 0, 0, 0, 0, 0);
    const long result = sys_call(SYS_kcmp, sys_getpid(), parent, COMPARE_FILES, sought->descriptor, (long)number, 0);
    sought->found = result < 0 ? (int)number == sought->descriptor : result == 0;
    return !sought->found;
}

bool fdinfo_parent_has(int descriptor)
{
    struct sought sought = {.descriptor = descriptor};
    pid_t number = 0;
    if (sys_fstat(descriptor, &sought.status) < 0) return false;
    sought.parent = proc_open_parent(&number);
    if (sought.parent < 0) return false;
    const int list = sys_openat(sought.parent, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (list >= 0) {
        proc_each_number(INT64_MAX, list, is_same_description, &sought);
        sys_close(list);
    }
    sys_close(sought.parent);
    return sought.found;
}

ssize_t fdinfo_each_row(char *bytes, size_t length, bool (*visit)(const struct fdinfo_lock *lock, void *argument),
                        void *argument)
{
    char *line = bytes;
    bytes[length] = '\0';
    for (char *end; (end = strchr(line, '\n')); line = end + 1) {
        struct fdinfo_lock lock;
        *end = '\0';
        if (fdinfo_parse_lock(line, &lock) && !visit(&lock, argument)) return -1;
    }
    const size_t left = length - (size_t)(line - bytes);
    memmove(bytes, line, left);
    return (ssize_t)left;
}

int fdinfo_each_lock(int directory, const char *name, bool (*visit)(const struct fdinfo_lock *lock, void *argument),
                     void *argument)
{
    enum { MOST = 1023 };
    char bytes[MOST + 1];
    const int descriptor = sys_openat(directory, name, O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return descriptor;
    ssize_t left = 0;
    for (ssize_t got; left >= 0 && (got = sys_read(descriptor, bytes + left, (size_t)(MOST - left))) > 0;) {
        left = fdinfo_each_row(bytes, (size_t)(left + got), visit, argument);
        if (left == MOST) left = 0; /* no row is that long */
    }
    sys_close(descriptor);
    return 0;
}
