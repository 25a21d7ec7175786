/* report_overlap.h: which processes had an image open at the same time in ways that exclude each other. */
#ifndef IMGLOCK_REPORT_OVERLAP_H
#define IMGLOCK_REPORT_OVERLAP_H

#include "report_model.h"

/* Finds the overlaps of all images, whose spans are in order, and the parents of processes known.  Takes time and
 * memory in proportion to the spans, not to their pairs. */
void overlaps_find(struct report *report);

/* ---- report_grants.c ---------------------------------------------------------------------------------------- */

/* The first of a span's processes' ancestors that had the image, or the process itself: of two who had it by one
 * ancestor, the same. */
struct report_process *root_of(const struct span *span);

/* Are these one lock that was handed on, or locks that were let past each other by design? */
bool are_family(const struct span *a, const struct span *b, bool same_root);

/* Ends the spans of an image whose end is not in the log, or was seen late, where another process got a lock that
 * excludes them. */
void end_spans_by_grants(const struct report_image *image);

#endif
