/* report_build.h: the model of a log, from its events. */
#ifndef IMGLOCK_REPORT_BUILD_H
#define IMGLOCK_REPORT_BUILD_H

#include "report_model.h"

/* Makes the model from the arranged log.  False after a complaint. */
bool report_build(struct report *report);

#endif
