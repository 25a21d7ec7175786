/* memory.h: memory that is there, or the program ends with a line that says so. */
#ifndef IMGLOCK_MEMORY_H
#define IMGLOCK_MEMORY_H

#include <stddef.h>

/* Zeroed memory for count elements. */
void *memory_get(size_t count, size_t element_size);

/* Room for one more element of an array that grows. */
void *array_grow(void *array, size_t count, size_t *room, size_t element_size);

/* A copy of a string. */
char *string_keep(const char *string);

#endif
