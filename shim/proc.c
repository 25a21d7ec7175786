#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "process.h"
#include "sys.h"
#include "text.h"

void proc_each_number(int64_t deadline, int directory, bool (*act)(uint64_t number, void *argument), void *argument)
{
    _Alignas(8) char bytes[1024];
    for (long size; (size = sys_getdents(directory, bytes, sizeof bytes)) > 0;) {
        if (sys_monotonic() >= deadline) return;
        const struct sys_entry *entry;
        for (long at = 0; at < size; at += entry->length) {
            entry = (const struct sys_entry *)(bytes + at);
            const char *name = entry->name;
            uint64_t number;
            if (text_parse_number(&name, &number) && !*name && !act(number, argument)) return;
        }
    }
}

void proc_each_process(int64_t deadline, bool (*act)(uint64_t number, void *argument), void *argument)
{
    const int processes = sys_openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (processes < 0) return;
    proc_each_number(deadline, processes, act, argument);
    sys_close(processes);
}

pid_t proc_self(void)
{
    char link[16];
    uint64_t number = 0;
    const ssize_t length = sys_readlinkat(AT_FDCWD, "/proc/self", link, sizeof link - 1);
    if (length <= 0) return 0;
    link[length] = '\0';
    const char *at = link;
    return text_parse_number(&at, &number) ? (pid_t)number : 0;
}

void proc_name(char name[PROC_NAME_SIZE], const char *where, uint64_t number)
{
    struct text text = text_in(name, PROC_NAME_SIZE);
    text_append(&text, where);
    text_append_number(&text, (long long)number);
}

int proc_open(uint64_t number, const char *name)
{
    char path[40];
    struct text text = text_in(path, sizeof path);
    text_append(&text, "/proc/");
    text_append_number(&text, (long long)number);
    text_append(&text, name);
    return sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

/* A number may be given to another process at any time, but not while the process itself is there: so its child is
 * asked once more. */
int proc_open_parent(pid_t *number)
{
    for (;;) {
        uint64_t start;
        pid_t parent, again;
        if (!process_read_stat(*number, &start, &parent, NULL) || parent <= 0) return -ESRCH;
        int directory = proc_open((uint64_t)parent, "");
        if (process_read_stat(*number, &start, &again, NULL) && again == parent) {
            *number = parent;
            return directory;
        }
        if (directory >= 0) sys_close(directory);
    }
}

int proc_each_line(int directory, const char *name, char *line, size_t size,
                   bool (*visit)(const char *line, void *argument), void *argument)
{
    size_t have = 0;
    const int file = sys_openat(directory, name, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return file;
    bool more = true;
    for (long got; more && (got = sys_read(file, line + have, size - 1 - have)) > 0;) {
        have += (size_t)got;
        line[have] = '\0';
        char *at = line;
        for (char *end; more && (end = strchr(at, '\n')); at = end + 1) {
            *end = '\0';
            more = visit(at, argument);
        }
        have -= (size_t)(at - line);
        memmove(line, at, have);
        if (have == size - 1) have = 0;
    }
    sys_close(file);
    return 0;
}

const char *proc_next_word(const char *word)
{
    word += strcspn(word, " ");
    return word + strspn(word, " ");
}

int proc_identify(int directory, const char *name, dev_t *device, ino_t *inode)
{
    struct statx status;
    struct stat old;
    const int result = (int)sys_call(SYS_statx, directory, (long)name, AT_STATX_DONT_SYNC, STATX_INO, (long)&status, 0);
    if (result == -ENOSYS) {
        const int error = sys_fstatat(directory, name, &old, 0);
        if (error < 0) return error;
        *device = old.st_dev, *inode = old.st_ino;
        return 0;
    }
    if (result < 0) return result;
    *device = makedev(status.stx_dev_major, status.stx_dev_minor);
    *inode = status.stx_ino;
    return 0;
}

int proc_has_library(int process)
{
    static const char name[] = "libimglock";
    enum { KEPT = sizeof name - 2 };
    char bytes[4096];
    size_t have = 0;
    bool found = false;
    int maps = sys_openat(process, "maps", O_RDONLY | O_CLOEXEC, 0);
    if (maps < 0) return maps == -ENOENT ? -ESRCH : maps;
    long got = 0;
    bool any = false;
    while (!found && (got = sys_read(maps, bytes + have, sizeof bytes - have)) > 0) {
        any = true;
        have += (size_t)got;
        for (size_t at = 0; !found && at + sizeof name - 1 <= have; at++)
            found = bytes[at] == name[0] && memcmp(bytes + at, name, sizeof name - 1) == 0;
        const size_t kept = have < KEPT ? have : KEPT;
        memmove(bytes, bytes + have - kept, kept);
        have = kept;
    }
    sys_close(maps);
    if (got < 0) return (int)got;
    return any ? found : -ESRCH; /* a process that has ended has no mappings */
}
