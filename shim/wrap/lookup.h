/* lookup.h: what dlsym(RTLD_NEXT, ...) finds, without its lock.
 *
 * dlsym waits for who is loading a library, and a first call of a wrapped function may come from a signal handler, from
 * a vfork child, or from a thread that the loading thread itself waits for.  So all symbols had to be looked up when
 * the library was loaded, 85 of them, of which a program calls ten. */
#ifndef IMGLOCK_LOOKUP_H
#define IMGLOCK_LOOKUP_H

#include <stdbool.h>

/* For what every process writes to when it starts: in one page with the other variables that have an initial value,
 * which the dynamic linker has written to already.  Each page that is written to first costs a fault. */
#define AT_START __attribute__((section(".data.start")))

/* The default version of the function's next definition behind our own library, in the order in which the dynamic
 * linker searches the libraries that the program was started with; NULL when there is none.  Takes no lock, allocates
 * nothing, leaves errno alone, and is async-signal-safe. */
void *lookup_next(const char *name);

/* The same in all that is loaded, from the program itself on, which may have a copy of a variable of libc's.  Not
 * beside threads that load and unload libraries. */
void *lookup_anywhere(const char *name);

/* Is the libc that is behind us glibc?  musl has the same functions, but structures of its own. */
bool lookup_is_glibc(void);

/* Notes which libraries there are.  From the constructor; the first lookup does it else. */
void lookup_start(void);

#endif
