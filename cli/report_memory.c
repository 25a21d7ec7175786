#include "report_memory.h"

#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "text.h"

/* ---- memory ------------------------------------------------------------------------------------------------- */

void *or_end(void *memory)
{
    if (!memory) exit(complain("report: not enough memory for these logs"));
    return memory;
}

void *grown(void *array, size_t count, size_t *room, size_t size)
{
    if (count < *room) return array;
    *room = *room ? 2 * *room : 4;
    return or_end(reallocarray(array, *room, size));
}

void *zeroed(size_t size)
{
    return or_end(calloc(1, size));
}

/* As many bytes as asked for, aligned or not. */
static void *piece(size_t size, size_t alignment)
{
    enum { BLOCK = 256 * 1024 };
    static char *next;
    static size_t left;
    size_t skipped = (size_t)(-(uintptr_t)next & (alignment - 1));
    if (size > BLOCK / 4) return zeroed(size);
    if (left < size + skipped) {
        next = zeroed(BLOCK);
        left = BLOCK;
        skipped = 0;
    }
    char *found = next + skipped;
    next += skipped + size;
    left -= skipped + size;
    return found;
}

void *kept(size_t size)
{
    return piece(size, _Alignof(max_align_t) > 8 ? 8 : _Alignof(max_align_t));
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

uint64_t hash_of_two(uint64_t one, uint64_t other)
{
    /* The finisher of splitmix64: every bit of the numbers moves half of the bits. */
    uint64_t hash = one * 0x9e3779b97f4a7c15u + other;
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
    return hash ^ (hash >> 31);
}

/* The slot of an object that equals this one, or the empty one for it. */
static void **slot_of(const struct set *table, const void *sought)
{
    for (size_t at = table->hash(sought);; at++) {
        void **slot = &table->slots[at & (table->room - 1)];
        if (!*slot || table->equal(*slot, sought)) return slot;
    }
}

void *set_find(const struct set *table, const void *sought)
{
    return table->room ? *slot_of(table, sought) : NULL;
}

void set_put(struct set *table, void *object)
{
    if (4 * (table->count + 1) > 3 * table->room) {
        struct set larger = *table;
        larger.room = table->room ? 2 * table->room : 16;
        larger.slots = zeroed(larger.room * sizeof *larger.slots);
        for (size_t i = 0; i < table->room; i++)
            if (table->slots[i]) *slot_of(&larger, table->slots[i]) = table->slots[i];
        free(table->slots);
        *table = larger;
    }
    void **slot = slot_of(table, object);
    table->count += !*slot;
    *slot = object;
}

/* ---- names -------------------------------------------------------------------------------------------------- */

static uint64_t hash_name(const void *object)
{
    return ((const struct report_name *)object)->hash;
}

static bool equal_names(const void *left, const void *right)
{
    const struct report_name *a = left, *b = right;
    return a->hash == b->hash && a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

static uint32_t hash_bytes(const char *bytes, size_t length)
{
    uint64_t hash = length;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return (uint32_t)hash_of_two(hash, 0);
}

/* The bytes as a terminal may see them: themselves, where nothing in them needs to be escaped. */
static const char *shown_form(const char *bytes, size_t length)
{
    size_t size = 4 * length + 1;
    struct text shown = text_in(or_end(malloc(size)), size);
    text_append_untrusted(&shown, bytes, length);
    const char *result = bytes;
    if (shown.length != length || memcmp(shown.bytes, bytes, length) != 0)
        result = memcpy(piece(shown.length + 1, 1), shown.bytes, shown.length);
    free(shown.bytes);
    return result;
}

const struct report_name *name_of(const char *bytes, size_t length)
{
    static struct set names = {.hash = hash_name, .equal = equal_names};
    if (length > UINT32_MAX / 2) length = UINT32_MAX / 2;
    const struct report_name sought = {.bytes = bytes, .length = (uint32_t)length, .hash = hash_bytes(bytes, length)};
    struct report_name *name = set_find(&names, &sought);
    if (name) return name;
    name = kept(sizeof *name);
    *name = sought;
    name->bytes = memcpy(piece(length + 1, 1), bytes, length);
    name->shown = shown_form(name->bytes, length);
    set_put(&names, name);
    return name;
}
