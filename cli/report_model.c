/* report_model.c: from events to spans, and from spans to overlaps. */
#include "report_model.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* Lines of the command that watches for exits come after the exit, and the lock was free in between. */
#define EXIT_SEEN_LATE INT64_C(2000000000)

/* So many overlaps are kept for each image; more are counted only. */
enum { OVERLAPS_KEPT = 100000 };

/* ---- images, processes, holders ----------------------------------------------------------------------------- */

static int compare_images(const void *left, const void *right)
{
    const struct image *a = left, *b = right;
    return a->path < b->path ? -1 : a->path > b->path;
}

static struct image *find_image(struct report *report, const struct name *path)
{
    static void *tree;
    const struct image sought = {.path = path};
    struct image **found = tsearch(&sought, &tree, compare_images);
    if (found && *found != &sought) return *found;
    struct image *image = zeroed(sizeof *image);
    image->path = path;
    if (found) *found = image;
    report->images = grown(report->images, report->image_count, &report->image_room, sizeof *report->images);
    report->images[report->image_count++] = image;
    return image;
}

static int compare_pids(const void *left, const void *right)
{
    const struct process *a = left, *b = right;
    if (a->boot != b->boot) return a->boot < b->boot ? -1 : 1;
    return a->pid < b->pid ? -1 : a->pid > b->pid;
}

static void *process_tree;

/* All that had this pid in this boot, the latest first. */
static struct process *processes_of_pid(unsigned boot, pid_t pid)
{
    const struct process sought = {.boot = boot, .pid = pid};
    struct process **found = tfind(&sought, &process_tree, compare_pids);
    return found ? *found : NULL;
}

static struct process *find_process(struct report *report, unsigned boot, pid_t pid, uint64_t start)
{
    struct process *process = processes_of_pid(boot, pid);
    for (; process; process = process->older)
        if (process->start == start) return process;
    process = zeroed(sizeof *process);
    *process = (struct process){.boot = boot, .pid = pid, .start = start, .uid = -1};
    struct process **place = tsearch(process, &process_tree, compare_pids);
    if (place && *place != process) {
        struct process **link = place;
        while (*link && (*link)->start > start) link = &(*link)->older;
        process->older = *link;
        *link = process;
    }
    process->number = report->processes++;
    return process;
}

static struct process *process_of_event(struct report *report, const struct event *event)
{
    struct process *process = find_process(report, event->boot, event->pid, event->start);
    /* The parent is the one of the first line: later the process may have become an orphan. */
    if (!process->parent) process->parent = event->parent;
    if (!process->boot_id) process->boot_id = event->boot_id;
    if (process->uid < 0) process->uid = event->uid;
    if (!process->comm) process->comm = event->comm;
    if (!process->cmdline) process->cmdline = event->cmdline;
    return process;
}

static struct holder *find_holder(struct image *image, struct process *process)
{
    for (struct holder *holder = process->holders; holder; holder = holder->next)
        if (holder->image == image) return holder;
    struct holder *holder = zeroed(sizeof *holder);
    *holder = (struct holder){.image = image, .process = process, .next = process->holders};
    process->holders = holder;
    image->holder_count++;
    return holder;
}

/* ---- spans -------------------------------------------------------------------------------------------------- */

static void add_segment(struct span *span, int64_t at, enum lock_mode mode, bool locked, bool granted)
{
    if (span->count) span->segments[span->count - 1].to = at;
    span->segments = grown(span->segments, span->count, &span->room, sizeof *span->segments);
    span->segments[span->count++] =
        (struct segment){.from = at, .to = at, .mode = mode, .locked = locked, .granted = granted};
}

static struct segment *last_segment(struct span *span)
{
    return &span->segments[span->count - 1];
}

static struct span *begin_span(struct holder *holder, const struct name *comm, const struct name *cmdline, int64_t at)
{
    struct image *image = holder->image;
    struct span *span = zeroed(sizeof *span);
    *span = (struct span){.image = image,
                          .process = holder->process,
                          .comm = comm,
                          .cmdline = cmdline,
                          .from = at,
                          .to = at,
                          .last_seen = at,
                          .end = END_UNKNOWN};
    image->spans = grown(image->spans, image->span_count, &image->span_room, sizeof *image->spans);
    image->spans[image->span_count++] = span;
    holder->span = span;
    return span;
}

static void end_span(struct holder *holder, int64_t at, enum span_end end)
{
    struct span *span = holder->span;
    if (!span) return;
    span->to = at > span->from ? at : span->from;
    last_segment(span)->to = span->to;
    span->end = end;
    holder->span = NULL;
    holder->ended = span->to;
}

/* The span that a line is about; begun with the line where the log does not have its beginning. */
static struct span *continue_span(struct holder *holder, const struct event *event)
{
    if (!holder->span) {
        struct span *span = begin_span(holder, event->comm, event->cmdline, event->time);
        span->inherited = true;
    }
    struct span *span = holder->span;
    if (span->reported) span->cmdline = event->cmdline;
    span->last_seen = event->time;
    if (event->inode) {
        span->inode = event->inode;
        span->device = event->device;
    }
    return span;
}

/* Ends the span at an earlier time. */
static void cut_span(struct span *span, int64_t at)
{
    while (span->count > 1 && last_segment(span)->from >= at) span->count--;
    last_segment(span)->to = at;
    span->to = at;
}

/* ---- waits -------------------------------------------------------------------------------------------------- */

static void begin_wait(struct holder *holder, const struct event *event)
{
    struct image *image = holder->image;
    struct waiting *wait = zeroed(sizeof *wait);
    *wait = (struct waiting){.process = holder->process,
                             .comm = event->comm,
                             .cmdline = event->cmdline,
                             .thread = event->tid,
                             .from = event->time,
                             .to = event->time,
                             .mode = event->mode,
                             .end = WAIT_UNKNOWN,
                             .next = holder->waits};
    image->waits = grown(image->waits, image->wait_count, &image->wait_room, sizeof *image->waits);
    image->waits[image->wait_count++] = wait;
    holder->waits = wait;
}

/* The thread's wait is over. */
static void end_wait(struct holder *holder, const struct event *event, enum wait_end end)
{
    struct waiting **link = &holder->waits;
    while (*link && (*link)->thread != event->tid) link = &(*link)->next;
    if (!*link) return;
    (*link)->to = event->time;
    (*link)->end = end;
    *link = (*link)->next;
}

static void end_waits(struct holder *holder, int64_t at)
{
    for (; holder->waits; holder->waits = holder->waits->next)
        if (at > holder->waits->to) holder->waits->to = at;
}

/* ---- events ------------------------------------------------------------------------------------------------- */

bool was_let_through(const struct event *event)
{
    return event->result && strcmp(event->result->bytes, "let through") == 0;
}

static void see_open(struct holder *holder, const struct event *event)
{
    bool new = !holder->span;
    int64_t from = holder->let_through && new ? holder->since : event->time;
    struct span *span = continue_span(holder, event);
    span->opens++;
    if (!span->flags || (event->flags && !strstr(event->flags->bytes, "O_RDONLY"))) span->flags = event->flags;
    enum lock_mode mode = holder->let_through && holder->mode > event->mode ? holder->mode : event->mode;
    if (new) {
        span->from = from;
        span->let_through = holder->let_through && !holder->problem;
        span->inherited = !holder->let_through;
        add_segment(span, from, mode, span->inherited && mode != LOCK_NONE, false);
    } else if (mode > last_segment(span)->mode) {
        span->let_through |= holder->let_through && !holder->problem;
        add_segment(span, event->time, mode, !holder->let_through, false);
    }
    holder->let_through = false;
}

static void see_acquire(struct holder *holder, const struct event *event)
{
    end_wait(holder, event, WAIT_GRANTED);
    /* A process that has the lock does not acquire it: what it had went with an exec. */
    if (holder->span && last_segment(holder->span)->locked && holder->span->cmdline != event->cmdline)
        end_span(holder, event->time, END_UNKNOWN);
    bool new = !holder->span;
    struct span *span = continue_span(holder, event);
    span->family |= event->family;
    if (new) span->inherited = false;
    if (new || !last_segment(span)->locked || event->mode != last_segment(span)->mode)
        add_segment(span, event->time, event->mode, true, true);
    holder->let_through = false;
}

static void see_convert(struct holder *holder, const struct event *event)
{
    end_wait(holder, event, WAIT_GRANTED);
    struct span *span = continue_span(holder, event);
    span->family |= event->family;
    add_segment(span, event->time, event->mode, event->mode != LOCK_NONE, event->mode > event->from);
    holder->let_through = false;
}

static void see_release(struct holder *holder, const struct event *event)
{
    if (!holder->span && (holder->let_through || event->held > 0)) {
        /* Open or acquire are not in this log, or belong to the parent that handed the lock on. */
        int64_t from = holder->let_through ? holder->since : event->time - event->held;
        if (from < holder->ended) return;
        struct span *span = begin_span(holder, event->comm, event->cmdline, from);
        span->let_through = event->unlocked && holder->let_through;
        span->inherited = !span->let_through;
        span->inode = event->inode;
        span->device = event->device;
        add_segment(span, from, event->unlocked ? holder->mode : event->mode, !event->unlocked, false);
    }
    if (holder->span) holder->span->last_seen = event->time;
    end_span(holder, event->time, END_RELEASED);
    holder->let_through = false;
}

/* A line names a holder: it has the image at that time.  One that wrote no line itself gets a span from what is told
 * of it. */
static void see_blocker(struct report *report, struct image *image, const struct event *event,
                        const struct blocker *blocker)
{
    struct process *process = processes_of_pid(event->boot, blocker->pid);
    while (process && blocker->start && process->start != blocker->start) process = process->older;
    if (!process) process = find_process(report, event->boot, blocker->pid, blocker->start);
    if (!process->boot_id) process->boot_id = event->boot_id;
    if (process->uid < 0) process->uid = blocker->uid;
    if (!process->comm) process->comm = blocker->comm ? blocker->comm : name_of("?", 1);
    struct holder *holder = find_holder(image, process);
    if (!holder->span) {
        int64_t from = blocker->since ? blocker->since : event->time;
        /* Before the log began nothing else is known of. */
        if (from < report->from) from = report->from;
        if (from < holder->ended) from = holder->ended;
        if (from > event->time) from = event->time;
        struct span *span =
            begin_span(holder, process->comm, process->cmdline ? process->cmdline : process->comm, from);
        span->reported = true;
        add_segment(span, from, blocker->mode, true, false);
    }
    struct span *span = holder->span;
    if (span->last_seen < event->time) span->last_seen = event->time;
}

static void see_blockers(struct report *report, struct image *image, const struct event *event)
{
    for (size_t i = 0; i < event->blocker_count; i++) {
        const struct blocker *blocker = &event->blockers[i];
        if (blocker->pid != event->pid || blocker->start != event->start) see_blocker(report, image, event, blocker);
    }
}

static void see_conflict(struct report *report, struct holder *holder, const struct event *event)
{
    end_wait(holder, event, WAIT_REFUSED);
    see_blockers(report, holder->image, event);
    if (!was_let_through(event)) return;
    if (!holder->let_through) holder->since = event->time;
    holder->let_through = true;
    holder->problem = false;
    holder->mode = event->mode;
}

static void add_incident(struct report *report, struct image *image, const struct event *event, struct process *process)
{
    struct incident incident = {.event = event, .process = process};
    if (image) {
        image->incidents =
            grown(image->incidents, image->incident_count, &image->incident_room, sizeof *image->incidents);
        image->incidents[image->incident_count++] = incident;
    } else {
        report->homeless =
            grown(report->homeless, report->homeless_count, &report->homeless_room, sizeof *report->homeless);
        report->homeless[report->homeless_count++] = incident;
    }
    if (event->kind == EVENT_LOST)
        report->lost++;
    else if (event->kind == EVENT_ERROR)
        report->errors++;
    else if (was_let_through(event))
        report->let_through++;
    else
        report->refused++;
}

static void end_process(const struct event *event)
{
    for (struct process *process = processes_of_pid(event->boot, event->about_pid); process; process = process->older) {
        if (event->about_start && process->start != event->about_start) continue;
        for (struct holder *holder = process->holders; holder; holder = holder->next) {
            end_span(holder, event->time, END_EXITED);
            end_waits(holder, event->time);
            holder->let_through = false;
        }
        return;
    }
}

static void see_event(struct report *report, const struct event *event)
{
    if (event->kind == EVENT_EXIT) {
        end_process(event);
        return;
    }
    struct process *process = process_of_event(report, event);
    struct image *image = event->image ? find_image(report, event->image) : NULL;
    struct holder *holder = image ? find_holder(image, process) : NULL;
    if (image && !image->lock) image->lock = event->lock;
    switch (event->kind) {
    case EVENT_OPEN:
        see_open(holder, event);
        break;
    case EVENT_ACQUIRE:
        see_acquire(holder, event);
        break;
    case EVENT_CONVERT:
        see_convert(holder, event);
        break;
    case EVENT_RELEASE:
        see_release(holder, event);
        break;
    case EVENT_WAIT:
        see_blockers(report, image, event);
        begin_wait(holder, event);
        break;
    case EVENT_CONFLICT:
        see_conflict(report, holder, event);
        add_incident(report, image, event, process);
        break;
    case EVENT_GUARD:
        see_blockers(report, image, event);
        add_incident(report, image, event, process);
        break;
    case EVENT_LOST:
        if (holder->span) holder->span->last_seen = event->time;
        if (holder->span && !event->regained)
            add_segment(holder->span, event->time, last_segment(holder->span)->mode, false, false);
        add_incident(report, image, event, process);
        break;
    case EVENT_ERROR:
        if (holder && was_let_through(event)) {
            if (!holder->let_through) holder->since = event->time;
            holder->let_through = true;
            holder->problem = true;
            holder->mode = event->mode;
        }
        add_incident(report, image, event, process);
        break;
    case EVENT_EXIT:
        break;
    }
}

/* What still goes on when the log of a boot ends. */
static void end_boot(struct report *report, unsigned boot, int64_t at)
{
    for (size_t i = 0; i < report->image_count; i++) {
        struct image *image = report->images[i];
        for (size_t j = 0; j < image->span_count; j++) {
            struct span *span = image->spans[j];
            if (span->process->boot != boot) continue;
            struct holder *holder = find_holder(image, span->process);
            if (holder->span == span) end_span(holder, span->reported ? span->last_seen : at, END_UNKNOWN);
            end_waits(holder, at);
        }
        for (size_t j = 0; j < image->wait_count; j++)
            if (image->waits[j]->process->boot == boot) end_waits(find_holder(image, image->waits[j]->process), at);
    }
}

/* ---- family ------------------------------------------------------------------------------------------------- */

/* The process that started this one, as far as the log knows it. */
static struct process *parent_of(const struct process *process)
{
    struct process *parent = process->parent > 1 ? processes_of_pid(process->boot, process->parent) : NULL;
    /* A parent is not younger; a later process may have got its pid. */
    while (parent && process->start && parent->start > process->start) parent = parent->older;
    return parent == process ? NULL : parent;
}

static bool is_ancestor(const struct process *ancestor, const struct process *process)
{
    for (int generations = 0; generations < 100 && (process = parent_of(process)); generations++)
        if (process == ancestor) return true;
    return false;
}

static bool had_image(const struct process *process, const struct image *image)
{
    for (const struct holder *holder = process->holders; holder; holder = holder->next)
        if (holder->image == image) return true;
    return false;
}

static bool have_common_holder(const struct span *a, const struct span *b)
{
    const struct process *process = a->process;
    for (int generations = 0; generations < 100 && (process = parent_of(process)); generations++)
        if (had_image(process, a->image) && is_ancestor(process, b->process)) return true;
    return false;
}

/* Are these one lock that was handed on, or locks that were let past each other by design? */
static bool are_family(const struct span *a, const struct span *b)
{
    if (a->process == b->process) return true;
    if (is_ancestor(a->process, b->process) || is_ancestor(b->process, a->process)) return true;
    if ((a->family && !b->let_through) || (b->family && !a->let_through)) return true;
    return (a->inherited || b->inherited) && have_common_holder(a, b);
}

/* ---- overlaps ----------------------------------------------------------------------------------------------- */

static int compare_spans(const void *left, const void *right)
{
    const struct span *a = *(struct span *const *)left, *b = *(struct span *const *)right;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

static bool exclude_each_other(enum lock_mode a, enum lock_mode b)
{
    return (a == LOCK_EXCLUSIVE && b != LOCK_NONE) || (b == LOCK_EXCLUSIVE && a != LOCK_NONE);
}

/* Ends a span whose end is not known, or was seen late, where the kernel gave another process a lock that excludes it.
 */
static void end_where_lock_was_free(struct span *span, const struct span *other, const struct segment *granted)
{
    bool late = span->end == END_EXITED && span->to - granted->from < EXIT_SEEN_LATE;
    if (span->end != END_UNKNOWN && !late) return;
    if (span->last_seen > granted->from || span->to <= granted->from) return;
    for (size_t i = 0; i < span->count; i++) {
        const struct segment *segment = &span->segments[i];
        if (segment->locked && segment->from <= granted->from && segment->to > granted->from &&
            exclude_each_other(segment->mode, granted->mode) && !are_family(span, other)) {
            cut_span(span, granted->from);
            return;
        }
    }
}

static void end_by_grants_of(struct span *span, const struct span *other)
{
    for (size_t i = 0; i < other->count; i++)
        if (other->segments[i].granted) end_where_lock_was_free(span, other, &other->segments[i]);
}

struct active {
    struct span **spans;
    size_t count, room;
};

/* Adds a span to those that are open, after those that ended before it began have gone. */
static void activate(struct active *active, struct span *span)
{
    size_t kept = 0;
    for (size_t i = 0; i < active->count; i++)
        if (active->spans[i]->to >= span->from) active->spans[kept++] = active->spans[i];
    active->count = kept;
    active->spans = grown(active->spans, active->count, &active->room, sizeof *active->spans);
    active->spans[active->count++] = span;
}

/* Could these have met?  What was open on another machine, or before this one started anew, is out of the way; and two
 * clocks would be compared. */
static bool may_meet(const struct span *a, const struct span *b)
{
    return a->process != b->process && a->process->boot == b->process->boot;
}

static void end_spans_by_grants(struct image *image)
{
    struct active active = {0};
    for (size_t i = 0; i < image->span_count; i++) {
        activate(&active, image->spans[i]);
        for (size_t j = 0; j + 1 < active.count; j++) {
            if (!may_meet(active.spans[j], image->spans[i])) continue;
            end_by_grants_of(active.spans[j], image->spans[i]);
            end_by_grants_of(image->spans[i], active.spans[j]);
        }
    }
    free(active.spans);
}

/* When the two had modes that exclude each other.  False: never. */
static bool find_clash(const struct span *a, const struct span *b, int64_t *from, int64_t *to)
{
    bool any = false;
    for (size_t i = 0; i < a->count; i++)
        for (size_t j = 0; j < b->count; j++) {
            const struct segment *one = &a->segments[i], *other = &b->segments[j];
            int64_t begin = one->from > other->from ? one->from : other->from;
            int64_t end = one->to < other->to ? one->to : other->to;
            /* One that is known from lines of others has no length of its own. */
            if (begin > end || (begin == end && !a->reported && !b->reported)) continue;
            if (!exclude_each_other(one->mode, other->mode)) continue;
            if (!any || begin < *from) *from = begin;
            if (!any || end > *to) *to = end;
            any = true;
        }
    return any;
}

struct pair {
    const struct image *image;
    const struct process *one, *other;
    bool possible;
};

static int compare_pairs(const void *left, const void *right)
{
    const struct pair *a = left, *b = right;
    if (a->image != b->image) return a->image < b->image ? -1 : 1;
    if (a->one != b->one) return a->one < b->one ? -1 : 1;
    if (a->other != b->other) return a->other < b->other ? -1 : 1;
    return a->possible < b->possible ? -1 : a->possible > b->possible;
}

/* Did these two processes overlap before?  A program that probes an image opens it many times. */
static bool is_repeated(const struct overlap *overlap)
{
    static void *tree;
    const struct process *one = overlap->first->process, *other = overlap->second->process;
    struct pair sought = {.image = overlap->first->image,
                          .one = one->number < other->number ? one : other,
                          .other = one->number < other->number ? other : one,
                          .possible = overlap->possible};
    struct pair **found = tsearch(&sought, &tree, compare_pairs);
    if (!found || *found != &sought) return true;
    *found = zeroed(sizeof sought);
    **found = sought;
    return false;
}

static void note_overlap(struct report *report, struct span *first, struct span *second)
{
    struct overlap overlap = {.first = first, .second = second};
    if (!find_clash(first, second, &overlap.from, &overlap.to)) return;
    struct image *image = first->image;
    overlap.family = are_family(first, second);
    overlap.possible = !overlap.family && ((first->end == END_UNKNOWN && first->last_seen < overlap.from) ||
                                           (second->end == END_UNKNOWN && second->last_seen < overlap.from));
    overlap.repeated = !overlap.family && is_repeated(&overlap);
    if (overlap.family) {
        report->family++;
    } else if (overlap.possible) {
        report->possible += !overlap.repeated;
        image->possible += !overlap.repeated;
    } else {
        report->clashes += !overlap.repeated;
        image->clashes += !overlap.repeated;
        first->clashes++;
        second->clashes++;
    }
    if (image->overlap_count >= OVERLAPS_KEPT) return;
    image->overlaps = grown(image->overlaps, image->overlap_count, &image->overlap_room, sizeof *image->overlaps);
    image->overlaps[image->overlap_count++] = overlap;
}

static void find_overlaps(struct report *report, struct image *image)
{
    struct active active = {0};
    for (size_t i = 0; i < image->span_count; i++) {
        activate(&active, image->spans[i]);
        for (size_t j = 0; j + 1 < active.count; j++)
            if (may_meet(active.spans[j], image->spans[i])) note_overlap(report, active.spans[j], image->spans[i]);
    }
    free(active.spans);
}

static int compare_files(const void *left, const void *right)
{
    const struct span *a = *(struct span *const *)left, *b = *(struct span *const *)right;
    if (a->process->boot != b->process->boot) return a->process->boot < b->process->boot ? -1 : 1;
    if (a->inode != b->inode) return a->inode < b->inode ? -1 : 1;
    if (a->device != b->device) return a->device < b->device ? -1 : 1;
    return compare_spans(left, right);
}

/* One file that was open under two names at the same time: a lock by path does not see that. */
static void find_overlaps_of_names(struct report *report)
{
    struct span **all = zeroed((report->spans + 1) * sizeof *all);
    struct active active = {0};
    size_t count = 0;
    for (size_t i = 0; i < report->image_count; i++)
        for (size_t j = 0; j < report->images[i]->span_count; j++)
            if (report->images[i]->spans[j]->inode) all[count++] = report->images[i]->spans[j];
    qsort(all, count, sizeof *all, compare_files);
    for (size_t i = 0; i < count; i++) {
        if (i && (all[i]->inode != all[i - 1]->inode || all[i]->device != all[i - 1]->device)) active.count = 0;
        activate(&active, all[i]);
        for (size_t j = 0; j + 1 < active.count; j++)
            if (active.spans[j]->image != all[i]->image && may_meet(active.spans[j], all[i]))
                note_overlap(report, active.spans[j], all[i]);
    }
    free(active.spans);
    free(all);
}

static int compare_overlaps(const void *left, const void *right)
{
    const struct overlap *a = left, *b = right;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    if (a->first->number != b->first->number) return a->first->number < b->first->number ? -1 : 1;
    return a->second->number < b->second->number ? -1 : a->second->number > b->second->number;
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

static void sort_spans(struct image *image)
{
    for (size_t i = 0; i < image->span_count; i++) image->spans[i]->number = i;
    if (image->span_count) qsort(image->spans, image->span_count, sizeof *image->spans, compare_spans);
    for (size_t i = 0; i < image->span_count; i++) image->spans[i]->number = i;
}

void report_build(struct report *report)
{
    struct log *log = &report->log;
    for (size_t i = 0; i < log->file_count; i++) report->skipped += log->files[i].skipped;
    for (size_t i = 0; i < log->count; i++) {
        if (i == 0 || log->events[i].time < report->from) report->from = log->events[i].time;
        if (i == 0 || log->events[i].time > report->to) report->to = log->events[i].time;
    }
    for (size_t i = 0; i < log->count; i++) {
        const struct event *event = &log->events[i];
        see_event(report, event);
        if (i + 1 < log->count && event[1].boot == event->boot) continue;
        end_boot(report, event->boot, event->time);
        report->boots++;
    }
    for (size_t i = 0; i < report->image_count; i++) {
        struct image *image = report->images[i];
        sort_spans(image);
        end_spans_by_grants(image);
        find_overlaps(report, image);
        report->spans += image->span_count;
        report->waits += image->wait_count;
        if (image->span_count && image->spans[0]->from < report->from) report->from = image->spans[0]->from;
    }
    find_overlaps_of_names(report);
    for (size_t i = 0; i < report->image_count; i++) {
        struct image *image = report->images[i];
        if (image->overlap_count)
            qsort(image->overlaps, image->overlap_count, sizeof *image->overlaps, compare_overlaps);
    }
}

bool report_has_conflict(const struct report *report)
{
    return report->clashes + report->refused + report->let_through > 0;
}

enum lock_mode span_mode(const struct span *span)
{
    enum lock_mode mode = LOCK_NONE;
    for (size_t i = 0; i < span->count; i++)
        if (span->segments[i].mode > mode) mode = span->segments[i].mode;
    return mode;
}
