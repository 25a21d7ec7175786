/* memory.c: memory that is there, or the program ends with a line that says so. */
#include "memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"

static void *checked(void *memory)
{
    if (!memory) exit(complain("%s", strerror(ENOMEM)));
    return memory;
}

void *memory_get(size_t count, size_t element_size)
{
    return checked(calloc(count ? count : 1, element_size));
}

void *array_grow(void *array, size_t count, size_t *room, size_t element_size)
{
    if (count < *room) return array;
    *room = *room ? 2 * *room : 64;
    return checked(reallocarray(array, *room, element_size));
}

char *string_keep(const char *string)
{
    return checked(strdup(string));
}
