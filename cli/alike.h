/* alike.h: what somebody may have meant who mistyped a name. */
#ifndef IMGLOCK_ALIKE_H
#define IMGLOCK_ALIKE_H

#include <stddef.h>

/* How many letters have to be added, left out, changed or swapped with their neighbour to make b of a; 40 and more: not
 * worth counting. */
size_t letters_apart(const char *a, const char *b);

#endif
