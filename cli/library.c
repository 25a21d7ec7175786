/* library.c: where libimglock.so is, and whether the dynamic loader will load it.
 *
 * ld.so fails open: a library that it cannot preload costs one line on standard error, and the program runs without
 * locks, with exit status 0.  So the library is loaded into this program first, with dlopen(3): by the same loader,
 * from the same place, with all its dependencies and symbol versions, which is where preloading fails.  What dlopen
 * does not show is looked at otherwise: the characters at which LD_PRELOAD is split, and everything about the command,
 * see target.c.
 *
 * Measured, medians of 1,000 interleaved: dlopen costs 0.12 ms; executing this program once more with the library
 * preloaded 0.86 ms, and the loader ends that one with a status of its own where a dependency is missing; a forked
 * check 0.97 ms and a process. */
#include "library.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "elf_own.h"
#include "other_size.h"

static const char library_name[] = "libimglock.so";

/* ---- places ------------------------------------------------------------------------------------------------- */

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

const char *library_own_program(void)
{
    static char path[PATH_MAX];
    if (path[0]) return path;
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length > 0) {
        path[length] = '\0';
        return path;
    }
    /* Without /proc, in a chroot: what was given to execve. */
    const char *given = (const char *)getauxval(AT_EXECFN);
    if (!given || !realpath(given, path)) path[0] = '\0';
    return path;
}

/* The directory that this program lies in; "" when that cannot be told. */
static const char *own_directory(void)
{
    static char directory[PATH_MAX];
    if (directory[0]) return directory;
    strcpy(directory, library_own_program());
    char *slash = strrchr(directory, '/');
    if (slash) *slash = '\0';
    return directory;
}

/* Built but not installed: the library lies beside the program. */
static bool build_library(char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s/%s", own_directory(), library_name) < PATH_MAX && exists(path);
}

/* PREFIX/bin -> PREFIX, so that an installed tree can be moved; else the prefix it was built for. */
static void prefix_path(const char *below, char path[PATH_MAX])
{
    char prefix[PATH_MAX];
    if (*below == '/') {
        snprintf(path, PATH_MAX, "%s", below);
        return;
    }
    strcpy(prefix, own_directory());
    char *slash = strrchr(prefix, '/');
    if (slash) {
        *slash = '\0';
        if (snprintf(path, PATH_MAX, "%s/%s", prefix, below) < PATH_MAX && exists(path)) return;
    }
    snprintf(path, PATH_MAX, "%s/%s", IMGLOCK_PREFIX, below);
}

const char *library_preset_directory(void)
{
    static char path[PATH_MAX];
    if (path[0]) return path;
    if (build_library(path)) {
        if (snprintf(path, sizeof path, "%s/../config", own_directory()) < (int)sizeof path && exists(path)) {
            char resolved[PATH_MAX];
            if (realpath(path, resolved)) strcpy(path, resolved);
            return path;
        }
    }
    prefix_path(IMGLOCK_PRESETS_BELOW, path);
    return path;
}

/* IMGLOCK_LIBRARY, made absolute: the program may change its directory before it starts another.  Symbolic links in it
 * stay, they may be there to avoid a blank. */
static bool given_library(const char *given, char path[PATH_MAX])
{
    char directory[PATH_MAX];
    int length;
    if (given[0] == '/')
        length = snprintf(path, PATH_MAX, "%s", given);
    else if (getcwd(directory, sizeof directory))
        length = snprintf(path, PATH_MAX, "%s/%s", directory, given);
    else
        return false;
    if (length >= PATH_MAX) return false;
    return given[0] == '/' || setenv("IMGLOCK_LIBRARY", path, 1) == 0;
}

const char *library_path(void)
{
    static char path[PATH_MAX];
    if (path[0]) return path;
    const char *given = getenv("IMGLOCK_LIBRARY");
    if (given && *given) {
        if (!given_library(given, path)) {
            complain("IMGLOCK_LIBRARY=%s cannot be made an absolute path", given);
            return NULL;
        }
    } else if (!*own_directory()) {
        complain("cannot tell where this program lies, without /proc; IMGLOCK_LIBRARY names the library");
        return NULL;
    } else if (!build_library(path)) {
        prefix_path(IMGLOCK_LIBRARY_BELOW, path);
    }
    if (strpbrk(path, " :")) {
        complain("%s: the dynamic loader splits LD_PRELOAD at blanks and colons, so a library with one in its path "
                 "cannot be preloaded; a symbolic link without, named by IMGLOCK_LIBRARY, can",
                 path);
        path[0] = '\0';
        return NULL;
    }
    return path;
}

/* ---- is it fit ---------------------------------------------------------------------------------------------- */

/* Does the file have all that its segments are mapped from?  Else the loader is killed by SIGBUS. */
static bool whole(int descriptor, const ElfW(Ehdr) * header, off_t size)
{
    for (unsigned i = 0; i < header->e_phnum; i++) {
        ElfW(Phdr) segment;
        off_t at = (off_t)(header->e_phoff + i * sizeof segment);
        if (pread(descriptor, &segment, sizeof segment, at) != (ssize_t)sizeof segment) return false;
        if (segment.p_type == PT_LOAD && segment.p_offset + segment.p_filesz > (ElfW(Off))size) return false;
    }
    return true;
}

/* What the file shows.  The loader's own words for these are less clear, and it would wait for a FIFO's writer. */
static bool fit_file(const char *library, char *reason, size_t size)
{
    ElfW(Ehdr) header;
    struct stat status;
    reason[0] = '\0';
    int descriptor = open(library, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        snprintf(reason, size, "cannot read it: %m");
        return false;
    }
    const ElfW(Ehdr) *own = own_elf_header();
    if (fstat(descriptor, &status) < 0 || !S_ISREG(status.st_mode))
        snprintf(reason, size, "it is no regular file");
    else if (pread(descriptor, &header, sizeof header, 0) != (ssize_t)sizeof header ||
             memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        snprintf(reason, size, "it is no ELF file");
    else if (header.e_ident[EI_CLASS] != own->e_ident[EI_CLASS] || header.e_ident[EI_DATA] != own->e_ident[EI_DATA] ||
             header.e_machine != own->e_machine)
        snprintf(reason, size, "it is for another architecture than this program");
    else if (header.e_type != ET_DYN)
        snprintf(reason, size, "it is no shared library");
    else if (!whole(descriptor, &header, status.st_size))
        snprintf(reason, size, "it is cut off");
    else {
        /* On a file system that is mounted noexec the loader's mmap fails. */
        void *mapped = mmap(NULL, sizeof header, PROT_READ | PROT_EXEC, MAP_PRIVATE, descriptor, 0);
        if (mapped == MAP_FAILED)
            snprintf(reason, size, errno == EPERM ? "its file system is mounted noexec" : "it cannot be mapped: %m");
        else
            munmap(mapped, sizeof header);
    }
    close(descriptor);
    return !reason[0];
}

bool library_loads(const char *library, char *reason, size_t size)
{
    if (!fit_file(library, reason, size)) return false;
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *said = dlerror();
        snprintf(reason, size, "%s", said ? said : "the dynamic loader does not say why");
        return false;
    }
    /* Its own wrapper, not the function of the libc that it depends on. */
    struct link_map *map;
    Dl_info where;
    void *wrapper = dlsym(handle, "closefrom");
    if (wrapper && dladdr(wrapper, &where) && dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 &&
        where.dli_fbase == (void *)map->l_addr)
        return true;
    snprintf(reason, size, "it is not imglock's: it has no closefrom of its own");
    return false;
}

static bool same_file(const char *path, const struct stat *file)
{
    struct stat status;
    return stat(path, &status) == 0 && status.st_dev == file->st_dev && status.st_ino == file->st_ino;
}

/* ---- LD_PRELOAD --------------------------------------------------------------------------------------------- */

static bool is_imglock_library(const char *entry)
{
    const char *slash = strrchr(entry, '/');
    return strcmp(slash ? slash + 1 : entry, library_name) == 0;
}

void library_preload(const char *library, bool for_both_sizes)
{
    const char *before = getenv("LD_PRELOAD");
    struct stat status = {0};
    bool known = stat(library, &status) == 0;
    char for_both[PATH_MAX];
    if (for_both_sizes && other_size_name(library, for_both)) library = for_both;
    size_t size = strlen(library) + (before ? strlen(before) : 0) + 2;
    char *list = malloc(size);
    char *entries = strdup(before ? before : "");
    if (!list || !entries) {
        complain("there is no memory for LD_PRELOAD");
        exit(STATUS_FAILED);
    }
    /* Ours first: among several libraries that wrap one function, the first is the one that the program calls.  An
     * entry that is ours under another name goes away, as does the library of another imglock: two would lock each
     * other out. */
    char *end = stpcpy(list, library);
    for (char *rest = entries, *entry; (entry = strsep(&rest, " :"));) {
        if (!*entry) continue;
        if (known && strchr(entry, '/') && same_file(entry, &status)) continue;
        if (is_imglock_library(entry)) continue;
        *end++ = ':';
        end = stpcpy(end, entry);
    }
    int result = setenv("LD_PRELOAD", list, 1);
    free(entries);
    free(list);
    if (result == 0) return;
    complain("there is no memory for LD_PRELOAD");
    exit(STATUS_FAILED);
}
