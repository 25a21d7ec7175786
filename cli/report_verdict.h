/* report_verdict.h: what a report comes to, in words. */
#ifndef IMGLOCK_REPORT_VERDICT_H
#define IMGLOCK_REPORT_VERDICT_H

#include "report_model.h"

/* In the order of the harm. */
enum report_verdict { VERDICT_NOTHING, VERDICT_REFUSED, VERDICT_POSSIBLE, VERDICT_MIXTURE, VERDICT_CORRUPT };

enum report_verdict verdict_of(const struct report *report);

/* The overlap that the verdict is about, the earliest of its kind: its second is who came into the first.  NULL: none.
 */
const struct overlap *verdict_overlap(const struct report *report);

/* The verdict as a sentence, with who did it, and when.  The caller frees it. */
char *verdict_words(const struct report *report);

/* "3 programs were not watched: /usr/bin/restic (Go), ...".  The caller frees it; NULL: all were. */
char *verdict_unwatched(const struct report *report);

#endif
