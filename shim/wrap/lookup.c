#include "lookup.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

#include "real.h"

/* A DT_GNU_HASH section: a Bloom filter, and chains of hashes that end in an odd one (Ali Bahrami, "GNU Hash ELF
 * Sections"). */
struct hash_table {
    uint32_t buckets;
    uint32_t first_symbol;
    uint32_t filter_words;
    uint32_t filter_shift;
    Elf64_Addr filter[];
};

struct library {
    const struct link_map *map;
    const struct hash_table *table;
};

/* The libraries behind ours up to libc, all of which stay loaded as long as the process lives.  Bigger programs than
 * that are left to dlsym. */
enum { LIBRARIES = 64 };
AT_START static struct library libraries[LIBRARIES];
enum { NOT_LISTED, LISTED, LEFT_TO_DLSYM };
AT_START static _Atomic int state = NOT_LISTED;
AT_START static int library_count;

/* An address from the dynamic section, which the dynamic linker has relocated in place, but for a section that is
 * read-only (the vDSO's).  One below the library's own start has not been.  A library that could not be mapped as high
 * as it was linked for has a negative l_addr, and relocated addresses are below it. */
static const void *address_in(const struct link_map *map, Elf64_Addr value)
{
    return (const void *)((Elf64_Sxword)map->l_addr > 0 && value < map->l_addr ? map->l_addr + value : value);
}

static const void *dynamic_entry(const struct link_map *map, Elf64_Sxword tag)
{
    for (const Elf64_Dyn *entry = map->l_ld; entry->d_tag != DT_NULL; entry++)
        if (entry->d_tag == tag) return address_in(map, entry->d_un.d_ptr);
    return NULL;
}

/* By the end of its path, and without a call: the first into libc would be one of the dearest things that happen at the
 * start. */
static bool is_libc(const char *path)
{
    static const char name[] = "/libc.so.6";
    const char *at = name;
    for (; *path; path++) at = *path == *at ? at + 1 : *path == *name ? name + 1 : name;
    return at == name + sizeof name - 1;
}

/* The dynamic linker's list of what is loaded, from where the program tells debuggers of it (DT_DEBUG, <link.h>); NULL
 * in a program that an older dynamic linker got as an argument: AT_PHDR is about that then, which has no PT_PHDR.  To
 * ask dladdr1 for our place in the list takes a tenth of our start. */
static const struct link_map *loaded(void)
{
    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    const Elf64_Phdr *end = headers + (headers ? getauxval(AT_PHNUM) : 0);
    Elf64_Addr base = 0;
    bool known = false;
    for (const Elf64_Phdr *header = headers; header < end; header++) {
        /* In this order, so that the base is known by then. */
        if (header->p_type == PT_PHDR) {
            base = (Elf64_Addr)headers - header->p_vaddr;
            known = true;
        }
        if (header->p_type != PT_DYNAMIC || !known) continue;
        for (const Elf64_Dyn *entry = (const Elf64_Dyn *)(base + header->p_vaddr); entry->d_tag != DT_NULL; entry++)
            if (entry->d_tag == DT_DEBUG && entry->d_un.d_ptr)
                return ((const struct r_debug *)entry->d_un.d_ptr)->r_map;
    }
    return NULL;
}

/* How many libraries there are, or -1: no libc among them, since we were loaded later than it, or one that has another
 * kind of hash table. */
static int list_libraries(void)
{
    const struct link_map *map = loaded();
    int count = 0;
    while (map && map->l_ld != _DYNAMIC) map = map->l_next;
    if (!map) return -1;
    while ((map = map->l_next) && count < LIBRARIES) {
        const struct hash_table *table = dynamic_entry(map, DT_GNU_HASH);
        if (!table) return -1;
        libraries[count++] = (struct library){map, table};
        if (is_libc(map->l_name)) return count;
    }
    return -1;
}

bool lookup_start(void)
{
    int known = atomic_load_explicit(&state, memory_order_acquire);
    if (known == NOT_LISTED) {
        /* Two threads that come here at once write the same. */
        library_count = list_libraries();
        known = library_count < 0 ? LEFT_TO_DLSYM : LISTED;
        atomic_store_explicit(&state, known, memory_order_release);
    }
    return known == LISTED;
}

static uint32_t hash_of(const char *name)
{
    uint32_t hash = 5381;
    for (; *name; name++) hash = hash * 33 + (unsigned char)*name;
    return hash;
}

/* Is it a definition that is found without a version: the default one, or the only one? */
static bool is_default(const struct link_map *map, uint32_t symbol)
{
    enum { HIDDEN = 0x8000 };
    const Elf64_Versym *versions = dynamic_entry(map, DT_VERSYM);
    return !versions || !(versions[symbol] & HIDDEN);
}

static const Elf64_Sym *find_in(const struct library *library, const char *name, uint32_t hash)
{
    enum { WORD_BITS = 8 * sizeof(Elf64_Addr) };
    const struct hash_table *table = library->table;
    if (table->buckets == 0) return NULL;
    Elf64_Addr word = table->filter[hash / WORD_BITS & (table->filter_words - 1)];
    if (!(word >> hash % WORD_BITS & word >> (hash >> table->filter_shift) % WORD_BITS & 1)) return NULL;
    const uint32_t *buckets = (const uint32_t *)(table->filter + table->filter_words);
    const uint32_t *chains = buckets + table->buckets;
    uint32_t symbol = buckets[hash % table->buckets];
    if (symbol == 0) return NULL;
    const Elf64_Sym *symbols = dynamic_entry(library->map, DT_SYMTAB);
    const char *strings = dynamic_entry(library->map, DT_STRTAB);
    for (;; symbol++) {
        uint32_t chain = chains[symbol - table->first_symbol];
        if ((chain | 1) == (hash | 1) && strcmp(strings + symbols[symbol].st_name, name) == 0 &&
            symbols[symbol].st_shndx != SHN_UNDEF && is_default(library->map, symbol))
            return &symbols[symbol];
        if (chain & 1) return NULL;
    }
}

static void *ask_dlsym(const char *name)
{
    int saved = errno;
    void *address = dlsym(RTLD_NEXT, name);
    if (!address) dlerror();
    errno = saved;
    return address;
}

void *lookup_next(const char *name)
{
    if (!lookup_start()) return ask_dlsym(name);
    uint32_t hash = hash_of(name);
    for (int i = 0; i < library_count; i++) {
        const Elf64_Sym *symbol = find_in(&libraries[i], name, hash);
        if (!symbol) continue;
        /* One that another preload chooses when it is asked for (STT_GNU_IFUNC). */
        if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC) return ask_dlsym(name);
        return (char *)libraries[i].map->l_addr + symbol->st_value;
    }
    return NULL;
}
