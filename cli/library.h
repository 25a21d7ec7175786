/* library.h: where libimglock.so is, and whether the dynamic loader will load it. */
#ifndef IMGLOCK_LIBRARY_H
#define IMGLOCK_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* The library's path: IMGLOCK_LIBRARY, else where it lies relative to this program.  Made once.  NULL after a complaint
 * when that cannot be told or cannot be written into LD_PRELOAD. */
const char *library_path(void);

/* The directory of the presets, relative to this program. */
const char *library_preset_directory(void);

/* The path of this program; "" when that cannot be told. */
const char *library_own_program(void);

/* Can this library be preloaded into programs like this one?  Loads it to find out, and runs its constructor.  False
 * with the reason. */
bool library_loads(const char *library, char *reason, size_t size);

/* Puts the library into LD_PRELOAD, once, before all others. */
void library_preload(const char *library, bool for_both_sizes);

#endif
