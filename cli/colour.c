/* colour.c: is standard output to be in colour? */
#include "colour.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool colour_by_default(void)
{
    const char *no_colour = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(no_colour && *no_colour) && !(terminal && strcmp(terminal, "dumb") == 0);
}

bool colour_wanted(const char *when, bool *colour)
{
    if (strcmp(when, "auto") == 0)
        *colour = colour_by_default();
    else if (strcmp(when, "always") == 0 || strcmp(when, "never") == 0)
        *colour = *when == 'a';
    else
        return false;
    return true;
}
