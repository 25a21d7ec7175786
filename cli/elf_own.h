/* elf_own.h: this very program's ELF header, and what it says.  What is to be preloaded with the same library has to
 * agree with it in architecture and in dynamic loader. */
#ifndef IMGLOCK_ELF_OWN_H
#define IMGLOCK_ELF_OWN_H

#include <link.h>

/* The linker's name for the start of the file in memory. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static inline const ElfW(Ehdr) * own_elf_header(void)
{
    return &__ehdr_start;
}

/* The dynamic loader that this program was started by, its PT_INTERP. */
static inline const char *own_dynamic_loader(void)
{
    const char *start = (const char *)&__ehdr_start;
    const ElfW(Phdr) *segment = (const ElfW(Phdr) *)(start + __ehdr_start.e_phoff);
    for (unsigned i = 0; i < __ehdr_start.e_phnum; i++)
        if (segment[i].p_type == PT_INTERP) return start + segment[i].p_offset;
    return "";
}

#endif
