/* report_model.c: what the model tells of its parts. */
#include "report_model.h"

#include <string.h>

#include "report_memory.h"

struct segment span_segment(const struct span *span, size_t number)
{
    if (span->segments) return span->segments[number];
    return (struct segment){.from = span->from,
                            .to = span->to,
                            .mode = (enum lock_mode)span->mode,
                            .locked = span->locked,
                            .granted = span->granted};
}

struct segment span_last_segment(const struct span *span)
{
    return span_segment(span, span->count - 1);
}

void span_set_end(struct span *span, int64_t at)
{
    span->to = at;
    if (span->segments) span->segments[span->count - 1].to = at;
}

void cut_span(struct span *span, int64_t at)
{
    while (span->segments && span->count > 1 && span_last_segment(span).from >= at) span->count--;
    span_set_end(span, at);
}

enum lock_mode span_mode(const struct span *span)
{
    enum lock_mode mode = LOCK_NONE;
    for (size_t i = 0; i < span->count; i++)
        if (span_segment(span, i).mode > mode) mode = span_segment(span, i).mode;
    return mode;
}

bool was_let_through(const struct report_name *result)
{
    return result && strcmp(result->bytes, "let through") == 0;
}

bool report_has_conflict(const struct report *report)
{
    return report->clashes + report->mixtures + report->refused + report->let_through > 0;
}

const struct report_name *boot_name(const struct report *report, unsigned boot)
{
    static const struct report_name **names;
    const struct log *log = &report->log;
    if (!names) {
        names = zeroed((log->stretch_count + 1) * sizeof(const struct report_name *));
        for (size_t i = 0; i < log->stretch_count; i++)
            if (log->stretches[i]->boot_id) names[log->stretches[i]->boot] = log->stretches[i]->boot_id;
    }
    return names[boot];
}

bool is_system_file(const struct report_image *image)
{
    if (strncmp(image->path->shown, "/usr/", 5) != 0 || image->clashes || image->mixtures || image->possible ||
        image->incident_count)
        return false;
    for (size_t i = 0; i < image->span_count; i++)
        if (span_mode(image->spans[i]) == LOCK_EXCLUSIVE) return false;
    return true;
}
