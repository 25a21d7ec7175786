/* report_json.c: the report as one JSON document. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "report_verdict.h"
#include "report_write.h"
#include "text.h"

/* A string whose bytes are no UTF-8 comes with U+FFFD in place of the bad ones, and its bytes under KEY_raw, as in the
 * log. */
static void set_name(json_t *object, const char *key, const struct report_name *name)
{
    if (!name) return;
    json_t *string = json_stringn(name->bytes, name->length);
    if (string) {
        json_object_set_new(object, key, string);
        return;
    }
    char *valid = zeroed(3 * name->length + 1), raw_key[40];
    struct text text = text_in(valid, 3 * name->length + 1), raw = text_in(raw_key, sizeof raw_key);
    json_t *bytes = json_array();
    for (size_t i = 0; i < name->length;) {
        size_t sequence = text_utf8_sequence(name->bytes + i, name->length - i);
        if (sequence)
            text_append_bytes(&text, name->bytes + i, sequence);
        else
            text_append(&text, "\xef\xbf\xbd");
        i += sequence ? sequence : 1;
    }
    for (size_t i = 0; i < name->length; i++) json_array_append_new(bytes, json_integer((unsigned char)name->bytes[i]));
    text_append(&raw, key);
    text_append(&raw, "_raw");
    json_object_set_new(object, key, json_string(valid));
    json_object_set_new(object, raw_key, bytes);
    free(valid);
}

static void set_number(json_t *object, const char *key, int64_t number)
{
    json_object_set_new(object, key, json_integer(number));
}

static void set_truth(json_t *object, const char *key, bool truth)
{
    json_object_set_new(object, key, json_boolean(truth));
}

static void set_word(json_t *object, const char *key, const char *word)
{
    json_object_set_new(object, key, json_string(word));
}

static void set_time(json_t *object, const char *key, int64_t time)
{
    char text[TIME_SIZE];
    set_word(object, key, utc_time(time, text));
}

static void set_mode(json_t *object, const char *key, enum lock_mode mode)
{
    set_word(object, key, mode == LOCK_NONE ? "none" : policy_mode_name(mode));
}

static void set_period(json_t *object, int64_t from, int64_t to)
{
    set_time(object, "from", from);
    set_time(object, "to", to);
    set_number(object, "duration_ns", to - from);
}

static void set_process(json_t *object, const struct report *report, const struct report_process *process)
{
    set_number(object, "pid", process->pid);
    set_number(object, "start", (int64_t)process->start);
    set_name(object, "boot", boot_name(report, process->boot));
    if (process->uid >= 0) set_number(object, "uid", process->uid);
}

static json_t *span_object(const struct report *report, const struct span *span)
{
    static const char *const ends[] = {
        [END_RELEASED] = "release", [END_EXITED] = "exit", [END_UNKNOWN] = "not in the log"};
    json_t *object = json_object(), *segments = json_array();
    set_process(object, report, span->process);
    set_name(object, "comm", span->comm);
    set_name(object, "cmdline", span->cmdline);
    set_mode(object, "mode", span_mode(span));
    set_period(object, span->from, span->to);
    set_word(object, "end", ends[span->end]);
    set_truth(object, "open_ended", span->end == END_UNKNOWN);
    set_truth(object, "let_through", span->let_through);
    set_truth(object, "family", span->family || span->inherited);
    set_truth(object, "named_by_others_only", span->reported);
    set_number(object, "opens", (int64_t)span->opens);
    set_name(object, "flags", span->flags);
    set_number(object, "overlaps", (int64_t)span->clashes);
    for (size_t i = 0; i < span->count; i++) {
        json_t *segment = json_object();
        const struct segment part = span_segment(span, i);
        set_mode(segment, "mode", part.mode);
        set_truth(segment, "locked", part.locked);
        set_period(segment, part.from, part.to);
        json_array_append_new(segments, segment);
    }
    json_object_set_new(object, "segments", segments);
    return object;
}

static json_t *overlap_object(const struct report_image *image, const struct overlap *overlap)
{
    json_t *object = json_object(), *numbers = json_array();
    set_word(object, "kind",
             overlap->kind == OVERLAP_FAMILY    ? "family"
             : overlap->possible                ? "possible"
             : overlap->kind == OVERLAP_MIXTURE ? "mixture"
                                                : "corrupts");
    set_truth(object, "repeated", overlap->repeated);
    set_period(object, overlap->from, overlap->to);
    const struct span *const both[] = {overlap->first, overlap->second};
    for (int i = 0; i < 2; i++) {
        json_t *side = json_object();
        set_number(side, "span", (int64_t)both[i]->number);
        set_number(side, "pid", both[i]->process->pid);
        set_name(side, "cmdline", both[i]->cmdline);
        if (both[i]->image != image) set_name(side, "image", both[i]->image->path);
        json_array_append_new(numbers, side);
    }
    json_object_set_new(object, "between", numbers);
    return object;
}

static json_t *wait_object(const struct report *report, const struct report_wait *wait)
{
    static const char *const ends[] = {
        [WAIT_GRANTED] = "granted", [WAIT_REFUSED] = "refused", [WAIT_UNKNOWN] = "not in the log"};
    json_t *object = json_object();
    set_process(object, report, wait->process);
    set_name(object, "comm", wait->comm);
    set_name(object, "cmdline", wait->cmdline);
    set_mode(object, "mode", wait->mode);
    set_period(object, wait->from, wait->to);
    set_word(object, "end", ends[wait->end]);
    return object;
}

static json_t *opponent_object(const struct opponent *opponent)
{
    json_t *object = json_object();
    set_number(object, "pid", opponent->pid);
    set_name(object, "comm", opponent->comm);
    if (opponent->uid >= 0) set_number(object, "uid", opponent->uid);
    set_mode(object, "mode", opponent->mode);
    if (opponent->since) set_time(object, "since", opponent->since);
    set_name(object, "host", opponent->host);
    set_name(object, "has", opponent->has);
    return object;
}

static json_t *incident_object(const struct report *report, const struct incident *incident)
{
    static const char *const kinds[] = {
        [EVENT_CONFLICT] = "conflict", [EVENT_GUARD] = "guard", [EVENT_LOST] = "lost", [EVENT_ERROR] = "error"};
    const struct detail *detail = incident->detail;
    json_t *object = json_object();
    set_word(object, "event", kinds[detail->kind]);
    set_time(object, "time", incident->time);
    set_process(object, report, incident->process);
    set_name(object, "comm", detail->comm);
    set_name(object, "cmdline", detail->cmdline);
    if (detail->kind == EVENT_CONFLICT || detail->kind == EVENT_LOST) set_mode(object, "mode", detail->mode);
    set_name(object, detail->kind == EVENT_GUARD ? "operation" : "what", detail->what);
    set_name(object, "flags", detail->flags);
    set_name(object, "result", detail->result);
    set_name(object, detail->kind == EVENT_ERROR ? "cause" : "errno", detail->error);
    if (detail->kind == EVENT_LOST) set_truth(object, "regained", detail->regained);
    if (detail->kind != EVENT_CONFLICT && detail->kind != EVENT_GUARD) return object;
    json_t *holders = json_array();
    for (size_t i = 0; i < detail->opponent_count; i++)
        json_array_append_new(holders, opponent_object(&detail->opponents[i]));
    json_object_set_new(object, "holders", holders);
    return object;
}

static json_t *unwatched_object(const struct unwatched *unwatched)
{
    json_t *object = json_object();
    set_name(object, "program", unwatched->program);
    set_name(object, "why", unwatched->why);
    set_time(object, "time", unwatched->time);
    set_number(object, "pid", unwatched->pid);
    set_name(object, "cmdline", unwatched->cmdline);
    set_number(object, "times", (int64_t)unwatched->count);
    return object;
}

/* ---- writing: an object a line, so that no document has to fit into memory ------------------------------------ */

/* A member of an array. */
static void put_element(FILE *stream, json_t *object, bool *any)
{
    fputs(*any ? ",\n    " : "\n    ", stream);
    *any = true;
    json_dumpf(object, stream, JSON_COMPACT);
    json_decref(object);
}

/* The members of an object, without its braces. */
static void put_members(FILE *stream, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    if (text) fprintf(stream, "%.*s", (int)strlen(text) - 2, text + 1);
    free(text);
    json_decref(object);
}

#define PUT_ARRAY(stream, key, count, element)                                   \
    do {                                                                         \
        bool any = false;                                                        \
        fputs(",\n   \"" key "\":[", stream);                                    \
        for (size_t i = 0; i < (count); i++) put_element(stream, element, &any); \
        putc(']', stream);                                                       \
    } while (0)

static void put_image(FILE *stream, const struct report *report, const struct report_image *image)
{
    json_t *object = json_object();
    set_name(object, "image", image->path);
    set_name(object, "lock", image->lock);
    fputs("  {", stream);
    put_members(stream, object);
    PUT_ARRAY(stream, "spans", image->span_count, span_object(report, image->spans[i]));
    PUT_ARRAY(stream, "overlaps", image->overlap_count, overlap_object(image, &image->overlaps[i]));
    PUT_ARRAY(stream, "waits", image->wait_count, wait_object(report, image->waits[i]));
    PUT_ARRAY(stream, "incidents", image->incident_count, incident_object(report, &image->incidents[i]));
    putc('}', stream);
}

static json_t *totals_object(const struct report *report)
{
    json_t *object = json_object();
    set_number(object, "images", (int64_t)report->image_count);
    set_number(object, "boots", (int64_t)report->boots);
    set_number(object, "processes", (int64_t)report->process_count);
    set_number(object, "spans", (int64_t)report->spans);
    set_number(object, "overlaps_that_corrupt", (int64_t)report->clashes);
    set_number(object, "readers_beside_a_writer", (int64_t)report->mixtures);
    set_number(object, "possible_overlaps", (int64_t)report->possible);
    set_number(object, "family_overlaps", (int64_t)report->family);
    set_number(object, "refused", (int64_t)report->refused);
    set_number(object, "let_through", (int64_t)report->let_through);
    set_number(object, "waits", (int64_t)report->waits);
    set_number(object, "lost", (int64_t)report->lost);
    set_number(object, "errors", (int64_t)report->errors);
    set_number(object, "lines_skipped", (int64_t)report->skipped);
    set_number(object, "programs_not_watched", (int64_t)report->unwatched_count);
    set_truth(object, "conflict", report_has_conflict(report));
    return object;
}

static json_t *log_object(const struct log_file *file)
{
    json_t *log = json_object();
    set_name(log, "log", name_of(file->path, strlen(file->path)));
    set_number(log, "lines", (int64_t)file->lines);
    set_number(log, "skipped", (int64_t)file->skipped);
    return log;
}

void report_write_json(const struct report *report, FILE *stream)
{
    static const char *const verdicts[] = {[VERDICT_NOTHING] = "no conflict",
                                           [VERDICT_REFUSED] = "refused",
                                           [VERDICT_POSSIBLE] = "possible",
                                           [VERDICT_MIXTURE] = "mixture",
                                           [VERDICT_CORRUPT] = "corrupts"};
    json_t *object = json_object();
    char *words = verdict_words(report);
    set_number(object, "v", 1);
    set_word(object, "verdict", verdicts[verdict_of(report)]);
    set_word(object, "words", words);
    if (report->events) set_period(object, report->from, report->to);
    fputs("{", stream);
    put_members(stream, object);
    free(words);
    PUT_ARRAY(stream, "logs", report->log.file_count, log_object(&report->log.files[i]));
    PUT_ARRAY(stream, "not_watched", report->unwatched_count, unwatched_object(report->unwatched[i]));
    fputs(",\n\"images\":[\n", stream);
    for (size_t i = 0; i < report->image_count; i++) {
        if (i) fputs(",\n", stream);
        put_image(stream, report, report->images[i]);
    }
    putc(']', stream);
    PUT_ARRAY(stream, "incidents_without_image", report->homeless_count, incident_object(report, &report->homeless[i]));
    fputs(",\n", stream);
    object = json_object();
    json_object_set_new(object, "totals", totals_object(report));
    put_members(stream, object);
    fputs("}\n", stream);
}
