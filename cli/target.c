/* target.c: can the library be preloaded into this command?
 *
 * The dynamic loader ignores LD_PRELOAD in silence, or is not started at all, for a program that is static, that
 * changes its user, or that is for another architecture.  Such a program would run without locks, so it is found out
 * before it is started: by its ELF header, and where it is a script by that of its interpreter. */
#include "target.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "complain.h"
#include "elf_own.h"
#include "go_note.h"
#include "library.h"
#include "musl.h"
#include "other_size.h"

/* The kernel's limits: BINPRM_BUF_SIZE, and the depth of interpreters in exec_binprm().  And an end to scripts that
 * have env run each other. */
enum { SCRIPT_LINE = 256, SCRIPTS_DEEP = 5, COMMANDS_DEEP = 16 };

static const char hold_instead[] = "'imglock hold IMAGE -- COMMAND' takes the lock around it";

/* What is looked at now: a file, and who would run it. */
struct look {
    struct target *target;
    const char *search_path; /* PATH */
    int scripts;             /* on the way here from the command */
    int commands;            /* that one env after the other runs */
};

static int look_at_file(struct look *look, const char *path, char *const *arguments);
static int look_at_command(struct look *look, const char *command, char *const *arguments);

static int refuse(struct look *look, int status, const char *next_step, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse(struct look *look, int status, const char *next_step, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(look->target->reason, sizeof look->target->reason, format, list);
    va_end(list);
    look->target->next_step = next_step;
    return status;
}

/* It is executed, and the library is not there: an audit can let it run and say so. */
static void note_unwatched(struct look *look, const char *path, const char *why)
{
    snprintf(look->target->unwatched_path, sizeof look->target->unwatched_path, "%s", path);
    look->target->unwatched = why;
}

/* ---- the search path ---------------------------------------------------------------------------------------- */

int target_check_executable(const char *path)
{
    struct stat status;
    if (stat(path, &status) < 0) return errno;
    if (!S_ISREG(status.st_mode)) return EACCES;
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? errno : 0;
}

/* As execvp(3): a name with a slash is a path; else each directory of PATH, an empty one being the current, and what
 * may not be executed is passed over.  0 or errno. */
static int find_command(const char *command, const char *search_path, char path[PATH_MAX])
{
    if (strlen(command) >= PATH_MAX) return ENAMETOOLONG;
    if (strchr(command, '/')) {
        strcpy(path, command);
        return target_check_executable(path);
    }
    if (!*command) return ENOENT;
    int answer = ENOENT;
    for (const char *at = search_path;; at++) {
        const char *end = strchrnul(at, ':');
        int length = end == at ? snprintf(path, PATH_MAX, "./%s", command)
                               : snprintf(path, PATH_MAX, "%.*s/%s", (int)(end - at), at, command);
        int error = length < PATH_MAX ? target_check_executable(path) : ENAMETOOLONG;
        if (error == 0) return 0;
        if (error == EACCES) answer = EACCES;
        if (!*end) return answer;
        at = end;
    }
}

const char *target_elsewhere(const char *command)
{
    static const char *const directories[] = {"/usr/sbin", "/sbin"};
    static char words[80];
    char path[PATH_MAX];
    for (size_t i = 0; *command && !strchr(command, '/') && i < sizeof directories / sizeof *directories; i++) {
        if (snprintf(path, sizeof path, "%s/%s", directories[i], command) >= (int)sizeof path) continue;
        if (target_check_executable(path) != 0) continue;
        snprintf(words, sizeof words, "it is in %s, which is not in PATH", directories[i]);
        return words;
    }
    return NULL;
}

const char *target_search_path(void)
{
    static char path[256];
    const char *set = getenv("PATH");
    if (set) return set;
    return confstr(_CS_PATH, path, sizeof path) ? path : "/bin:/usr/bin";
}

/* ---- ELF ---------------------------------------------------------------------------------------------------- */

static const char *machine_name(unsigned machine)
{
    switch (machine) {
    case EM_X86_64:
        return "x86-64";
    case EM_386:
        return "i386";
    case EM_AARCH64:
        return "aarch64";
    case EM_ARM:
        return "arm";
    case EM_PPC64:
        return "ppc64";
    case EM_S390:
        return "s390x";
    case EM_RISCV:
        return "riscv";
    case EM_MIPS:
        return "mips";
    }
    return NULL;
}

static bool has_go_note(int descriptor, const ElfW(Phdr) * segment)
{
    char notes[1024];
    size_t size = segment->p_filesz < sizeof notes ? segment->p_filesz : sizeof notes;
    return pread(descriptor, notes, size, (off_t)segment->p_offset) == (ssize_t)size && go_note_is_in(notes, size);
}

/* Would the kernel set AT_SECURE for this program and this user, as bprm_creds_from_file() and
 * cap_bprm_creds_from_file() do?  Then ld.so ignores every preload that is named by a path. */
static const char *why_secure(int descriptor, const struct stat *status)
{
    uid_t real, effective, saved;
    gid_t real_group, effective_group, saved_group;
    struct statvfs file_system;
    getresuid(&real, &effective, &saved);
    getresgid(&real_group, &effective_group, &saved_group);
    bool honoured = fstatvfs(descriptor, &file_system) < 0 || !(file_system.f_flag & ST_NOSUID);
    if (honoured && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
        if (status->st_mode & S_ISUID) effective = status->st_uid;
        if ((status->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) effective_group = status->st_gid;
    }
    if (effective != real) return status->st_mode & S_ISUID ? "it is setuid" : "its user is not the real one";
    if (effective_group != real_group)
        return status->st_mode & S_ISGID ? "it is setgid" : "its group is not the real one";
    /* Capabilities that this process cannot get have no effect; nobody gives a program those alone. */
    struct vfs_ns_cap_data capabilities;
    if (honoured && real != 0 && fgetxattr(descriptor, "security.capability", &capabilities, sizeof capabilities) > 0)
        return "it has file capabilities";
    return NULL;
}

static int look_at_privileges(struct look *look, const char *path, int descriptor, const struct stat *status)
{
    const char *why = why_secure(descriptor, status);
    if (!why) return 0;
    note_unwatched(look, path, "set-user-ID");
    return refuse(look, STATUS_FAILED,
                  "run it as root, or use 'imglock hold IMAGE -- COMMAND', which takes the lock around it",
                  "%s: %s, so the dynamic loader ignores preloaded libraries for this user", path, why);
}

static int look_at_musl(struct look *look, const char *path, const char *loader, int descriptor,
                        const struct stat *status)
{
    char reason[1024];
    const char *library = library_path();
    look->target->musl = true;
    if (!library) return STATUS_FAILED;
    if (!musl_loads(loader, path, library, reason, sizeof reason)) {
        note_unwatched(look, path, "foreign");
        return refuse(look, STATUS_FAILED, hold_instead,
                      "%s: it is linked with musl, whose loader does not load the library: %s", path, reason);
    }
    return look_at_privileges(look, path, descriptor, status);
}

static int look_at_elf(struct look *look, const char *path, int descriptor, const struct stat *status)
{
    const ElfW(Ehdr) *own = own_elf_header();
    ElfW(Ehdr) header;
    if (pread(descriptor, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return refuse(look, STATUS_NOT_EXECUTABLE, NULL, "%s: %s", path, strerror(ENOEXEC));
    if (header.e_ident[EI_CLASS] != own->e_ident[EI_CLASS] || header.e_ident[EI_DATA] != own->e_ident[EI_DATA] ||
        header.e_machine != own->e_machine) {
        const char *library = library_path();
        if (library && other_size_serves(library, descriptor))
            return look_at_privileges(look, path, descriptor, status);
        unsigned machine = header.e_machine;
        if (header.e_ident[EI_DATA] != own->e_ident[EI_DATA]) machine = __builtin_bswap16(header.e_machine);
        const char *name = machine_name(machine);
        char number[32];
        if (!name) {
            snprintf(number, sizeof number, "ELF machine %u", machine);
            name = number;
        }
        note_unwatched(look, path, "foreign");
        return refuse(look, STATUS_FAILED, hold_instead,
                      "%s: it is a %d-bit program for %s, and the library is %d-bit %s", path,
                      header.e_ident[EI_CLASS] == ELFCLASS64 ? 64 : 32, name,
                      own->e_ident[EI_CLASS] == ELFCLASS64 ? 64 : 32, machine_name(own->e_machine));
    }
    ElfW(Phdr) segments[64];
    if ((header.e_type != ET_EXEC && header.e_type != ET_DYN) || header.e_phentsize != sizeof *segments)
        return refuse(look, STATUS_NOT_EXECUTABLE, NULL, "%s: %s", path, strerror(ENOEXEC));
    size_t count = header.e_phnum < 64 ? header.e_phnum : 64;
    ssize_t size = (ssize_t)(count * sizeof *segments);
    if (pread(descriptor, segments, (size_t)size, (off_t)header.e_phoff) != size)
        return refuse(look, STATUS_NOT_EXECUTABLE, NULL, "%s: %s", path, strerror(ENOEXEC));
    const ElfW(Phdr) *interpreter = NULL;
    for (size_t i = 0; i < count; i++) {
        if (segments[i].p_type == PT_INTERP && !interpreter) interpreter = &segments[i];
        if (segments[i].p_type == PT_NOTE && has_go_note(descriptor, &segments[i])) look->target->go = true;
    }
    struct stat loader, own_loader;
    bool loader_known = stat(own_dynamic_loader(), &own_loader) == 0;
    if (!interpreter) {
        if (loader_known && own_loader.st_dev == status->st_dev && own_loader.st_ino == status->st_ino)
            return refuse(look, STATUS_FAILED, "name the program itself", "%s: it is the dynamic loader", path);
        note_unwatched(look, path, look->target->go ? "Go" : "static");
        return refuse(look, STATUS_FAILED, hold_instead,
                      "%s: it is statically linked, so no library can be preloaded into it", path);
    }
    char name[PATH_MAX];
    size_t length = interpreter->p_filesz < sizeof name ? interpreter->p_filesz : sizeof name - 1;
    if (pread(descriptor, name, length, (off_t)interpreter->p_offset) != (ssize_t)length)
        return refuse(look, STATUS_NOT_EXECUTABLE, NULL, "%s: %s", path, strerror(ENOEXEC));
    name[length] = '\0';
    if (strstr(name, "ld-musl")) return look_at_musl(look, path, name, descriptor, status);
    if (stat(name, &loader) < 0)
        return refuse(look, STATUS_FAILED, NULL, "%s: its dynamic loader %s: %s", path, name, strerror(errno));
    if (!loader_known || loader.st_dev != own_loader.st_dev || loader.st_ino != own_loader.st_ino) {
        note_unwatched(look, path, "foreign");
        return refuse(look, STATUS_FAILED, hold_instead,
                      "%s: its dynamic loader is %s, and the library has been seen to load with %s only", path, name,
                      own_dynamic_loader());
    }
    int result = look_at_privileges(look, path, descriptor, status);
    if (result || !look->target->go) return result;
    note_unwatched(look, path, "Go");
    return refuse(look, 0, hold_instead, "%s: it is written in Go and makes its system calls itself", path);
}

/* ---- env ---------------------------------------------------------------------------------------------------- */

static bool is_env(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, "env") == 0;
}

/* The words of env -S, in place, where nothing in them needs more than blanks to split them.  Returns how many, or -1.
 */
static int split_words(char *string, char **words, int most)
{
    int count = 0;
    if (strpbrk(string, "\\'\"$#")) return -1;
    for (char *word; (word = strsep(&string, " \t"));) {
        if (!*word) continue;
        if (count == most) return -1;
        words[count++] = word;
    }
    return count;
}

static int refuse_cleared(struct look *look, const char *what)
{
    /* env itself is watched, and says of which program it takes the library. */
    note_unwatched(look, "", "environment");
    return refuse(look, STATUS_FAILED, "put imglock behind it: env ... imglock COMMAND",
                  "env: %s takes the library out of the environment", what);
}

/* What env would run, given its arguments.  Only what env is sure to do is judged; where it cannot be told, env itself
 * is the target, and it is fit. */
static int look_behind_env(struct look *look, char *const *arguments)
{
    enum { MOST_WORDS = 62 };
    static char copy[SCRIPT_LINE + PATH_MAX];
    for (char *const *at = arguments; *at; at++) {
        const char *word = *at;
        const char *rest = NULL;
        if (strcmp(word, "-i") == 0 || strcmp(word, "-") == 0 || strcmp(word, "--ignore-environment") == 0)
            return refuse_cleared(look, word);
        if (strncmp(word, "-S", 2) == 0)
            rest = word[2] ? word + 2 : *++at;
        else if (strncmp(word, "-vS", 3) == 0)
            rest = word[3] ? word + 3 : *++at;
        else if (strncmp(word, "--split-string=", 15) == 0)
            rest = word + 15;
        if (rest) {
            static char *words[MOST_WORDS + 2];
            static bool used;
            if (used || strlen(rest) >= sizeof copy) return 0;
            used = true;
            int count = split_words(strcpy(copy, rest), words, MOST_WORDS);
            if (count < 0) return 0;
            for (int i = 1; count < MOST_WORDS && at[i]; i++) words[count++] = at[i];
            words[count] = NULL;
            return look_behind_env(look, words);
        }
        if (strcmp(word, "-u") == 0 || strcmp(word, "--unset") == 0) {
            word = *++at;
            if (!word) return 0;
            if (strcmp(word, "LD_PRELOAD") == 0) return refuse_cleared(look, "-u LD_PRELOAD");
        } else if (strcmp(word, "-uLD_PRELOAD") == 0 || strcmp(word, "--unset=LD_PRELOAD") == 0) {
            return refuse_cleared(look, word);
        } else if (strcmp(word, "--") == 0) {
            continue;
        } else if (strcmp(word, "-v") == 0 || strcmp(word, "--debug") == 0 || strncmp(word, "-u", 2) == 0 ||
                   strncmp(word, "--unset=", 8) == 0) {
            continue;
        } else if (word[0] == '-') {
            return 0; /* another directory, or an option of a later env */
        } else if (strncmp(word, "LD_PRELOAD=", 11) == 0) {
            return refuse_cleared(look, word);
        } else if (strncmp(word, "PATH=", 5) == 0) {
            look->search_path = word + 5;
        } else if (!strchr(word, '=')) {
            return look_at_command(look, word, at);
        }
    }
    return 0;
}

/* ---- scripts ------------------------------------------------------------------------------------------------ */

/* The interpreter and its one argument in the first line of a script, as load_script() in fs/binfmt_script.c takes them
 * apart: *argument is "" where there is none.  False when the kernel would not run it. */
static bool parse_script_line(char *line, size_t length, char **interpreter, char **argument)
{
    char *end = memchr(line, '\n', length);
    if (!end) {
        /* A line that the kernel's buffer cuts has to show the whole of the interpreter. */
        end = line + length;
        char *name = line + strspn(line, " \t");
        if (length == SCRIPT_LINE - 2 && !strpbrk(name, " \t")) return false;
    }
    *end = '\0';
    while (end > line && (end[-1] == ' ' || end[-1] == '\t')) *--end = '\0';
    *interpreter = line + strspn(line, " \t");
    if (!**interpreter) return false;
    char *name_end = *interpreter + strcspn(*interpreter, " \t");
    *argument = name_end + strspn(name_end, " \t");
    *name_end = '\0';
    return true;
}

static int look_at_script(struct look *look, const char *path, const char *bytes, size_t length, char *const *arguments)
{
    char line[SCRIPT_LINE + 1];
    char *interpreter, *argument;
    if (++look->scripts > SCRIPTS_DEEP)
        return refuse(look, STATUS_NOT_EXECUTABLE, NULL, "%s: %s", path, strerror(ELOOP));
    memcpy(line, bytes + 2, length - 2);
    line[length - 2] = '\0';
    if (!parse_script_line(line, length - 2, &interpreter, &argument))
        return refuse(look, STATUS_NOT_EXECUTABLE, NULL, "%s: its first line names no interpreter", path);
    int error = target_check_executable(interpreter);
    if (error)
        return refuse(look, error == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE, NULL,
                      "%s: its interpreter %s: %s", path, interpreter, strerror(error));
    /* The interpreter's own arguments: the one of the line, the script, the rest. */
    int count = 0;
    while (arguments[count]) count++;
    char **behind = calloc((size_t)count + 3, sizeof *behind);
    if (!behind) return refuse(look, STATUS_FAILED, NULL, "%s: %s", path, strerror(ENOMEM));
    int used = 0;
    behind[used++] = interpreter;
    if (*argument) behind[used++] = argument;
    behind[used++] = (char *)path;
    for (int i = 1; i < count; i++) behind[used++] = arguments[i];
    size_t told = strlen(look->target->chain);
    snprintf(look->target->chain + told, sizeof look->target->chain - told, ", run by %s", interpreter);
    int status = look_at_file(look, interpreter, behind);
    free(behind);
    return status;
}

/* ---- one file ----------------------------------------------------------------------------------------------- */

/* What execvp gives to the shell: a file that the kernel does not know, and that is text. */
static bool is_text(const char *bytes, size_t length)
{
    const char *end = memchr(bytes, '\n', length);
    return !memchr(bytes, '\0', end ? (size_t)(end - bytes) : length);
}

static int look_at_file(struct look *look, const char *path, char *const *arguments)
{
    char bytes[SCRIPT_LINE];
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0)
        return refuse(look, STATUS_FAILED, hold_instead,
                      "%s: cannot read it to see whether the library can be preloaded: %s", path, strerror(errno));
    ssize_t length = pread(descriptor, bytes, sizeof bytes, 0);
    int result;
    if (length < 0 || fstat(descriptor, &status) < 0) {
        result = refuse(look, STATUS_FAILED, hold_instead, "%s: cannot read it: %s", path, strerror(errno));
    } else if (length >= 4 && memcmp(bytes, ELFMAG, SELFMAG) == 0) {
        result = look_at_elf(look, path, descriptor, &status);
        if (result == 0 && is_env(path) && arguments[0]) result = look_behind_env(look, arguments + 1);
    } else if (length > 2 && memcmp(bytes, "#!", 2) == 0) {
        result = look_at_script(look, path, bytes, (size_t)length, arguments);
    } else if (look->scripts == 0 && is_text(bytes, (size_t)length)) {
        look->scripts++;
        char *const shell[] = {(char *)"sh", NULL};
        result = look_at_file(look, "/bin/sh", shell);
    } else {
        result = refuse(look, STATUS_FAILED, hold_instead,
                        "%s: it is neither an ELF program nor a script, so what would run it cannot be told", path);
    }
    close(descriptor);
    return result;
}

static int look_at_command(struct look *look, const char *command, char *const *arguments)
{
    char path[PATH_MAX];
    look->scripts = 0;
    if (++look->commands > COMMANDS_DEEP)
        return refuse(look, STATUS_FAILED, NULL, "%s: too many scripts that env runs one from the other", command);
    int error = find_command(command, look->search_path, path);
    if (error)
        return refuse(look, error == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE,
                      error == ENOENT ? target_elsewhere(command) : NULL, "%s: %s", word_shown(command),
                      strerror(error));
    size_t told = strlen(look->target->chain);
    snprintf(look->target->chain + told, sizeof look->target->chain - told, "%s%s", told ? ", run by it " : "", path);
    if (!look->target->path[0]) strcpy(look->target->path, path);
    return look_at_file(look, path, arguments);
}

int target_look(const char *command, char *const *arguments, struct target *target)
{
    struct look look = {.target = target, .search_path = target_search_path()};
    target->path[0] = target->reason[0] = target->chain[0] = target->unwatched_path[0] = '\0';
    target->next_step = target->unwatched = NULL;
    target->go = target->musl = false;
    return look_at_command(&look, command, arguments);
}
