#include "family.h"

#include <fcntl.h>
#include <string.h>

#include "proc.h"
#include "process.h"
#include "sys.h"
#include "text.h"

void family_find(struct family *family)
{
    uint64_t start;
    pid_t parent;
    family->self = proc_self();
    if (!family->self) return;
    for (pid_t pid = family->self; family->ancestor_count < FAMILY_ANCESTORS; pid = parent) {
        if (!process_read_stat(pid, &start, &parent, NULL) || parent <= 0) return;
        family->ancestors[family->ancestor_count++] = parent;
    }
}

bool family_is_ancestor(const struct family *family, pid_t pid)
{
    for (int i = 0; i < family->ancestor_count; i++)
        if (family->ancestors[i] == pid) return true;
    return false;
}

bool family_is_descendant(const struct family *family, pid_t pid)
{
    uint64_t start;
    for (int depth = 0; depth < FAMILY_ANCESTORS && pid > 1; depth++) {
        if (!process_read_stat(pid, &start, &pid, NULL)) return false;
        if (pid == family->self) return true;
    }
    return false;
}

void family_add(struct family *family, pid_t pid)
{
    for (int i = 0; i < family->count; i++)
        if (family->members[i] == pid) return;
    if (family->count < FAMILY_MEMBERS) family->members[family->count++] = pid;
}

/* The children that a thread has made, /proc/PID/task/TID/children. */
static void add_children(struct family *family, int tasks, int thread)
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
            if (text_parse_number(&at, &number)) family_add(family, (pid_t)number);
        have -= (size_t)(at - bytes);
        memmove(bytes, at, have);
        if (have == sizeof bytes - 1) have = 0;
    }
    sys_close(list);
}

struct of_tasks {
    struct family *family;
    int tasks;
};

static bool add_children_of(uint64_t thread, void *argument)
{
    const struct of_tasks *of = argument;
    add_children(of->family, of->tasks, (int)thread);
    return true;
}

static void add_descendants(struct family *family, int64_t deadline)
{
    family_add(family, family->self);
    for (int i = 0; i < family->count; i++) {
        struct of_tasks of = {family, proc_open((uint64_t)family->members[i], "/task")};
        if (of.tasks < 0) continue;
        proc_each_number(deadline, of.tasks, add_children_of, &of);
        sys_close(of.tasks);
    }
}

void family_gather(struct family *family, int64_t deadline)
{
    add_descendants(family, deadline);
    for (int i = 0; i < family->ancestor_count; i++) family_add(family, family->ancestors[i]);
}
