/* musl.h: programs that are linked with musl. */
#ifndef IMGLOCK_MUSL_H
#define IMGLOCK_MUSL_H

#include <stdbool.h>
#include <stddef.h>

/* Does musl's dynamic loader load the library into the program?  It ends a program whose preloaded library it cannot,
 * so it is asked to list what it would load.  False: reason has its own words. */
bool musl_loads(const char *loader, const char *program, const char *library, char *reason, size_t size);

#endif
