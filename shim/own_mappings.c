#include "own_mappings.h"

#include <errno.h>
#include <fcntl.h>

#include "distant.h"
#include "mappings.h"
#include "process.h"
#include "realpath.h"
#include "sys.h"

static int mappings_of_process(struct own_mappings *own, pid_t pid, int most)
{
    const struct mapped_file file = {
        .device = own->mapped_device, .inode = own->inode, .path = *own->path ? own->path : NULL};
    const int process = proc_open((uint64_t)pid, "");
    if (process < 0) return process;
    const int count = mappings_of(process, &file, most, own->line, sizeof own->line);
    sys_close(process);
    return count;
}

static bool is_own_or_ancestors(const struct own_mappings *own, pid_t pid)
{
    return pid == own->family->self || (own->ancestors && family_is_ancestor(own->family, pid));
}

static bool note_mapping_of_stranger(uint64_t number, void *argument)
{
    struct own_mappings *own = argument;
    if (is_own_or_ancestors(own, (pid_t)number)) return true;
    const int count = mappings_of_process(own, (pid_t)number, 1);
    own->stranger |= count > 0;
    own->unread |= count == -EACCES || count == -EPERM;
    return !own->stranger;
}

struct of_descriptors {
    const struct own_mappings *own;
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
              device == of->own->device && inode == of->own->inode;
    return !of->any;
}

static bool has_open(const struct own_mappings *own, pid_t pid)
{
    struct of_descriptors of = {.own = own, .asks = pid == own->family->self ? own->descriptor : -1};
    of.process = proc_open((uint64_t)pid, "");
    if (of.process < 0) return false;
    const int list = sys_openat(of.process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (list >= 0) {
        proc_each_number(own->deadline, list, note_descriptor, &of);
        sys_close(list);
    }
    sys_close(of.process);
    return of.any;
}

/* May the mappings of this process and its ancestors be of descriptors that they have open?  Those have marks of their
 * own, but while the process asks without them. */
static bool may_be_of_descriptors(const struct own_mappings *own)
{
    if (has_open(own, own->family->self)) return true;
    for (int i = 0; own->ancestors && i < own->family->ancestor_count; i++)
        if (has_open(own, own->family->ancestors[i])) return true;
    return false;
}

/* Were all processes to be looked into?  Outside this PID namespace, whose number the first one's is, there are more.
 */
static bool is_everybody_seen(const struct own_mappings *own)
{
    const uint64_t first_space = 0xeffffffc; /* PROC_PID_INIT_INO, <linux/proc_ns.h> */
    return !own->unread && process_self()->pid_space == first_space;
}

bool own_mappings_explain(struct own_mappings *own, int unseen)
{
    bool deleted;
    if (distant_is(own->descriptor)) return false; /* other hosts' marks stand in no list */
    if (realpath_of_descriptor(own->descriptor, own->path, &deleted) < 0) *own->path = '\0';
    int64_t mappings = mappings_of_process(own, own->family->self, unseen);
    for (int i = 0; own->ancestors && i < own->family->ancestor_count; i++) {
        const int of_ancestor = mappings_of_process(own, own->family->ancestors[i], unseen);
        if (of_ancestor > 0) mappings += of_ancestor;
    }
    if (unseen > mappings) return false;
    proc_each_process(own->deadline, note_mapping_of_stranger, own);
    return !own->stranger && ((unseen <= 1 && !may_be_of_descriptors(own)) || is_everybody_seen(own));
}
