#include "report_index.h"

/* So many holders of a process are looked through; where there are more they are in a table. */
enum { HOLDERS_IN_LIST = 8 };

static uint64_t hash_image(const void *object)
{
    return ((const struct report_image *)object)->path->hash;
}

static bool equal_images(const void *left, const void *right)
{
    return ((const struct report_image *)left)->path == ((const struct report_image *)right)->path;
}

struct report_image *find_image(struct report *report, const struct report_name *path)
{
    static struct set images = {.hash = hash_image, .equal = equal_images};
    const struct report_image sought = {.path = path};
    struct report_image *image = set_find(&images, &sought);
    if (image) return image;
    image = kept(sizeof *image);
    image->path = path;
    image->same = image;
    set_put(&images, image);
    report->images = grown(report->images, report->image_count, &report->image_room, sizeof *report->images);
    report->images[report->image_count++] = image;
    return image;
}

static uint64_t hash_pid(const void *object)
{
    const struct report_process *process = object;
    return hash_of_two(process->boot, (uint64_t)process->pid);
}

static bool equal_pids(const void *left, const void *right)
{
    const struct report_process *a = left, *b = right;
    return a->boot == b->boot && a->pid == b->pid;
}

static uint64_t hash_process(const void *object)
{
    return hash_of_two(hash_pid(object), ((const struct report_process *)object)->start);
}

static bool equal_processes(const void *left, const void *right)
{
    return equal_pids(left, right) &&
           ((const struct report_process *)left)->start == ((const struct report_process *)right)->start;
}

/* The latest process of each pid, those before it behind it; and all. */
static struct set latest = {.hash = hash_pid, .equal = equal_pids};
static struct set processes = {.hash = hash_process, .equal = equal_processes};

/* All that had this pid in this boot, the latest first. */
static struct report_process *processes_of_pid(unsigned boot, pid_t pid)
{
    const struct report_process sought = {.boot = boot, .pid = pid};
    return set_find(&latest, &sought);
}

struct report_process *look_for_process(unsigned boot, pid_t pid, uint64_t start)
{
    const struct report_process sought = {.boot = boot, .pid = pid, .start = start};
    return start ? set_find(&processes, &sought) : processes_of_pid(boot, pid);
}

struct report_process *find_process(struct report *report, unsigned boot, pid_t pid, uint64_t start)
{
    const struct report_process sought = {.boot = boot, .pid = pid, .start = start, .uid = -1};
    struct report_process *process = set_find(&processes, &sought);
    if (process) return process;
    process = kept(sizeof *process);
    *process = sought;
    set_put(&processes, process);
    struct report_process *newer = processes_of_pid(boot, pid);
    if (!newer || newer->start <= start) {
        process->older = newer;
        set_put(&latest, process);
    } else {
        while (newer->older && newer->older->start > start) newer = newer->older;
        process->older = newer->older;
        newer->older = process;
    }
    process->number = (uint32_t)report->process_count;
    report->processes =
        grown(report->processes, report->process_count, &report->process_room, sizeof *report->processes);
    report->processes[report->process_count++] = process;
    return process;
}

static uint64_t hash_holder(const void *object)
{
    const struct report_holder *holder = object;
    return hash_of_two((uintptr_t)holder->image, (uintptr_t)holder->process);
}

static bool equal_holders(const void *left, const void *right)
{
    const struct report_holder *a = left, *b = right;
    return a->image == b->image && a->process == b->process;
}

/* Those of processes with many images. */
static struct set holders = {.hash = hash_holder, .equal = equal_holders};

/* NULL: the process had nothing to do with the image. */
static struct report_holder *look_for_holder(const struct report_image *image, const struct report_process *process)
{
    const struct report_holder sought = {.image = (struct report_image *)image,
                                         .process = (struct report_process *)process};
    if (process->holder_count > HOLDERS_IN_LIST) return set_find(&holders, &sought);
    for (struct report_holder *holder = process->holders; holder; holder = holder->next)
        if (holder->image == image) return holder;
    return NULL;
}

struct report_holder *find_holder(struct report_image *image, struct report_process *process)
{
    struct report_holder *holder = look_for_holder(image, process);
    if (holder) return holder;
    holder = kept(sizeof *holder);
    *holder = (struct report_holder){.image = image, .process = process, .next = process->holders};
    process->holders = holder;
    image->holder_count++;
    if (++process->holder_count == HOLDERS_IN_LIST + 1)
        for (struct report_holder *other = holder; other; other = other->next) set_put(&holders, other);
    else if (process->holder_count > HOLDERS_IN_LIST)
        set_put(&holders, holder);
    return holder;
}

bool had_image(const struct report_process *process, const struct report_image *image)
{
    return look_for_holder(image, process) != NULL;
}

static uint64_t hash_file(const void *object)
{
    const struct file *file = object;
    return hash_of_two((uintptr_t)file->device, file->inode);
}

static bool equal_files(const void *left, const void *right)
{
    const struct file *a = left, *b = right;
    return a->inode == b->inode && a->device == b->device;
}

const struct file *file_of(const struct event *event)
{
    static struct set files = {.hash = hash_file, .equal = equal_files};
    const struct file sought = {.device = event->device, .inode = event->inode};
    if (!event->inode) return NULL;
    struct file *file = set_find(&files, &sought);
    if (file) return file;
    file = kept(sizeof *file);
    *file = sought;
    set_put(&files, file);
    return file;
}

static uint64_t hash_detail(const void *object)
{
    const struct detail *detail = object;
    const struct opponent *first = detail->opponent_count ? detail->opponents : &(struct opponent){0};
    uint64_t hash = hash_of_two((uint64_t)detail->kind << 8 | detail->mode, (uintptr_t)detail->cmdline);
    hash = hash_of_two(hash, (uintptr_t)detail->flags);
    hash = hash_of_two(hash, (uintptr_t)detail->what);
    hash = hash_of_two(hash, (uintptr_t)detail->error);
    return hash_of_two(hash, hash_of_two((uint64_t)first->pid, first->start));
}

static bool equal_details(const void *left, const void *right)
{
    const struct detail *a = left, *b = right;
    if (a->kind != b->kind || a->mode != b->mode || a->regained != b->regained || a->comm != b->comm ||
        a->cmdline != b->cmdline || a->what != b->what || a->flags != b->flags || a->result != b->result ||
        a->error != b->error || a->opponent_count != b->opponent_count)
        return false;
    for (size_t i = 0; i < a->opponent_count; i++) {
        const struct opponent *one = &a->opponents[i], *other = &b->opponents[i];
        if (one->pid != other->pid || one->start != other->start || one->mode != other->mode ||
            one->since != other->since || one->comm != other->comm || one->host != other->host ||
            one->has != other->has)
            return false;
    }
    return true;
}

const struct detail *detail_of(const struct event *event)
{
    static struct set details = {.hash = hash_detail, .equal = equal_details};
    struct detail sought = {.kind = event->kind,
                            .mode = event->mode,
                            .regained = event->regained,
                            .comm = event->comm,
                            .cmdline = event->cmdline,
                            .what = event->what,
                            .flags = event->flags,
                            .result = event->result,
                            .error = event->error,
                            .opponents = event->opponents,
                            .opponent_count = event->opponent_count};
    struct detail *detail = set_find(&details, &sought);
    if (detail) return detail;
    detail = kept(sizeof *detail);
    *detail = sought;
    size_t size = sought.opponent_count * sizeof *sought.opponents;
    if (size) detail->opponents = memcpy(kept(size), sought.opponents, size);
    set_put(&details, detail);
    return detail;
}

static uint64_t hash_unwatched(const void *object)
{
    const struct unwatched *program = object;
    return hash_of_two((uintptr_t)program->program, (uintptr_t)program->why);
}

static bool equal_unwatched(const void *left, const void *right)
{
    const struct unwatched *a = left, *b = right;
    return a->program == b->program && a->why == b->why;
}

struct unwatched *find_unwatched(const struct event *event, bool *new)
{
    static struct set programs = {.hash = hash_unwatched, .equal = equal_unwatched};
    const struct unwatched sought = {
        .program = event->what, .why = event->error, .cmdline = event->cmdline, .pid = event->pid, .time = event->time};
    struct unwatched *program = set_find(&programs, &sought);
    *new = !program;
    if (program) return program;
    program = kept(sizeof *program);
    *program = sought;
    set_put(&programs, program);
    return program;
}

void find_parent(struct report_process *process)
{
    struct report_process *parent =
        process->parent_pid > 1 ? processes_of_pid(process->boot, process->parent_pid) : NULL;
    /* A parent is not younger; a later process may have got its pid. */
    while (parent && process->start && parent->start > process->start) parent = parent->older;
    process->parent = parent == process ? NULL : parent;
}
