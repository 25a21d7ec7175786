/* report_trace.c: the report as Chrome trace events, which Perfetto and chrome://tracing open.
 *
 * A process of the trace is an image, a thread is who had it.  Viewers take events of one thread that overlap and do
 * not nest for an error, so what does not fit goes to a further thread. */
#include <jansson.h>
#include <stdlib.h>

#include "report_write.h"

struct trace {
    const struct report *report;
    FILE *stream;
    bool any;   /* event is written */
    int image;  /* the process of the trace */
    int thread; /* the last one; their numbers differ in the whole trace */
};

/* A bar to be put on a thread. */
struct bar {
    int64_t from, to; /* microseconds since the report's beginning */
    const char *name;
    const struct span *span; /* or a wait */
    const struct report_wait *wait;
    bool locked;
    const struct report_process *process;
    const struct report_name *comm;
};

static int64_t microseconds(const struct trace *trace, int64_t time)
{
    return (time - trace->report->from) / 1000;
}

static json_t *new_event(const struct trace *trace, const char *phase, const char *name, int thread)
{
    return json_pack("{s:s, s:s, s:i, s:i}", "ph", phase, "name", name, "pid", trace->image, "tid", thread);
}

/* An event a line, so that the trace does not have to fit into memory. */
static void put_event(struct trace *trace, json_t *event)
{
    fputs(trace->any ? ",\n" : "\n", trace->stream);
    trace->any = true;
    json_dumpf(event, trace->stream, JSON_COMPACT);
    json_decref(event);
}

/* A metadata event: the name or the place of a process or a thread. */
static void describe(struct trace *trace, int thread, const char *what, const char *key, json_t *value)
{
    json_t *event = new_event(trace, "M", what, thread);
    json_object_set_new(event, "args", json_pack("{s:o}", key, value));
    put_event(trace, event);
}

static void name_thread(struct trace *trace, int thread, const char *name)
{
    describe(trace, thread, "thread_name", "name", json_string(name));
    describe(trace, thread, "thread_sort_index", "sort_index", json_integer(thread));
}

static int compare_bars(const void *left, const void *right)
{
    const struct bar *a = left, *b = right;
    if (a->process != b->process) return a->process->number < b->process->number ? -1 : 1;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    return a->to > b->to ? -1 : a->to < b->to;
}

static json_t *span_arguments(const struct span *span, bool locked)
{
    json_t *arguments =
        json_pack("{s:i, s:s, s:s, s:b, s:b}", "pid", (int)span->process->pid, "command", span->cmdline->shown, "user",
                  user_name(span->process->uid), "locked", locked, "open_ended", span->end == END_UNKNOWN);
    if (span->let_through) json_object_set_new(arguments, "let_through", json_true());
    if (span->family || span->inherited) json_object_set_new(arguments, "family", json_true());
    return arguments;
}

static json_t *bar_arguments(const struct bar *bar)
{
    if (bar->span) return span_arguments(bar->span, bar->locked);
    return json_pack("{s:i, s:s, s:b}", "pid", (int)bar->process->pid, "command", bar->wait->cmdline->shown, "granted",
                     bar->wait->end == WAIT_GRANTED);
}

/* All bars of the image's holders. */
static size_t gather_bars(struct trace *trace, const struct report_image *image, struct bar *bars)
{
    size_t count = 0;
    for (size_t i = 0; i < image->span_count; i++) {
        const struct span *span = image->spans[i];
        for (size_t j = 0; j < span->count; j++) {
            const struct segment segment = span_segment(span, j);
            bars[count++] = (struct bar){.from = microseconds(trace, segment.from),
                                         .to = microseconds(trace, segment.to),
                                         .name = segment.mode == LOCK_NONE ? "no lock" : policy_mode_name(segment.mode),
                                         .span = span,
                                         .locked = segment.locked,
                                         .process = span->process,
                                         .comm = span->comm};
        }
    }
    for (size_t i = 0; i < image->wait_count; i++) {
        const struct report_wait *wait = image->waits[i];
        bars[count++] = (struct bar){.from = microseconds(trace, wait->from),
                                     .to = microseconds(trace, wait->to),
                                     .name = wait->mode == LOCK_EXCLUSIVE ? "wait for exclusive" : "wait for shared",
                                     .wait = wait,
                                     .process = wait->process,
                                     .comm = wait->comm};
    }
    if (count) qsort(bars, count, sizeof *bars, compare_bars);
    return count;
}

static size_t count_bars(const struct report_image *image)
{
    size_t count = image->wait_count;
    for (size_t i = 0; i < image->span_count; i++) count += image->spans[i]->count;
    return count;
}

static void put_bar(struct trace *trace, const struct bar *bar, int thread, json_t *arguments)
{
    json_t *event = new_event(trace, "X", bar->name, thread);
    json_object_set_new(event, "cat", json_string("lock"));
    json_object_set_new(event, "ts", json_integer(bar->from));
    json_object_set_new(event, "dur", json_integer(bar->to - bar->from));
    json_object_set_new(event, "args", arguments);
    put_event(trace, event);
}

static int holder_thread(struct trace *trace, const struct report_name *comm, const struct report_process *process)
{
    char name[TIME_SIZE];
    char *whole = NULL;
    snprintf(name, sizeof name, "pid %d", (int)process->pid);
    if (asprintf(&whole, "%s, %s", comm->shown, name) < 0) whole = NULL;
    name_thread(trace, ++trace->thread, whole ? whole : name);
    free(whole);
    return trace->thread;
}

/* Puts the bars of one process on as few threads as hold them without overlap. */
static void place_bars(struct trace *trace, const struct bar *bars, size_t count)
{
    struct lane {
        int64_t end;
        int thread;
    } *lanes = NULL;
    size_t lane_count = 0, room = 0;
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < lane_count && lanes[at].end > bars[i].from) at++;
        if (at == lane_count) {
            lanes = grown(lanes, lane_count, &room, sizeof *lanes);
            lanes[lane_count++].thread = holder_thread(trace, bars[i].comm, bars[i].process);
        }
        lanes[at].end = bars[i].to;
        put_bar(trace, &bars[i], lanes[at].thread, bar_arguments(&bars[i]));
    }
    free(lanes);
}

static void add_incidents(struct trace *trace, const struct incident *incidents, size_t count)
{
    if (!count) return;
    name_thread(trace, ++trace->thread, "conflicts and incidents");
    for (size_t i = 0; i < count; i++) {
        const struct detail *detail = incidents[i].detail;
        const char *name = detail->kind == EVENT_LOST        ? "lock lost"
                           : detail->kind == EVENT_ERROR     ? "error"
                           : was_let_through(detail->result) ? "conflict, let through"
                                                             : "conflict, refused";
        json_t *instant = new_event(trace, "i", name, trace->thread);
        json_t *arguments =
            json_pack("{s:i, s:s}", "pid", (int)incidents[i].process->pid, "command", detail->cmdline->shown);
        if (detail->what) json_object_set_new(arguments, "what", json_string(detail->what->shown));
        if (detail->opponent_count && detail->opponents[0].comm) {
            json_object_set_new(arguments, "holder", json_string(detail->opponents[0].comm->shown));
            json_object_set_new(arguments, "holder_pid", json_integer(detail->opponents[0].pid));
        }
        json_object_set_new(instant, "s", json_string("p"));
        json_object_set_new(instant, "cat", json_string("conflict"));
        json_object_set_new(instant, "ts", json_integer(microseconds(trace, incidents[i].time)));
        json_object_set_new(instant, "args", arguments);
        put_event(trace, instant);
    }
}

static void put_overlaps(struct trace *trace, const struct bar *bar, size_t merged)
{
    put_bar(trace, bar, trace->thread, json_pack("{s:I}", "overlaps", (json_int_t)merged));
}

/* The time in which overlaps of a kind went on, as bars that do not overlap. */
static void add_overlaps(struct trace *trace, const struct report_image *image, enum overlap_kind kind,
                         const char *name, const char *thread)
{
    struct bar bar = {.name = name};
    size_t merged = 0;
    bool any = false;
    for (size_t i = 0; i < image->overlap_count; i++) {
        const struct overlap *overlap = &image->overlaps[i];
        if (overlap->kind != kind || overlap->possible) continue;
        int64_t from = microseconds(trace, overlap->from), to = microseconds(trace, overlap->to);
        if (!any) name_thread(trace, ++trace->thread, thread);
        any = true;
        if (merged && from > bar.to) {
            put_overlaps(trace, &bar, merged);
            merged = 0;
        }
        if (!merged) bar.from = bar.to = from;
        if (to > bar.to) bar.to = to;
        merged++;
    }
    if (merged) put_overlaps(trace, &bar, merged);
}

static void add_image(struct trace *trace, const struct report_image *image)
{
    struct bar *bars = zeroed((count_bars(image) + 1) * sizeof *bars);
    describe(trace, 0, "process_name", "name", json_string(image->path->shown));
    describe(trace, 0, "process_sort_index", "sort_index", json_integer(trace->image));
    add_overlaps(trace, image, OVERLAP_WRITERS, "overlap that corrupts", "overlaps that corrupt");
    add_overlaps(trace, image, OVERLAP_MIXTURE, "a reader beside a writer", "readers beside a writer");
    add_incidents(trace, image->incidents, image->incident_count);
    size_t count = gather_bars(trace, image, bars);
    for (size_t i = 0, next; i < count; i = next) {
        for (next = i; next < count && bars[next].process == bars[i].process;) next++;
        place_bars(trace, bars + i, next - i);
    }
    free(bars);
}

void report_write_trace(const struct report *report, FILE *stream)
{
    struct trace trace = {.report = report, .stream = stream, .thread = (int)report->image_count};
    char start[TIME_SIZE];
    fputs("{\"traceEvents\":[", stream);
    for (size_t i = 0; i < report->image_count; i++) {
        trace.image = (int)i + 1;
        add_image(&trace, report->images[i]);
    }
    fprintf(stream, "],\n\"displayTimeUnit\":\"ms\",\"otherData\":{\"program\":\"imglock %s\",\"start\":\"%s\"}}\n",
            IMGLOCK_VERSION, report->events ? utc_time(report->from, start) : "");
}
