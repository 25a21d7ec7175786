/* unwatched.c: which programs are not watched.
 *
 * The dynamic loader does not load the library into a program that is static, changes its user, or is for another
 * loader or machine; nor where LD_PRELOAD went from the environment.  A program in Go makes its system calls itself. An
 * audit that does not say so looks like one that found nothing.
 *
 * Only with an audit is anything of this done: an open, an fstat and two preads for each exec, against the half
 * millisecond that the exec takes. */
#include "unwatched.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "../audit.h"
#include "../go_note.h"
#include "../memo.h"
#include "../policy.h"
#include "../realpath.h"
#include "../sys.h"
#include "../text.h"

/* The kernel's BINPRM_BUF_SIZE, and the depth of interpreters in exec_binprm(). */
enum { HEAD_SIZE = 256, SCRIPTS_DEEP = 5, SEGMENTS = 64 };

/* What is looked at, too large for the stack of a signal handler. */
struct look {
    char head[HEAD_SIZE + 1];
    ElfW(Phdr) segments[SEGMENTS];
    char interpreter[PATH_MAX];
    char path[PATH_MAX];
    char library[PATH_MAX];
    char notes[1024];
    const char *why;
};

/* Programs that have a line already: a loop starts one of them a thousand times, each time in a process of its own.  So
 * this is memory that all processes of an audit share, or, where imglock audit does not run it, a process and its
 * children.  A program that finds no place has a line each time. */
enum { TOLD = AUDIT_TOLD_SIZE / sizeof(uint64_t) - 1 };
static _Atomic(uint64_t *) told;
static char told_path[48]; /* where the memory of the audit is; empty: nowhere */

/* The library came by LD_PRELOAD, so who loses that loses the library; not where /etc/ld.so.preload has it. */
static bool by_environment;
static char loader[64]; /* our own dynamic loader; empty: not known */

extern char **environ;

/* ---- the environment ---------------------------------------------------------------------------------------- */

/* What LD_PRELOAD says of our library, and how long it is; NULL: nothing. */
static const char *find_library(char *const *environment, size_t *length)
{
    while (environment && *environment && strncmp(*environment, "LD_PRELOAD=", 11) != 0) environment++;
    if (!environment || !*environment) return NULL;
    const char *start = *environment + 11, *entry = strstr(start, "libimglock");
    while (entry && entry > start && !strchr(": ", entry[-1])) entry--;
    if (entry) *length = strcspn(entry, ": ");
    return entry;
}

static bool names_library(char *const *environment)
{
    size_t length;
    return find_library(environment, &length) != NULL;
}

/* May the program's array be read?  It may be none: then the call itself says EFAULT. */
static bool can_be_read(char *const environment[])
{
    return !environment || environment == environ ||
           sys_call(SYS_rt_sigprocmask, -1, (long)((uintptr_t)environment & ~(uintptr_t)7), 0, 8, 0, 0) == -EINVAL;
}

/* ---- the program -------------------------------------------------------------------------------------------- */

static bool is_set_user_id(int descriptor, const struct stat *status)
{
    long real_user = sys_call(SYS_getuid, 0, 0, 0, 0, 0, 0), real_group = sys_call(SYS_getgid, 0, 0, 0, 0, 0, 0);
    if (status->st_mode & S_ISUID && status->st_uid != (uid_t)real_user) return true;
    if ((status->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && status->st_gid != (gid_t)real_group)
        return true;
    /* File capabilities; root has them all already. */
    char capabilities[32];
    return real_user != 0 && sys_call(SYS_fgetxattr, descriptor, (long)"security.capability", (long)capabilities,
                                      sizeof capabilities, 0, 0) > 0;
}

static bool reads(int descriptor, void *bytes, size_t size, size_t offset)
{
    return sys_pread(descriptor, bytes, size, (off_t)offset) == (ssize_t)size;
}

/* musl's loader loads a library that needs libc alone, which one with a shared libcrypto does not. */
static bool musl_loads_us(void)
{
    int needed = 0;
    for (const ElfW(Dyn) *entry = _DYNAMIC; entry->d_tag != DT_NULL; entry++) needed += entry->d_tag == DT_NEEDED;
    return needed == 1;
}

static bool is_loaded_by(const char *interpreter)
{
    if (!*loader || strcmp(interpreter, loader) == 0) return true;
    return strstr(interpreter, "/ld-musl-") && musl_loads_us();
}

/* ---- a program of the other size ---------------------------------------------------------------------------- */

#if __SIZEOF_POINTER__ == 8
typedef Elf32_Ehdr other_header;
typedef Elf32_Phdr other_segment;
#else
typedef Elf64_Ehdr other_header;
typedef Elf64_Phdr other_segment;
#endif

static bool is_for_same_machine(const struct look *look, const char *library)
{
    other_header program, header;
    memcpy(&program, look->head, sizeof program);
    int descriptor = sys_openat(AT_FDCWD, library, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (descriptor < 0) return false;
    bool is = reads(descriptor, &header, sizeof header, 0) &&
              memcmp(header.e_ident, program.e_ident, EI_DATA + 1) == 0 && header.e_machine == program.e_machine;
    sys_close(descriptor);
    return is;
}

/* The real path of the program's dynamic loader into look->interpreter.  False: it has none, or none that is there. */
static bool find_other_loader(struct look *look, int descriptor)
{
    other_header header;
    other_segment segment = {0};
    bool deleted, found = false;
    memcpy(&header, look->head, sizeof header);
    for (unsigned i = 0; i < header.e_phnum && i < SEGMENTS && !found; i++)
        found = reads(descriptor, &segment, sizeof segment, (size_t)(header.e_phoff + i * sizeof segment)) &&
                segment.p_type == PT_INTERP;
    size_t size = (size_t)segment.p_filesz;
    if (!found || size >= sizeof look->interpreter ||
        !reads(descriptor, look->interpreter, size, (size_t)segment.p_offset))
        return false;
    look->interpreter[size] = '\0';
    int opened = sys_openat(AT_FDCWD, look->interpreter, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (opened < 0) return false;
    found = realpath_of_descriptor(opened, look->interpreter, &deleted) > 0;
    sys_close(opened);
    return found;
}

/* 32 bits beside 64: the dynamic loader puts the directory that it lies in itself in place of $LIB, without the /usr
 * before it (ld.so(8)).  Lies a library for that size there? */
static bool is_served(struct look *look, int descriptor, char *const environment[])
{
    static const char variable[] = "$LIB";
    other_header header;
    size_t length = 0;
    const char *entry = find_library(environment, &length);
    const char *at = entry ? strstr(entry, variable) : NULL;
    memcpy(&header, look->head, sizeof header);
    if (!at || at >= entry + length || header.e_phentsize != sizeof(other_segment)) return false;
    if (header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS32 : ELFCLASS64)) return false;
    if (!find_other_loader(look, descriptor)) return false;
    struct text library = text_in(look->library, sizeof look->library);
    const char *directory = look->interpreter + (strncmp(look->interpreter, "/usr/", 5) == 0 ? 5 : 1);
    size_t end = strlen(directory);
    while (end > 0 && directory[end - 1] != '/') end--;
    if (end == 0) return false;
    text_append_bytes(&library, entry, (size_t)(at - entry));
    text_append_bytes(&library, directory, end - 1);
    at += sizeof variable - 1;
    text_append_bytes(&library, at, (size_t)(entry + length - at));
    return is_for_same_machine(look, look->library);
}

/* ---- a program ---------------------------------------------------------------------------------------------- */

/* Why the library does not get into this ELF program; NULL: it does. */
static const char *why_elf(struct look *look, int descriptor, char *const environment[])
{
    ElfW(Ehdr) header;
    bool dynamic = false, go = false;
    memcpy(&header, look->head, sizeof header);
    if (header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) ||
#if defined(__x86_64__)
        header.e_machine != EM_X86_64 ||
#elif defined(__aarch64__)
        header.e_machine != EM_AARCH64 ||
#endif
        header.e_phentsize != sizeof look->segments[0])
        return is_served(look, descriptor, environment) ? NULL : "foreign";
    size_t count = header.e_phnum < SEGMENTS ? header.e_phnum : SEGMENTS;
    if (!reads(descriptor, look->segments, count * sizeof look->segments[0], header.e_phoff)) return NULL;
    for (size_t i = 0; i < count; i++) {
        const ElfW(Phdr) *segment = &look->segments[i];
        size_t size = segment->p_filesz;
        if (segment->p_type == PT_INTERP && !dynamic) {
            dynamic = true;
            if (size >= sizeof look->interpreter || !reads(descriptor, look->interpreter, size, segment->p_offset))
                return NULL;
            look->interpreter[size] = '\0';
            if (!is_loaded_by(look->interpreter)) return "foreign";
        } else if (segment->p_type == PT_NOTE) {
            if (size > sizeof look->notes) size = sizeof look->notes;
            go |= reads(descriptor, look->notes, size, segment->p_offset) && go_note_is_in(look->notes, size);
        }
    }
    return go ? "Go" : dynamic ? NULL : "static";
}

/* Few functions of libc: each that no other room uses is looked up at every program's start. */
static void copy_path(char path[PATH_MAX], const char *from)
{
    size_t length = strlen(from);
    if (length >= PATH_MAX) length = PATH_MAX - 1;
    memcpy(path, from, length);
    path[length] = '\0';
}

/* The interpreter in a script's first line, in place.  NULL: none. */
static char *script_interpreter(char *head)
{
    char *name = head + 2;
    while (*name == ' ' || *name == '\t') name++;
    name[strcspn(name, " \t\r\n")] = '\0';
    return *name ? name : NULL;
}

/* Opens the interpreter of a script in place of it, as often as that is one. */
static int behind_scripts(struct look *look, int descriptor)
{
    for (int scripts = 0; descriptor >= 0; scripts++) {
        ssize_t length = sys_pread(descriptor, look->head, HEAD_SIZE, 0);
        look->head[length > 0 ? length : 0] = '\0';
        if (length < 3 || memcmp(look->head, "#!", 2) != 0) break;
        char *interpreter = script_interpreter(look->head);
        sys_close(descriptor);
        if (!interpreter || scripts == SCRIPTS_DEEP) return -ENOEXEC;
        copy_path(look->path, interpreter);
        descriptor = sys_openat(AT_FDCWD, look->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    }
    return descriptor;
}

static uint64_t *map_shared(int descriptor)
{
    const int flags = MAP_SHARED | (descriptor < 0 ? MAP_ANONYMOUS : 0);
    long address = sys_call(SYS_mmap, 0, AUDIT_TOLD_SIZE, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    return address < 0 && address > -4096 ? NULL : (uint64_t *)address;
}

/* The memory that the audit's processes share, mapped when it is needed first, which is seldom. */
static uint64_t *shared_memory(void)
{
    uint64_t *memory = atomic_load_explicit(&told, memory_order_acquire);
    struct stat status;
    if (memory || !*told_path) return memory;
    int descriptor = sys_openat(AT_FDCWD, told_path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (descriptor < 0) return NULL;
    if (sys_fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == AUDIT_TOLD_SIZE)
        memory = map_shared(descriptor);
    sys_close(descriptor);
    /* The process may be over, and its number another's. */
    if (memory && memory[0] != AUDIT_TOLD_MAGIC) return NULL;
    atomic_store_explicit(&told, memory, memory_order_release);
    return memory;
}

/* Was there a line of this file for this reason?  If not, there is from now on. */
static bool was_told(const struct stat *status, const char *why)
{
    uint64_t *memory = shared_memory();
    uint64_t key = memo_text(memo_file(status), why);
    if (key == 0) key = 1;
    for (unsigned i = 0; memory && i < TOLD; i++) {
        uint64_t expected = 0, *place = &memory[1 + (key + i) % TOLD];
        if (__atomic_compare_exchange_n(place, &expected, key, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return false;
        if (expected == key) return true;
    }
    return false;
}

/* The descriptor is open on what look->path names, and is closed here. */
static void look_at(struct look *look, int descriptor, char *const environment[])
{
    struct stat status;
    const struct settings *settings = settings_get();
    descriptor = behind_scripts(look, descriptor);
    if (descriptor < 0) return;
    if (memcmp(look->head, ELFMAG, SELFMAG) == 0 && sys_fstat(descriptor, &status) == 0) {
        const bool readable = can_be_read(environment);
        const char *why = why_elf(look, descriptor, readable ? environment : NULL);
        if (!why && is_set_user_id(descriptor, &status)) why = "set-user-ID";
        if (!why && by_environment && readable && !names_library(environment)) why = "environment";
        if (why && !was_told(&status, why)) audit_unwatched(settings, look->path, why);
    }
    sys_close(descriptor);
}

static struct look *begin(void)
{
    return __builtin_expect(!settings_get()->audit, 1) ? NULL : sys_mmap(sizeof(struct look));
}

static bool is_executable(int descriptor)
{
    struct stat status;
    return sys_fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_mode & 0111;
}

/* False: there is no such file, or none to be executed, and execvp(3) goes on to the next directory. */
static bool try_path(struct look *look, int directory, const char *path, char *const environment[])
{
    int descriptor = sys_openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (descriptor < 0) return false;
    if (!is_executable(descriptor)) {
        sys_close(descriptor);
        return false;
    }
    if (path != look->path) copy_path(look->path, path);
    look_at(look, descriptor, environment);
    return true;
}

void unwatched_path(int directory, const char *path, char *const environment[])
{
    struct look *look = begin();
    if (!look) return;
    try_path(look, directory, path, environment);
    sys_munmap(look, sizeof *look);
}

void unwatched_descriptor(int descriptor, char *const environment[])
{
    char link[32];
    struct look *look = begin();
    if (!look) return;
    struct text text = text_in(link, sizeof link);
    text_append(&text, "/proc/self/fd/");
    text_append_number(&text, descriptor);
    if (sys_readlinkat(AT_FDCWD, link, look->path, sizeof look->path - 1) > 0)
        try_path(look, AT_FDCWD, look->path, environment);
    sys_munmap(look, sizeof *look);
}

void unwatched_at(int directory, const char *path, char *const environment[], int flags)
{
    /* An empty path and AT_EMPTY_PATH: the descriptor itself. */
    if (flags & AT_EMPTY_PATH)
        unwatched_descriptor(directory, environment);
    else
        unwatched_path(directory, path, environment);
}

void unwatched_command(const char *file, char *const environment[])
{
    struct look *look = begin();
    if (!look) return;
    const char *search = NULL;
    for (char *const *variable = environ; variable && *variable; variable++)
        if (strncmp(*variable, "PATH=", 5) == 0) search = *variable + 5;
    if (!search) search = "/bin:/usr/bin";
    size_t name = strlen(file);
    bool found = name == 0 || strchr(file, '/') != NULL;
    if (strchr(file, '/')) try_path(look, AT_FDCWD, file, environment);
    while (!found) {
        size_t length = strcspn(search, ":");
        if (length + name + 2 < sizeof look->path) {
            struct text text = text_in(look->path, sizeof look->path);
            text_append_bytes(&text, length ? search : ".", length ? length : 1);
            text_append(&text, "/");
            text_append_bytes(&text, file, name);
            found = try_path(look, AT_FDCWD, look->path, environment);
        }
        if (!search[length]) break;
        search += length + 1;
    }
    sys_munmap(look, sizeof *look);
}

/* ---- at the start ------------------------------------------------------------------------------------------- */

/* Our own dynamic loader, as the program names it. */
static void find_loader(void)
{
    const ElfW(Phdr) *headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    size_t count = headers ? getauxval(AT_PHNUM) : 0;
    uintptr_t moved = 0; /* by so much the program lies elsewhere than it was linked for */
    for (size_t i = 0; i < count; i++) {
        if (headers[i].p_type == PT_PHDR) moved = (uintptr_t)headers - headers[i].p_vaddr;
        if (headers[i].p_type != PT_INTERP) continue;
        const char *name = (const char *)(moved + headers[i].p_vaddr);
        size_t size = strlen(name) + 1;
        if (size <= sizeof loader) memcpy(loader, name, size);
    }
}

void unwatched_start(void)
{
    if (__builtin_expect(!settings_get()->audit, 1)) return;
    by_environment = names_library(environ);
    find_loader();
    for (char *const *variable = environ; variable && *variable; variable++) {
        const char *path = *variable + sizeof AUDIT_TOLD_VARIABLE;
        if (strncmp(*variable, AUDIT_TOLD_VARIABLE "=", sizeof AUDIT_TOLD_VARIABLE) != 0) continue;
        size_t size = strlen(path) + 1;
        if (size <= sizeof told_path) memcpy(told_path, path, size);
    }
    if (!*told_path) atomic_store_explicit(&told, map_shared(-1), memory_order_release);
}
