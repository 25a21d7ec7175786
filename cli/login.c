/* login.c: a whole session with the library: a file of environment.d(5). */
#include "login.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "directories.h"
#include "library.h"

static const char first_line[] = "# Made by 'imglock on --login'; 'imglock off --login' removes it.\n";

bool login_path(bool of_all, char path[PATH_MAX])
{
    const char *given = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int length = PATH_MAX;
    if (of_all)
        length = snprintf(path, PATH_MAX, "/etc/environment.d/90-imglock.conf");
    else if (given && *given == '/')
        length = snprintf(path, PATH_MAX, "%s/environment.d/90-imglock.conf", given);
    else if (home && *home == '/')
        length = snprintf(path, PATH_MAX, "%s/.config/environment.d/90-imglock.conf", home);
    return length < PATH_MAX;
}

bool login_is_on(const char *path)
{
    char line[sizeof first_line] = "";
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool ours = fgets(line, sizeof line, file) && strcmp(line, first_line) == 0;
    fclose(file);
    return ours;
}

int login_turn_on(const char *path)
{
    const char *library = library_path();
    char reason[PATH_MAX];
    if (!library) return STATUS_FAILED;
    if (!library_loads(library, reason, sizeof reason))
        return complain("%s: the library cannot be preloaded: %s", library, reason);
    if (access(path, F_OK) == 0 && !login_is_on(path))
        return complain("%s: it is there already, and not made by imglock", path);
    if (!directories_make(path)) return complain("%s: cannot make its directory: %m", path);
    FILE *file = fopen(path, "we");
    if (!file) return complain("%s: cannot write: %m", path);
    fprintf(file, "%sLD_PRELOAD=%s${LD_PRELOAD:+:$LD_PRELOAD}\n", first_line, library);
    bool failed = ferror(file);
    if (fclose(file) != 0 || failed) return complain("%s: cannot write: %m", path);
    return 0;
}

int login_turn_off(const char *path)
{
    if (access(path, F_OK) < 0 && errno == ENOENT) return 0;
    if (!login_is_on(path)) return complain("%s: it is not made by imglock, so it stays", path);
    return unlink(path) == 0 ? 0 : complain("%s: cannot remove: %m", path);
}
