/* report_overlap.h: which processes had an image open at the same time in ways that exclude each other. */
#ifndef IMGLOCK_REPORT_OVERLAP_H
#define IMGLOCK_REPORT_OVERLAP_H

#include "report_model.h"

/* Finds the overlaps of all images, whose spans are in order, and the parents of processes known.  Takes time and
 * memory in proportion to the spans, not to their pairs. */
void overlaps_find(struct report *report);

/* ---- report_model.c ----------------------------------------------------------------------------------------- */

/* Had this process ever to do with the image? */
bool had_image(const struct process *process, const struct image *image);

/* Ends a span at an earlier time. */
void cut_span(struct span *span, int64_t at);

#endif
