/* make_formats.c: lays out build/formats_index.h from formats.def.  Runs while building; not part of the
 * library.  Exits 1, and says why, when the table contradicts itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "extension.h"

enum kind { IMAGE, CONTENT };
enum where { HEAD, FAR, TAIL, SIZED, NAME };

static const struct {
    const char *name;
    const char *extensions;
    enum where where;
    unsigned offset;
    const char *bytes;
    size_t length;
} formats[] = {
#define FORMAT(name, extensions, kind, where, offset, bytes, check) \
    {name, extensions, where, offset, bytes, sizeof(bytes) - 1},
#include "formats.def"
#undef FORMAT
};
enum { FORMATS = sizeof formats / sizeof *formats };
_Static_assert(FORMATS < 255, "a row number is one byte, and one value ends a list");

static struct extension found[EXTENSION_SLOTS];
static unsigned found_count;

static void die(const char *why, const char *what)
{
    fprintf(stderr, "formats.def: %s: %s\n", what, why);
    exit(1);
}

static void collect_extensions(void)
{
    for (unsigned row = 0; row < FORMATS; row++) {
        for (const char *at = formats[row].extensions; *at;) {
            size_t length = strcspn(at, " ");
            if (length == 0 || length > EXTENSION_MAX) die("an extension has 1 to 12 letters", formats[row].name);
            struct extension one = {extension_pack(at, length), (uint8_t)length, (uint8_t)row};
            for (unsigned i = 0; i < found_count; i++)
                if (found[i].packed == one.packed) die("an extension stands in two rows", formats[row].name);
            if (found_count == EXTENSION_SLOTS / 2) die("too many extensions; enlarge EXTENSION_SLOTS", "table");
            found[found_count++] = one;
            at += length + (at[length] == ' ');
        }
    }
}

/* Tries multipliers until every extension has a slot of its own. */
static uint64_t find_multiplier(struct extension slots[EXTENSION_SLOTS])
{
    uint64_t multiplier = 0x9e3779b97f4a7c15;
    for (unsigned long attempt = 0; attempt < 100000000; attempt++) {
        multiplier = multiplier * 6364136223846793005 + 1442695040888963407;
        memset(slots, 0, EXTENSION_SLOTS * sizeof *slots);
        unsigned placed = 0;
        for (; placed < found_count; placed++) {
            struct extension *slot = &slots[extension_hash(found[placed].packed, multiplier)];
            if (slot->length) break;
            *slot = found[placed];
        }
        if (placed == found_count) return multiplier;
    }
    die("no multiplier gives every extension a slot of its own; enlarge EXTENSION_SLOTS", "table");
    return 0;
}

static void print_rows(const char *name, int wanted_where, int further_in)
{
    printf("static const uint8_t %s[] = {", name);
    for (unsigned row = 0; row < FORMATS; row++) {
        int where = (int)formats[row].where;
        if (where == FAR && wanted_where == TAIL) where = TAIL; /* both are looked at behind zeros */
        if (where != wanted_where) continue;
        if (wanted_where == HEAD && (formats[row].offset != 0) != further_in) continue;
        printf("%u, ", row);
    }
    printf("%u};\n", (unsigned)FORMATS);
}

int main(void)
{
    static struct extension slots[EXTENSION_SLOTS];
    collect_extensions();
    uint64_t multiplier = find_multiplier(slots);
    printf("/* Made by make_formats.c from formats.def. */\n");
    printf("#define EXTENSION_MULTIPLIER UINT64_C(0x%016llx)\n", (unsigned long long)multiplier);
    printf("static const struct extension extensions[EXTENSION_SLOTS] = {\n");
    for (unsigned i = 0; i < EXTENSION_SLOTS; i++)
        if (slots[i].length)
            printf("    [%u] = {UINT64_C(0x%llx), %u, %u},\n", i, (unsigned long long)slots[i].packed, slots[i].length,
                   slots[i].row);
    printf("};\n");

    /* Rows whose magic starts the file, grouped by its first byte; list 0 is empty. */
    unsigned starts[256] = {0};
    unsigned at = 1;
    printf("static const uint8_t rows_by_first_byte[] = {%u, ", (unsigned)FORMATS);
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned first = at;
        for (unsigned row = 0; row < FORMATS; row++) {
            if (formats[row].where != HEAD || formats[row].offset != 0) continue;
            if (formats[row].length == 0) die("a magic at offset 0 needs bytes", formats[row].name);
            if ((unsigned char)formats[row].bytes[0] != byte) continue;
            printf("%u, ", row);
            at++;
        }
        if (at == first) continue;
        printf("%u, ", (unsigned)FORMATS);
        starts[byte] = first;
        at++;
    }
    printf("};\nstatic const uint8_t first_byte_rows[256] = {");
    for (unsigned byte = 0; byte < 256; byte++) {
        if (starts[byte] > 255) die("too many rows for one byte of index", "table");
        printf("%u, ", starts[byte]);
    }
    printf("};\n");
    for (unsigned row = 0; row < FORMATS; row++)
        if (formats[row].where == HEAD && formats[row].offset + formats[row].length > 2048)
            die("HEAD means the first 2 KiB", formats[row].name);
    print_rows("rows_further_in", HEAD, 1);
    print_rows("rows_behind_zeros", TAIL, 0);
    print_rows("rows_by_size", SIZED, 0);
    return 0;
}
