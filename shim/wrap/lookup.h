/* lookup.h: what dlsym(RTLD_NEXT, ...) finds, without its lock.
 *
 * dlsym waits for who is loading a library, and a first call of a wrapped function may come from a signal handler, from
 * a vfork child, or from a thread that the loading thread itself waits for.  So all symbols had to be looked up when
 * the library was loaded, 85 of them, of which a program calls ten. */
#ifndef IMGLOCK_LOOKUP_H
#define IMGLOCK_LOOKUP_H

#include <stdbool.h>

/* The default version of the function's next definition behind our own library, in the order in which the dynamic
 * linker searches the libraries that the program was started with; NULL when there is none.  Takes no lock, allocates
 * nothing, leaves errno alone, and is async-signal-safe, once lookup_start has said true. */
void *lookup_next(const char *name);

/* Notes which libraries there are.  From the constructor; the first lookup_next does it else.  False where lookup_next
 * has to ask dlsym after all: in more than 64 libraries, in one without DT_GNU_HASH, and where we were loaded later
 * than libc. */
bool lookup_start(void);

#endif
