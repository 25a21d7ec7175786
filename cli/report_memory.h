/* report_memory.h: memory of a report, which is never given back before the end, names, and tables of objects.
 *
 * A log has millions of lines, so objects come without malloc's header, and equal strings are one object. */
#ifndef IMGLOCK_REPORT_MEMORY_H
#define IMGLOCK_REPORT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A string of the logs.  Equal strings are one object, so pointers compare. */
struct report_name {
    const char *bytes; /* NUL-terminated, and may be of any bytes */
    const char *shown; /* the bytes with what could drive a terminal escaped: valid UTF-8, one line */
    uint32_t length;
    uint32_t hash;
};

/* The one object for this string. */
const struct report_name *name_of(const char *bytes, size_t length);

/* A zeroed object that is kept to the end.  Like all here it ends the program when there is no memory. */
void *kept(size_t size);

/* Makes room for one more in an array that has count, and returns it; of malloc. */
void *grown(void *array, size_t count, size_t *room, size_t size);

/* A zeroed object of malloc. */
void *zeroed(size_t size);

/* The memory; ends the program where it is NULL. */
void *or_end(void *memory);

/* A set of objects that are found by what is in them. */
struct set {
    uint64_t (*hash)(const void *object);
    bool (*equal)(const void *object, const void *sought);
    void **slots;
    size_t count, room;
};

/* The object that equals this one, or NULL. */
void *set_find(const struct set *table, const void *sought);

/* Adds an object, in the place of one that equals it. */
void set_put(struct set *table, void *object);

/* A hash of two numbers or pointers. */
uint64_t hash_of_two(uint64_t one, uint64_t other);

#endif
