#include "other_size.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elf_own.h"

static const char narrow_loader[] = "/lib/ld-linux.so.2";

/* What $LIB stands for, in slashes: the directory that the loader itself lies in, "/lib/x86_64-linux-gnu/", "/lib64/",
 * "/lib32/".  A /usr before it is no part of it. */
static bool loader_directory(const char *loader, char directory[PATH_MAX])
{
    char path[PATH_MAX];
    if (!realpath(loader, path)) return false;
    strrchr(path, '/')[1] = '\0';
    strcpy(directory, strncmp(path, "/usr/", 5) == 0 ? path + 4 : path);
    return true;
}

static bool read_header(int descriptor, Elf32_Ehdr *header)
{
    return pread(descriptor, header, sizeof *header, 0) == (ssize_t)sizeof *header &&
           memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == ELFCLASS32 &&
           header->e_ident[EI_DATA] == ELFDATA2LSB && header->e_machine == EM_386;
}

static bool is_other_library(const char *path)
{
    Elf32_Ehdr header;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool is = descriptor >= 0 && read_header(descriptor, &header) && header.e_type == ET_DYN;
    if (descriptor >= 0) close(descriptor);
    return is;
}

/* The library's path with another directory in it.  False: it lies in none of that name. */
static bool replace(const char *library, const char *from, const char *to, char path[PATH_MAX])
{
    const char *at = strstr(library, from);
    return at && snprintf(path, PATH_MAX, "%.*s%s%s", (int)(at - library), library, to, at + strlen(from)) < PATH_MAX;
}

/* *wide: the directory of programs of this size. */
static bool other_library_is_there(const char *library, char wide[PATH_MAX])
{
#ifdef __x86_64__
    char narrow[PATH_MAX], other[PATH_MAX];
    return loader_directory(own_dynamic_loader(), wide) && loader_directory(narrow_loader, narrow) &&
           replace(library, wide, narrow, other) && is_other_library(other);
#else
    return false;
#endif
}

bool other_size_name(const char *library, char name[PATH_MAX])
{
    char wide[PATH_MAX];
    if (!other_library_is_there(library, wide) || !replace(library, wide, "/$LIB/", name)) return false;
    void *handle = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
    if (handle) dlclose(handle);
    return handle;
}

bool other_size_serves(const char *library, int descriptor)
{
    char wide[PATH_MAX];
    Elf32_Ehdr header;
    Elf32_Phdr segment;
    bool dynamic = false;
    if (!read_header(descriptor, &header) || header.e_phentsize != sizeof segment) return false;
    for (unsigned i = 0; i < header.e_phnum && !dynamic; i++)
        dynamic = pread(descriptor, &segment, sizeof segment, (off_t)(header.e_phoff + i * sizeof segment)) ==
                      (ssize_t)sizeof segment &&
                  segment.p_type == PT_INTERP;
    return dynamic && other_library_is_there(library, wide);
}
