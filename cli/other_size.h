/* other_size.h: the library for programs of the other size, on a processor that runs both: 32 bits beside 64. */
#ifndef IMGLOCK_OTHER_SIZE_H
#define IMGLOCK_OTHER_SIZE_H

#include <limits.h>
#include <stdbool.h>

/* The one name by which the dynamic loader finds the library for programs of either size, with $LIB for the directory
 * that differs (ld.so(8)).  The library has to be loaded here already (library_loads).  False: the other one is not
 * installed beside it, or that name is not understood here; musl's loader knows no $LIB. */
bool other_size_name(const char *library, char name[PATH_MAX]);

/* Is this file a dynamically linked program of the other size, whose library is installed beside this one? */
bool other_size_serves(const char *library, int descriptor);

#endif
