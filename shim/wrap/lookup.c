#include "lookup.h"

#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

/* A DT_GNU_HASH section: a Bloom filter, and chains of hashes that end in an odd one (Ali Bahrami, "GNU Hash ELF
 * Sections"). */
struct hash_table {
    uint32_t buckets;
    uint32_t first_symbol;
    uint32_t filter_words;
    uint32_t filter_shift;
    ElfW(Addr) filter[];
};

struct library {
    const struct link_map *map;
    const struct hash_table *table; /* NULL: it has a DT_HASH alone */
};

/* The libraries behind ours up to libc, in the order in which they are searched.  All of them stay loaded as long as
 * the process lives. */
enum { LIBRARIES = 64 };
AT_START static struct library libraries[LIBRARIES];
AT_START static int library_count = 0;
AT_START static const struct link_map *beyond = NULL; /* the first that has no place in the list */
AT_START static _Atomic bool listed = false;

/* ---- what is loaded ------------------------------------------------------------------------------------- */

static uintptr_t distance(uintptr_t a, uintptr_t b)
{
    return (intptr_t)(a - b) < 0 ? b - a : a - b;
}

/* Weak, since musl has none. */
extern struct r_debug _r_debug __attribute__((weak));

/* An address from the dynamic section, which glibc's dynamic linker has relocated in place, but for a section that is
 * read-only (the vDSO's); musl's relocates none.  What lies below the library is not relocated.  Of the others it is
 * the one that lies near the section itself: both may, in a program that is larger than its address (under valgrind
 * that is 0x108000), so glibc's are not asked that way. */
static const void *address_in(const struct link_map *map, ElfW(Addr) value)
{
    if (&_r_debug && value >= map->l_addr) return (const void *)value;
    const uintptr_t near = (uintptr_t)map->l_ld, relocated = map->l_addr + value;
    return (const void *)(distance(value, near) <= distance(relocated, near) ? value : relocated);
}

static const void *dynamic_entry(const struct link_map *map, long tag)
{
    for (const ElfW(Dyn) *entry = map->l_ld; entry->d_tag != DT_NULL; entry++)
        if (entry->d_tag == tag) return address_in(map, entry->d_un.d_ptr);
    return NULL;
}

/* By the end of its path, and without a call: the first into libc would be one of the dearest things that happen at the
 * start.  musl's libc is its dynamic linker, which is loaded by its name for one machine. */
static bool is_libc(const char *path)
{
    static const char glibc[] = "/libc.so.6", musl[] = "/ld-musl-";
    const char *at = glibc, *other = musl;
    for (; *path; path++) {
        at = *path == *at ? at + 1 : *path == *glibc ? glibc + 1 : glibc;
        if (*other) other = *path == *other ? other + 1 : *path == *musl ? musl + 1 : musl;
    }
    return at == glibc + sizeof glibc - 1 || !*other;
}

static struct library library_of(const struct link_map *map)
{
    return (struct library){map, dynamic_entry(map, DT_GNU_HASH)};
}

/* The dynamic linker's list of what is loaded, from where the program tells debuggers of it (DT_DEBUG, <link.h>).  In a
 * program that an older dynamic linker got as an argument AT_PHDR is about that, which has no PT_PHDR: then from the
 * dynamic linker's own variable.  To ask dladdr1 for our place in the list takes a tenth of our start. */
static const struct link_map *loaded(void)
{
    const ElfW(Phdr) *headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    const ElfW(Phdr) *end = headers + (headers ? getauxval(AT_PHNUM) : 0);
    ElfW(Addr) base = 0;
    bool known = false;
    for (const ElfW(Phdr) *header = headers; header < end; header++) {
        /* In this order, so that the base is known by then. */
        if (header->p_type == PT_PHDR) {
            base = (ElfW(Addr))headers - header->p_vaddr;
            known = true;
        }
        if (header->p_type != PT_DYNAMIC || !known) continue;
        for (const ElfW(Dyn) *entry = (const ElfW(Dyn) *)(base + header->p_vaddr); entry->d_tag != DT_NULL; entry++)
            if (entry->d_tag == DT_DEBUG && entry->d_un.d_ptr)
                return ((const struct r_debug *)entry->d_un.d_ptr)->r_map;
    }
    return &_r_debug ? _r_debug.r_map : NULL;
}

static const struct link_map *libc_from(const struct link_map *map)
{
    while (map && !is_libc(map->l_name)) map = map->l_next;
    return map;
}

/* Where the search begins: behind our own library.  Where libc comes before us, since we were loaded later, it is all
 * that there is to search. */
static const struct link_map *first_behind_us(void)
{
    const struct link_map *all = loaded();
    const struct link_map *map = all;
    while (map && map->l_ld != _DYNAMIC) map = map->l_next;
    if (map && libc_from(map->l_next)) return map->l_next;
    return libc_from(all);
}

static void list_libraries(void)
{
    int count = 0;
    const struct link_map *map = first_behind_us();
    bool more = map;
    for (; more && count < LIBRARIES; map = map->l_next) {
        libraries[count++] = library_of(map);
        more = !is_libc(map->l_name);
    }
    library_count = count;
    beyond = more ? map : NULL;
}

void lookup_start(void)
{
    /* Two threads that come here at once write the same. */
    if (!atomic_load_explicit(&listed, memory_order_acquire)) list_libraries();
    atomic_store_explicit(&listed, true, memory_order_release);
}

/* ---- symbols -------------------------------------------------------------------------------------------- */

static uint32_t hash_of(const char *name)
{
    uint32_t hash = 5381;
    for (; *name; name++) hash = hash * 33 + (unsigned char)*name;
    return hash;
}

/* Is it a definition of that name that is found without a version: the default one, or the only one? */
static bool is_named(const struct link_map *map, const ElfW(Sym) * symbols, size_t symbol, const char *name)
{
    enum { HIDDEN = 0x8000 };
    const char *strings = dynamic_entry(map, DT_STRTAB);
    if (symbols[symbol].st_shndx == SHN_UNDEF || strcmp(strings + symbols[symbol].st_name, name) != 0) return false;
    const ElfW(Versym) *versions = dynamic_entry(map, DT_VERSYM);
    return !versions || !(versions[symbol] & HIDDEN);
}

/* In a library of the older kind: DT_HASH's second number is that of the symbols. */
static const ElfW(Sym) * find_by_reading_all(const struct link_map *map, const char *name)
{
    const Elf_Symndx *table = dynamic_entry(map, DT_HASH);
    const ElfW(Sym) *symbols = dynamic_entry(map, DT_SYMTAB);
    for (size_t symbol = 1; table && symbol < table[1]; symbol++)
        if (is_named(map, symbols, symbol, name)) return &symbols[symbol];
    return NULL;
}

static const ElfW(Sym) * find_in(const struct library *library, const char *name, uint32_t hash)
{
    enum { WORD_BITS = 8 * sizeof(ElfW(Addr)) };
    const struct hash_table *table = library->table;
    if (!table) return find_by_reading_all(library->map, name);
    if (table->buckets == 0) return NULL;
    ElfW(Addr) word = table->filter[hash / WORD_BITS & (table->filter_words - 1)];
    if (!(word >> hash % WORD_BITS & word >> (hash >> table->filter_shift) % WORD_BITS & 1)) return NULL;
    const uint32_t *buckets = (const uint32_t *)(table->filter + table->filter_words);
    const uint32_t *chains = buckets + table->buckets;
    uint32_t symbol = buckets[hash % table->buckets];
    if (symbol == 0) return NULL;
    const ElfW(Sym) *symbols = dynamic_entry(library->map, DT_SYMTAB);
    for (;; symbol++) {
        uint32_t chain = chains[symbol - table->first_symbol];
        if ((chain | 1) == (hash | 1) && is_named(library->map, symbols, symbol, name)) return &symbols[symbol];
        if (chain & 1) return NULL;
    }
}

static void *address_of(const struct link_map *map, const ElfW(Sym) * symbol)
{
    char *address = (char *)map->l_addr + symbol->st_value;
    /* One that another preload chooses when it is asked for; x86 passes nothing, and ignores what is passed. */
    if (ELF32_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC)
        return ((void *(*)(unsigned long))(void *)address)(getauxval(AT_HWCAP));
    return address;
}

/* In the library and those behind it, but for our own. */
static void *find_from(const struct link_map *map, const char *name, uint32_t hash)
{
    for (; map; map = map->l_next) {
        if (map->l_ld == _DYNAMIC) continue;
        const struct library library = library_of(map);
        const ElfW(Sym) *symbol = find_in(&library, name, hash);
        if (symbol) return address_of(map, symbol);
    }
    return NULL;
}

void *lookup_next(const char *name)
{
    lookup_start();
    uint32_t hash = hash_of(name);
    for (int i = 0; i < library_count; i++) {
        const ElfW(Sym) *symbol = find_in(&libraries[i], name, hash);
        if (symbol) return address_of(libraries[i].map, symbol);
    }
    return find_from(beyond, name, hash);
}

void *lookup_anywhere(const char *name)
{
    return find_from(loaded(), name, hash_of(name));
}

bool lookup_is_glibc(void)
{
    return lookup_next("gnu_get_libc_version");
}
