/* colour.h: is standard output to be in colour? */
#ifndef IMGLOCK_COLOUR_H
#define IMGLOCK_COLOUR_H

#include <stdbool.h>

/* On a terminal, unless NO_COLOR is set and not empty (https://no-color.org), or the terminal is dumb. */
bool colour_by_default(void);

/* The same for --color[=WHEN]: auto, always or never.  False: it is none of these. */
bool colour_wanted(const char *when, bool *colour);

#endif
