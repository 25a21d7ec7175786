/* joining.c: what the lock files tell and what processes hold, while they are put together: what every row needs. */
#include "joining.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "memory.h"
#include "names.h"

struct usage *joining_add(struct usage_list *list, const struct usage *usage)
{
    list->usages = array_grow(list->usages, list->count, &list->room, sizeof *list->usages);
    list->usages[list->count] = *usage;
    return &list->usages[list->count++];
}

void joining_tell_process(const struct joining *joining, struct usage *usage, const struct process_facts *process)
{
    usage->pid = process->pid;
    usage->uid = process->uid;
    usage->uid_known = true;
    usage->start = process->start;
    usage->boot = joining->self->boot;
    usage->pid_space = process->pid_space;
    memcpy(usage->command, process->command, sizeof process->command);
    memcpy(usage->host, joining->self->host, sizeof usage->host);
    names_of_process(process->pid, usage);
}

bool joining_look_up(const struct joining *joining, pid_t pid, struct process_facts *process)
{
    if (process_look_up(pid, process)) return true;
    joining->list->unseen += kill(pid, 0) == 0 || errno == EPERM;
    return false;
}
