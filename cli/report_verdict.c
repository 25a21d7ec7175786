#include "report_verdict.h"

#include <stdlib.h>
#include <string.h>

#include "report_write.h"

enum { NAMED = 8, COMMAND_WIDTH = 72 };

/* More harm first, and of the same the earliest. */
static bool is_worse(const struct overlap *overlap, const struct overlap *other)
{
    if (!other) return true;
    if (overlap->possible != other->possible) return !overlap->possible && overlap->kind == OVERLAP_WRITERS;
    if (overlap->kind != other->kind) return overlap->kind < other->kind;
    return overlap->from < other->from;
}

const struct overlap *verdict_overlap(const struct report *report)
{
    const struct overlap *worst = NULL;
    for (size_t i = 0; i < report->image_count; i++)
        for (size_t j = 0; j < report->images[i]->overlap_count; j++) {
            const struct overlap *overlap = &report->images[i]->overlaps[j];
            /* Possible mixtures are nothing to begin with. */
            if (overlap->kind == OVERLAP_FAMILY || (overlap->possible && overlap->kind == OVERLAP_MIXTURE)) continue;
            if (is_worse(overlap, worst)) worst = overlap;
        }
    return worst;
}

enum report_verdict verdict_of(const struct report *report)
{
    const struct overlap *overlap = verdict_overlap(report);
    if (report->clashes) return VERDICT_CORRUPT;
    if (report->mixtures) return VERDICT_MIXTURE;
    if (overlap) return VERDICT_POSSIBLE;
    return report_has_conflict(report) ? VERDICT_REFUSED : VERDICT_NOTHING;
}

static void put_who(FILE *stream, const struct span *span)
{
    put_columns(stream, short_command(span->cmdline), COMMAND_WIDTH, false);
    fprintf(stream, " (pid %d, %s)", (int)span->process->pid, user_name(span->process->uid));
}

static void put_writers(FILE *stream, const struct report *report, const struct overlap *overlap)
{
    char at[TIME_SIZE], since[TIME_SIZE];
    bool date = !is_same_day(report->from, report->to);
    fprintf(stream, "%s", overlap->possible ? "Perhaps two writers at once: " : "Two writers at once: ");
    put_who(stream, overlap->second);
    fprintf(stream, " opened %s for writing at %s, while ", overlap->second->image->path->shown,
            local_time(overlap->from, 0, date, at));
    put_who(stream, overlap->first);
    fprintf(stream, " had it open for writing since %s", local_time(overlap->first->from, 0, date, since));
    if (overlap->first->image != overlap->second->image) fprintf(stream, ", as %s", overlap->first->image->path->shown);
    if (overlap->possible) fputs(", if it had not ended before", stream);
    size_t more = (overlap->possible ? report->possible : report->clashes) - 1;
    if (more) fprintf(stream, "; and %zu more times", more);
    fputs(".", stream);
}

static void put_mixture(FILE *stream, const struct report *report, const struct overlap *overlap)
{
    char at[TIME_SIZE];
    bool first_writes = span_mode(overlap->first) == LOCK_EXCLUSIVE && span_mode(overlap->second) != LOCK_EXCLUSIVE;
    const struct span *reader = first_writes ? overlap->second : overlap->first;
    const struct span *writer = first_writes ? overlap->first : overlap->second;
    fprintf(stream,
            "No two writers at once, but %s may have read a mixture: ", counted(report->mixtures, "reader", "readers"));
    if (report->mixtures > 1) fputs("the first, ", stream);
    put_who(stream, reader);
    fprintf(stream, ", had %s open at %s, while ", reader->image->path->shown,
            local_time(overlap->from, 0, !is_same_day(report->from, report->to), at));
    put_who(stream, writer);
    fputs(" had it open for writing.", stream);
}

static void put_nothing(FILE *stream, const struct report *report)
{
    fprintf(stream, "No conflict: %s, %s, and no image open for writing beside another",
            counted(report->image_count, "image", "images"), counted(report->process_count, "process", "processes"));
    if (report->lost) fprintf(stream, "; but %s", counted(report->lost, "lock was lost", "locks were lost"));
    if (report->errors)
        fprintf(stream, "; but %s",
                counted(report->errors, "lock could not be looked at", "locks could not be looked at"));
    fputs(".", stream);
}

char *verdict_words(const struct report *report)
{
    char *words = NULL;
    size_t size = 0;
    FILE *stream = or_end(open_memstream(&words, &size));
    const struct overlap *overlap = verdict_overlap(report);
    switch (verdict_of(report)) {
    case VERDICT_CORRUPT:
    case VERDICT_POSSIBLE:
        put_writers(stream, report, overlap);
        break;
    case VERDICT_MIXTURE:
        put_mixture(stream, report, overlap);
        break;
    case VERDICT_REFUSED:
        if (report->refused)
            fprintf(stream, "No two programs met: %s.",
                    counted(report->refused, "operation was refused", "operations were refused"));
        else
            fprintf(stream, "No two programs are known to have met, but %s.",
                    counted(report->let_through, "operation would have been refused",
                            "operations would have been refused"));
        break;
    case VERDICT_NOTHING:
        put_nothing(stream, report);
    }
    if (report->skipped)
        fprintf(stream, " %s not be read, so this is not all.", counted(report->skipped, "line could", "lines could"));
    fclose(stream);
    return or_end(words);
}

char *verdict_unwatched(const struct report *report)
{
    char *words = NULL;
    size_t size = 0;
    if (!report->unwatched_count) return NULL;
    FILE *stream = or_end(open_memstream(&words, &size));
    fprintf(stream, "%s not watched:", counted(report->unwatched_count, "program was", "programs were"));
    for (size_t i = 0; i < report->unwatched_count && i < NAMED; i++) {
        const struct unwatched *one = report->unwatched[i];
        fprintf(stream, "%s %s (%s)", i ? "," : "", one->program->shown, one->why ? one->why->shown : "?");
    }
    if (report->unwatched_count > NAMED) fprintf(stream, ", and %zu more", report->unwatched_count - NAMED);
    fputs(".", stream);
    fclose(stream);
    return or_end(words);
}
