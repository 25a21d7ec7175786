/* make_formats.c: lays out build/formats_index.h from formats.def, and with an argument build/look_index.h, for what is
 * asked of every file.  Runs while building; not part of the library.  Exits 1, and says why, when the table
 * contradicts itself. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "extension.h"

enum where { HEAD, FAR, TAIL, SIZED, NAME };

static const struct {
    const char *name;
    const char *extensions;
    enum where where;
    unsigned offset;
    const char *bytes;
    size_t length;
    const char *check;
} formats[] = {
#define FORMAT(name, extensions, where, offset, bytes, check) \
    {name, extensions, where, offset, bytes, sizeof(bytes) - 1, #check},
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
            if (length < 2 || length > EXTENSION_MAX) die("an extension has 2 to 12 letters", formats[row].name);
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

static void check_rows(void)
{
    for (unsigned row = 0; row < FORMATS; row++) {
        const char *name = formats[row].name;
        bool always = strcmp(formats[row].check, "always") == 0;
        if (strlen(name) > 35 || formats[row].length > 40) die("image.c has room for 35 letters and 40 bytes", name);
        switch (formats[row].where) {
        case HEAD:
            if (formats[row].offset + formats[row].length > 2048) die("HEAD means the first 2 KiB", name);
            if (formats[row].length == 0 && (formats[row].offset == 0 || always)) die("HEAD needs bytes", name);
            break;
        case FAR:
        case TAIL:
            if (!always) die("a check sees zeros behind FAR and TAIL", name);
            if (formats[row].length == 0) die("FAR and TAIL need bytes", name);
            break;
        case SIZED:
            if (always) die("SIZED needs a check", name);
            break;
        case NAME:
            if (formats[row].length || !*formats[row].extensions) die("NAME has extensions and no bytes", name);
            break;
        }
    }
}

/* look.h sends a file that starts with zeros to the rows behind them, since some row wants a zero there. */
static void check_zeros(void)
{
    for (unsigned row = 0; row < FORMATS; row++)
        if (formats[row].where == HEAD && formats[row].offset > 0 && formats[row].offset < 512 && formats[row].length &&
            formats[row].bytes[0] == '\0')
            return;
    die("no row has a zero in the first sector", "table");
}

static void print_list(const char *name, bool (*belongs)(unsigned row))
{
    printf("static const uint8_t %s[] = {", name);
    for (unsigned row = 0; row < FORMATS; row++)
        if (belongs(row)) printf("%u, ", row);
    printf("%u};\n", (unsigned)FORMATS);
}

static bool starts_file(unsigned row)
{
    return formats[row].where == HEAD && formats[row].offset == 0;
}

static bool further_in(unsigned row)
{
    return formats[row].where == HEAD && formats[row].offset != 0;
}

static bool without_bytes(unsigned row)
{
    return further_in(row) && formats[row].length == 0;
}

static void print_rows_further_in(void)
{
    printf("static const struct { uint16_t offset; uint8_t byte, row; } rows_further_in[] = {");
    for (unsigned row = 0; row < FORMATS; row++)
        if (further_in(row) && formats[row].length)
            printf("{%u, %u, %u}, ", formats[row].offset, (unsigned char)formats[row].bytes[0], row);
    printf("};\n");
}

/* Which offsets there are further in, and for each value of a byte those, as bits, at which some row begins with it. */
static unsigned find_offsets(unsigned offsets[32], uint32_t masks[256])
{
    unsigned count = 0;
    for (unsigned row = 0; row < FORMATS; row++) {
        if (!further_in(row) || !formats[row].length) continue;
        unsigned at = 0;
        while (at < count && offsets[at] != formats[row].offset) at++;
        if (at == 32) die("too many offsets", formats[row].name);
        if (at == count) offsets[count++] = (unsigned)formats[row].offset;
        masks[(unsigned char)formats[row].bytes[0]] |= (uint32_t)1 << at;
    }
    return count;
}

static void print_offsets(void)
{
    unsigned offsets[32];
    uint32_t masks[256] = {0};
    find_offsets(offsets, masks);
    printf("const uint32_t look_offsets[256] = {");
    for (unsigned byte = 0; byte < 256; byte++) printf("%uu, ", masks[byte]);
    printf("};\n");
}

/* For each first byte the second ones of rows that start the file, by their last six bits. */
static void print_beginnings(void)
{
    uint64_t seconds[256] = {0};
    for (unsigned row = 0; row < FORMATS; row++)
        if (starts_file(row))
            seconds[(unsigned char)formats[row].bytes[0]] |= UINT64_C(1) << (formats[row].bytes[1] & 63);
    printf("const uint64_t look_beginnings[256] = {");
    for (unsigned byte = 0; byte < 256; byte++) printf("UINT64_C(0x%llx), ", (unsigned long long)seconds[byte]);
    printf("};\n");
}

/* Of each offset at which rows look for bytes: is the first of them there? */
static void print_look(void)
{
    unsigned offsets[32];
    uint32_t masks[256] = {0};
    unsigned count = find_offsets(offsets, masks);
    printf("/* Made by make_formats.c from formats.def. */\n");
    printf("static inline uint32_t look_further_in(const unsigned char *head)\n{\n    uint32_t any = 0;\n");
    for (unsigned at = 0; at < count; at++)
        printf("    any |= look_offsets[head[%u]] & %uu;\n", offsets[at], (uint32_t)1 << at);
    printf("    return any;\n}\n");
}

/* The rows that have a closer look alone: a function that makes them all. */
static void print_rows_without_bytes(void)
{
    printf("static inline int row_without_bytes(const struct probe *probe)\n{\n");
    for (unsigned row = 0; row < FORMATS; row++)
        if (without_bytes(row)) {
            if (strcmp(formats[row].check, "d88_header") != 0) die("look.h has to ask for it", formats[row].name);
            printf("    if (%s(probe)) return %u;\n", formats[row].check, row);
        }
    printf("    return -1;\n}\n");
}

static bool by_size(unsigned row)
{
    return formats[row].where == SIZED && formats[row].length != 0;
}

/* FAR rows by their offsets, so that rows near each other share a read, then TAIL rows. */
static int compare_far(const void *left, const void *right)
{
    unsigned a = *(const unsigned *)left, b = *(const unsigned *)right;
    if (formats[a].where != formats[b].where) return formats[a].where == FAR ? -1 : 1;
    if (formats[a].offset != formats[b].offset) return formats[a].offset < formats[b].offset ? -1 : 1;
    return a < b ? -1 : 1;
}

static void print_rows_behind_zeros(void)
{
    unsigned rows[FORMATS] = {0}, count = 0;
    for (unsigned row = 0; row < FORMATS; row++)
        if (formats[row].where == FAR || formats[row].where == TAIL) rows[count++] = row;
    qsort(rows, count, sizeof *rows, compare_far);
    printf("static const uint8_t rows_behind_zeros[] = {");
    for (unsigned i = 0; i < count; i++) printf("%u, ", rows[i]);
    printf("%u};\n", (unsigned)FORMATS);
}

/* Which two letters may end the name of an image, as bits.  The bands of a sparse bundle have numbers in hexadecimal
 * for names. */
static void print_endings(const struct extension *slots)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t endings[EXTENSION_LETTERS] = {0};
    for (unsigned i = 0; i < EXTENSION_SLOTS; i++) {
        if (!slots[i].length) continue;
        uint64_t *first = &endings[extension_letter((unsigned char)(slots[i].packed >> 8))];
        *first |= UINT64_C(1) << extension_letter((unsigned char)slots[i].packed);
    }
    for (const char *last = digits; *last; last++) {
        uint64_t bit = UINT64_C(1) << extension_letter((unsigned char)*last);
        endings[extension_letter('/')] |= bit;
        for (const char *first = digits; *first; first++) endings[extension_letter((unsigned char)*first)] |= bit;
    }
    printf("static const uint64_t endings[] = {");
    for (unsigned i = 0; i < EXTENSION_LETTERS; i++) printf("UINT64_C(0x%llx), ", (unsigned long long)endings[i]);
    printf("};\n");
}

int main(int arguments, char **values)
{
    (void)values;
    static struct extension slots[EXTENSION_SLOTS];
    check_rows();
    check_zeros();
    if (arguments > 1) {
        print_look();
        return 0;
    }
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
    print_endings(slots);

    /* Rows whose magic starts the file, grouped by its first byte; list 0 is empty. */
    unsigned starts[256] = {0};
    unsigned at = 1;
    printf("static const uint8_t rows_by_first_byte[] = {%u, ", (unsigned)FORMATS);
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned first = at;
        for (unsigned row = 0; row < FORMATS; row++) {
            if (!starts_file(row)) continue;
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
    print_rows_further_in();
    print_offsets();
    print_beginnings();
    print_rows_without_bytes();
    print_rows_behind_zeros();
    print_list("rows_by_size", by_size);
    return 0;
}
