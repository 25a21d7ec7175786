/* links.c: programs that are on for good. */
#include "links.h"

#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "library.h"
#include "memory.h"
#include "target.h"

static const char ending[] = "/imglock/bin";

static const char *home_directory(void)
{
    const char *home = getenv("HOME");
    if (home && *home == '/') return home;
    const struct passwd *user = getpwuid(getuid());
    return user ? user->pw_dir : NULL;
}

bool links_directory(bool of_all, char path[PATH_MAX])
{
    const char *library = of_all ? library_path() : NULL;
    const char *home = of_all ? NULL : home_directory();
    int length = PATH_MAX;
    if (of_all && !library) return false;
    if (library)
        length = snprintf(path, PATH_MAX, "%.*s/bin", (int)(strrchr(library, '/') - library), library);
    else if (home)
        length = snprintf(path, PATH_MAX, "%s/.local/lib%s", home, ending);
    if (length < PATH_MAX) return true;
    complain("cannot tell where the links are to be: HOME is not set");
    return false;
}

static bool same_directory(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

bool links_of_all_are_own(void)
{
    char own[PATH_MAX], of_all[PATH_MAX];
    return home_directory() && links_directory(false, own) && links_directory(true, of_all) &&
           same_directory(own, of_all);
}

static bool is_imglock(const char *path)
{
    struct stat program, self;
    char target[PATH_MAX];
    if (stat(path, &program) == 0)
        return stat("/proc/self/exe", &self) == 0 && program.st_dev == self.st_dev && program.st_ino == self.st_ino;
    /* One that was moved or deleted since. */
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) return false;
    target[length] = '\0';
    const char *slash = strrchr(target, '/');
    return strcmp(slash ? slash + 1 : target, "imglock") == 0;
}

bool links_has(const char *directory, const char *name)
{
    char path[PATH_MAX];
    struct stat status;
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path) return false;
    return lstat(path, &status) == 0 && S_ISLNK(status.st_mode) && is_imglock(path);
}

char **links_list(const char *directory, size_t *count)
{
    struct dirent **entries;
    int found = scandir(directory, &entries, NULL, alphasort);
    char **names = memory_get(found > 0 ? (size_t)found : 1, sizeof *names);
    *count = 0;
    for (int i = 0; i < found; i++) {
        if (links_has(directory, entries[i]->d_name)) names[(*count)++] = string_keep(entries[i]->d_name);
        free(entries[i]);
    }
    if (found >= 0) free(entries);
    return names;
}

/* Calls visit with each directory of PATH, an empty one being the current, until one returns true. */
static bool each_of_path(bool (*visit)(const char *directory, void *data), void *data)
{
    char directory[PATH_MAX];
    for (const char *at = target_search_path();; at++) {
        const char *end = strchrnul(at, ':');
        int length =
            snprintf(directory, sizeof directory, "%.*s", end == at ? 1 : (int)(end - at), end == at ? "." : at);
        if (length < (int)sizeof directory && visit(directory, data)) return true;
        if (!*end) return false;
        at = end;
    }
}

struct search {
    const char *directory; /* of the links */
    char *found;           /* PATH_MAX bytes */
    const char *name;
    char **names;
    size_t count;
    int error;
};

/* Ends at the directory of the links, or at one that has a program of theirs. */
static bool has_any(const char *directory, void *data)
{
    struct search *search = data;
    if (same_directory(directory, search->directory)) {
        search->found[0] = '\0';
        return true;
    }
    for (size_t i = 0; i < search->count; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", directory, search->names[i]) >= (int)sizeof path) continue;
        if (access(path, X_OK) < 0 || is_imglock(path)) continue;
        snprintf(search->found, PATH_MAX, "%s", directory);
        return true;
    }
    return false;
}

static bool is_the_one(const char *directory, void *data)
{
    const struct search *search = data;
    return same_directory(directory, search->directory);
}

enum links_in_path links_in_path(const char *directory, char other[PATH_MAX])
{
    struct search search = {.directory = directory, .found = other};
    other[0] = '\0';
    if (!each_of_path(is_the_one, &search)) return LINKS_ABSENT;
    search.names = links_list(directory, &search.count);
    each_of_path(has_any, &search);
    for (size_t i = 0; i < search.count; i++) free(search.names[i]);
    free(search.names);
    return other[0] ? LINKS_BEHIND : LINKS_FIRST;
}

void links_explain_path(const char *directory, bool of_all)
{
    char other[PATH_MAX];
    const char *shell = getenv("SHELL");
    const char *name = shell && strrchr(shell, '/') ? strrchr(shell, '/') + 1 : "sh";
    enum links_in_path place = links_in_path(directory, other);
    if (place == LINKS_FIRST) return;
    if (place == LINKS_BEHIND)
        printf("%s comes behind %s in PATH, so the programs of that one are run.", directory, other);
    else
        printf("%s is not in PATH.", directory);
    if (!of_all && strcmp(name, "fish") == 0) {
        printf("  Once, in fish:\n    fish_add_path --prepend --move %s\n", directory);
        return;
    }
    const char *file = of_all                      ? "/etc/profile.d/imglock.sh, for login shells,"
                       : strcmp(name, "bash") == 0 ? "~/.bashrc"
                       : strcmp(name, "zsh") == 0  ? "~/.zshrc"
                                                   : "~/.profile";
    printf("  Add to %s the line\n    PATH=%s:$PATH\n", file, directory);
}

const char *links_started_as(void)
{
    static char path[PATH_MAX], directory[PATH_MAX];
    const char *given = (const char *)getauxval(AT_EXECFN);
    if (!given || strlen(given) >= sizeof path) return NULL;
    strcpy(path, given);
    char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (!*name || strcmp(name, "imglock") == 0) return NULL;
    if (slash) *slash = '\0';
    /* Only there: a link elsewhere is another name of imglock itself. */
    if (!realpath(slash ? path : ".", directory)) return NULL;
    size_t length = strlen(directory), wanted = sizeof ending - 1;
    return length >= wanted && strcmp(directory + length - wanted, ending) == 0 ? name : NULL;
}

static bool has_real(const char *directory, void *data)
{
    struct search *search = data;
    if (snprintf(search->found, PATH_MAX, "%s/%s", directory, search->name) >= PATH_MAX) return false;
    int error = target_check_executable(search->found);
    if (error == EACCES) search->error = EACCES;
    return error == 0 && !is_imglock(search->found);
}

int links_find_real(const char *name, char path[PATH_MAX])
{
    struct search search = {.found = path, .name = name, .error = ENOENT};
    return each_of_path(has_real, &search) ? 0 : search.error;
}

const char *links_see_through(const char *command, char path[PATH_MAX])
{
    char directory[PATH_MAX];
    if (strchr(command, '/')) return command;
    for (int of_all = 0; of_all < 2; of_all++) {
        if (!links_directory(of_all, directory) || !links_has(directory, command)) continue;
        return links_find_real(command, path) == 0 ? path : command;
    }
    return command;
}
