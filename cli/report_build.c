/* report_build.c: from events to spans. */
#include "report_build.h"

#include <stdlib.h>
#include <string.h>

#include "report_index.h"
#include "report_overlap.h"

/* When the log of this boot began. */
static int64_t boot_began;

static struct report_process *process_of_event(struct report *report, const struct event *event)
{
    struct report_process *process = find_process(report, event->boot, event->pid, event->start);
    /* The parent is the one of the first line: later the process may have become an orphan. */
    if (!process->parent_pid) process->parent_pid = event->parent;
    if (process->uid < 0) process->uid = event->uid;
    if (!process->comm) process->comm = event->comm;
    if (!process->cmdline) process->cmdline = event->cmdline;
    return process;
}

/* ---- spans -------------------------------------------------------------------------------------------------- */

static void add_segment(struct span *span, int64_t at, enum lock_mode mode, bool locked, bool granted)
{
    const struct segment added = {.from = at, .to = at, .mode = mode, .locked = locked, .granted = granted};
    if (span->count == 0) {
        span->mode = (int8_t)mode;
        span->locked = locked;
        span->granted = granted;
    } else {
        const struct segment first = span_segment(span, 0);
        /* Room for a power of two, so that nothing has to say for how many there is room. */
        bool full = (span->count & (span->count - 1)) == 0;
        if (full) span->segments = or_end(reallocarray(span->segments, 2 * (size_t)span->count, sizeof added));
        if (span->count == 1) span->segments[0] = first;
        span->segments[span->count - 1].to = at;
        span->segments[span->count] = added;
    }
    span->count++;
}

static struct span *begin_span(struct report_holder *holder, const struct report_name *comm,
                               const struct report_name *cmdline, int64_t at)
{
    struct report_image *image = holder->image;
    struct span *span = kept(sizeof *span);
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

static void end_span(struct report_holder *holder, int64_t at, enum span_end end)
{
    struct span *span = holder->span;
    if (!span) return;
    span_set_end(span, at > span->from ? at : span->from);
    span->end = end;
    holder->span = NULL;
    holder->ended = span->to;
}

/* The span that a line is about; begun with the line where the log does not have its beginning. */
static struct span *continue_span(struct report_holder *holder, const struct event *event)
{
    if (!holder->span) {
        struct span *span = begin_span(holder, event->comm, event->cmdline, event->time);
        span->inherited = true;
    }
    struct span *span = holder->span;
    if (span->reported) span->cmdline = event->cmdline;
    span->last_seen = event->time;
    if (event->inode) span->file = file_of(event);
    return span;
}

/* ---- waits -------------------------------------------------------------------------------------------------- */

static void begin_wait(struct report_holder *holder, const struct event *event)
{
    struct report_image *image = holder->image;
    struct report_wait *wait = kept(sizeof *wait);
    *wait = (struct report_wait){.process = holder->process,
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
static void end_wait(struct report_holder *holder, const struct event *event, enum wait_end end)
{
    struct report_wait **link = &holder->waits;
    while (*link && (*link)->thread != event->tid) link = &(*link)->next;
    if (!*link) return;
    (*link)->to = event->time;
    (*link)->end = end;
    *link = (*link)->next;
}

static void end_waits(struct report_holder *holder, int64_t at)
{
    for (; holder->waits; holder->waits = holder->waits->next)
        if (at > holder->waits->to) holder->waits->to = at;
}

/* ---- events ------------------------------------------------------------------------------------------------- */

static void see_open(struct report_holder *holder, const struct event *event)
{
    bool new = !holder->span;
    int64_t from = holder->let_through && new ? holder->since : event->time;
    struct span *span = continue_span(holder, event);
    span->opens++;
    if (!span->flags || (event->flags && !strstr(event->flags->bytes, "O_RDONLY"))) span->flags = event->flags;
    enum lock_mode mode =
        holder->let_through && holder->mode > (int)event->mode ? (enum lock_mode)holder->mode : event->mode;
    if (new) {
        span->from = from;
        span->let_through = holder->let_through && !holder->problem;
        span->inherited = !holder->let_through;
        add_segment(span, from, mode, span->inherited && mode != LOCK_NONE && !event->unlocked, false);
    } else if (mode > span_last_segment(span).mode) {
        span->let_through |= holder->let_through && !holder->problem;
        add_segment(span, event->time, mode, !holder->let_through, false);
    }
    holder->let_through = false;
}

static void see_acquire(struct report_holder *holder, const struct event *event)
{
    end_wait(holder, event, WAIT_GRANTED);
    /* A process that has the lock does not acquire it: what it had went with an exec. */
    if (holder->span && span_last_segment(holder->span).locked && holder->span->cmdline != event->cmdline)
        end_span(holder, event->time, END_UNKNOWN);
    bool new = !holder->span;
    struct span *span = continue_span(holder, event);
    span->family |= event->family;
    if (new) span->inherited = false;
    if (new || !span_last_segment(span).locked || event->mode != span_last_segment(span).mode)
        add_segment(span, event->time, event->mode, !event->unlocked, !event->unlocked);
    holder->let_through = false;
}

static void see_convert(struct report_holder *holder, const struct event *event)
{
    end_wait(holder, event, WAIT_GRANTED);
    struct span *span = continue_span(holder, event);
    span->family |= event->family;
    add_segment(span, event->time, event->mode, event->mode != LOCK_NONE, event->mode > event->from);
    holder->let_through = false;
}

static void see_release(struct report_holder *holder, const struct event *event)
{
    if (!holder->span && (holder->let_through || event->held > 0)) {
        /* Open or acquire are not in this log, or belong to the parent that handed the lock on. */
        int64_t from = holder->let_through ? holder->since : event->time - event->held;
        if (from < holder->ended) return;
        struct span *span = begin_span(holder, event->comm, event->cmdline, from);
        span->let_through = event->unlocked && holder->let_through;
        span->inherited = !span->let_through;
        span->file = file_of(event);
        enum lock_mode mode = event->mode;
        if (event->unlocked && holder->mode > (int)mode) mode = (enum lock_mode)holder->mode;
        add_segment(span, from, mode, !event->unlocked, false);
    }
    if (holder->span) holder->span->last_seen = event->time;
    end_span(holder, event->time, END_RELEASED);
    holder->let_through = false;
}

/* A line names a holder: it has the image at that time.  One that wrote no line itself gets a span from what is told
 * of it. */
static void see_opponent(struct report *report, struct report_image *image, const struct event *event,
                         const struct opponent *opponent)
{
    struct report_process *process = look_for_process(event->boot, opponent->pid, opponent->start);
    if (!process) process = find_process(report, event->boot, opponent->pid, opponent->start);
    if (process->uid < 0) process->uid = opponent->uid;
    if (!process->comm) process->comm = opponent->comm ? opponent->comm : name_of("?", 1);
    struct report_holder *holder = find_holder(image, process);
    if (!holder->span) {
        int64_t from = opponent->since ? opponent->since : event->time;
        /* Before the log began nothing else is known of. */
        if (from < boot_began) from = boot_began;
        if (from < holder->ended) from = holder->ended;
        if (from > event->time) from = event->time;
        struct span *span =
            begin_span(holder, process->comm, process->cmdline ? process->cmdline : process->comm, from);
        span->reported = true;
        add_segment(span, from, opponent->mode, true, false);
    }
    struct span *span = holder->span;
    if (span->last_seen < event->time) span->last_seen = event->time;
}

static void see_opponents(struct report *report, struct report_image *image, const struct event *event)
{
    for (size_t i = 0; i < event->opponent_count; i++) {
        const struct opponent *opponent = &event->opponents[i];
        if (opponent->pid != event->pid || opponent->start != event->start)
            see_opponent(report, image, event, opponent);
    }
}

static void see_conflict(struct report *report, struct report_holder *holder, const struct event *event)
{
    end_wait(holder, event, WAIT_REFUSED);
    see_opponents(report, holder->image, event);
    if (!was_let_through(event->result)) return;
    if (!holder->let_through) holder->since = event->time;
    holder->let_through = true;
    holder->problem = false;
    holder->mode = (int8_t)event->mode;
}

static void add_incident(struct report *report, struct report_image *image, const struct event *event,
                         struct report_process *process)
{
    struct incident incident = {.time = event->time, .process = process, .detail = detail_of(event)};
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
    else if (was_let_through(event->result))
        report->let_through++;
    else
        report->refused++;
}

static void end_process(const struct event *event)
{
    struct report_process *process = look_for_process(event->boot, event->about_pid, event->about_start);
    for (struct report_holder *holder = process ? process->holders : NULL; holder; holder = holder->next) {
        end_span(holder, event->time, END_EXITED);
        end_waits(holder, event->time);
        holder->let_through = false;
    }
}

/* Each program once, however often it was started. */
static void see_unwatched(struct report *report, const struct event *event)
{
    bool new;
    struct unwatched *program = find_unwatched(event, &new);
    program->count++;
    if (!new) return;
    report->unwatched =
        grown(report->unwatched, report->unwatched_count, &report->unwatched_room, sizeof *report->unwatched);
    report->unwatched[report->unwatched_count++] = program;
}

static void see_lost(struct report_holder *holder, const struct event *event)
{
    struct span *span = holder->span;
    if (!span) return;
    span->last_seen = event->time;
    if (!event->regained) add_segment(span, event->time, span_last_segment(span).mode, false, false);
}

static void see_error(struct report_holder *holder, const struct event *event)
{
    if (!holder || !was_let_through(event->result)) return;
    if (!holder->let_through) holder->since = event->time;
    holder->let_through = true;
    holder->problem = true;
    holder->mode = (int8_t)event->mode;
}

static void see_event_of_image(struct report *report, struct report_image *image, struct report_process *process,
                               const struct event *event)
{
    struct report_holder *holder = find_holder(image, process);
    if (!image->lock) image->lock = event->lock;
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
        see_opponents(report, image, event);
        begin_wait(holder, event);
        break;
    case EVENT_CONFLICT:
        see_conflict(report, holder, event);
        break;
    case EVENT_GUARD:
        see_opponents(report, image, event);
        break;
    case EVENT_LOST:
        see_lost(holder, event);
        break;
    default:
        see_error(holder, event);
    }
}

static void see_event(struct report *report, const struct event *event)
{
    if (event->kind == EVENT_EXIT) {
        end_process(event);
        return;
    }
    if (event->kind == EVENT_UNWATCHED) {
        see_unwatched(report, event);
        return;
    }
    struct report_process *process = process_of_event(report, event);
    struct report_image *image = event->image ? find_image(report, event->image) : NULL;
    if (image) see_event_of_image(report, image, process, event);
    if (event->kind == EVENT_CONFLICT || event->kind == EVENT_GUARD || event->kind == EVENT_LOST ||
        event->kind == EVENT_ERROR)
        add_incident(report, image, event, process);
}

/* What still goes on when the log of a boot ends.  first: of the processes of this boot. */
static void end_boot(struct report *report, size_t first, int64_t at)
{
    for (size_t i = first; i < report->process_count; i++)
        for (struct report_holder *holder = report->processes[i]->holders; holder; holder = holder->next) {
            const struct span *span = holder->span;
            if (span) end_span(holder, span->reported ? span->last_seen : at, END_UNKNOWN);
            end_waits(holder, at);
        }
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

static int compare_spans(const void *left, const void *right)
{
    const struct span *a = *(struct span *const *)left, *b = *(struct span *const *)right;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

static void sort_spans(struct report_image *image)
{
    for (size_t i = 0; i < image->span_count; i++) image->spans[i]->number = (uint32_t)i;
    if (image->span_count) qsort(image->spans, image->span_count, sizeof *image->spans, compare_spans);
    for (size_t i = 0; i < image->span_count; i++) image->spans[i]->number = (uint32_t)i;
}

static bool see_events(struct report *report)
{
    size_t first = 0; /* process of the boot */
    for (size_t i = 0; i < report->events; i++) {
        unsigned boot = report->log.last.boot;
        int64_t before = report->log.last.time;
        const struct event *event = log_event(&report->log, i);
        if (!event) return false;
        if (i == 0 || event->boot != boot) {
            if (i) end_boot(report, first, before);
            first = report->process_count;
            boot_began = event->time;
            report->boots++;
        }
        if (i == 0 || event->time < report->from) report->from = event->time;
        if (i == 0 || event->time > report->to) report->to = event->time;
        see_event(report, event);
    }
    end_boot(report, first, report->log.last.time);
    return true;
}

bool report_build(struct report *report)
{
    struct log *log = &report->log;
    for (size_t i = 0; i < log->file_count; i++) report->skipped += log->files[i].skipped;
    report->events = log->count;
    if (!see_events(report)) return false;
    log_close(log);
    for (size_t i = 0; i < report->process_count; i++) find_parent(report->processes[i]);
    for (size_t i = 0; i < report->image_count; i++) {
        struct report_image *image = report->images[i];
        sort_spans(image);
        report->spans += image->span_count;
        report->waits += image->wait_count;
        if (image->span_count && image->spans[0]->from < report->from) report->from = image->spans[0]->from;
    }
    overlaps_find(report);
    return true;
}
