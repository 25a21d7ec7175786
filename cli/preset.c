/* preset.c: files of KEY=value lines.
 *
 * One file works with --config, with systemd's EnvironmentFile=, and with "set -a; . file", so what those three read
 * differently is refused here instead of being read in one of three ways. */
#include "preset.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "library.h"
#include "setting.h"

/* Where the file stands, for messages. */
struct place {
    const char *file;
    unsigned line;
};

static bool refuse(const struct place *place, const char *what)
{
    complain("%s:%u: %s", place->file, place->line, what);
    return false;
}

/* ---- one line ----------------------------------------------------------------------------------------------- */

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

static bool is_name(const char *name, size_t length)
{
    if (length == 0) return false;
    for (size_t i = 0; i < length; i++) {
        bool letter = (name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= 'a' && name[i] <= 'z') || name[i] == '_';
        if (!letter && (i == 0 || name[i] < '0' || name[i] > '9')) return false;
    }
    return true;
}

/* Takes quotes off a value, in place: '...' is literal, in "..." a backslash quotes " \ ` and $, outside it quotes
 * everything. */
static bool unquote(char *value, const struct place *place)
{
    char *out = value;
    for (char *at = value; *at;) {
        if (*at == '\'') {
            char *end = strchr(++at, '\'');
            if (!end) return refuse(place, "a single quote is not closed on its line");
            memmove(out, at, (size_t)(end - at));
            out += end - at;
            at = end + 1;
        } else if (*at == '"') {
            for (at++; *at && *at != '"'; *out++ = *at++) {
                if (*at == '$' || *at == '`')
                    return refuse(place, "a shell would replace what follows $ or `; use '...'");
                if (*at == '\\' && at[1] && strchr("\"\\`$", at[1])) at++;
            }
            if (!*at) return refuse(place, "a double quote is not closed on its line");
            at++;
        } else if (is_blank(*at)) {
            return refuse(place, "a value with blanks needs quotes, and a comment a line of its own");
        } else if (strchr("$`;&|<>()~", *at)) {
            return refuse(place, "a value with a character that shells treat specially needs '...'");
        } else {
            if (*at == '\\' && !*++at) return refuse(place, "a line cannot be continued on the next one");
            *out++ = *at++;
        }
    }
    *out = '\0';
    return true;
}

static bool apply_line(char *line, const struct place *place)
{
    while (is_blank(*line)) line++;
    if (!*line || *line == '#') return true;
    char *equals = strchr(line, '=');
    if (!equals) return refuse(place, "this is no KEY=value line");
    if (!is_name(line, (size_t)(equals - line))) return refuse(place, "this is no name of a setting before the =");
    *equals = '\0';
    char *value = equals + 1;
    size_t length = strlen(value);
    while (length && is_blank(value[length - 1])) value[--length] = '\0';
    if (!unquote(value, place)) return false;
    if (!setting_is_known(line)) {
        const char *alike = setting_alike(line);
        if (alike)
            complain("%s:%u: there is no setting %s; did you mean %s?", place->file, place->line, line, alike);
        else
            complain("%s:%u: there is no setting %s", place->file, place->line, line);
        return false;
    }
    const char *refusal = *value ? setting_refusal(line, value) : NULL;
    if (refusal) {
        complain("%s:%u: %s=%s makes no sense; it takes %s", place->file, place->line, line, value, refusal);
        return false;
    }
    if (setenv(line, value, 1) == 0) return true;
    return refuse(place, "there is no memory for it");
}

/* ---- the file ----------------------------------------------------------------------------------------------- */

/* Opens a preset by its name: NAME or NAME.conf in the presets' directory. */
static FILE *open_installed(const char *name, char path[PATH_MAX])
{
    static const char *const endings[] = {"", ".conf"};
    for (size_t i = 0; i < 2; i++) {
        if (snprintf(path, PATH_MAX, "%s/%s%s", library_preset_directory(), name, endings[i]) >= PATH_MAX) continue;
        FILE *file = fopen(path, "re");
        if (file || errno != ENOENT) return file;
    }
    return NULL;
}

static int is_preset(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0 && !strstr(entry->d_name, ".tmpfiles.");
}

int preset_list(struct dirent ***entries)
{
    return scandir(library_preset_directory(), entries, is_preset, alphasort);
}

static void complain_unknown(const char *name)
{
    struct dirent **entries;
    char list[1024] = "";
    int count = preset_list(&entries);
    for (int i = 0; i < count; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%.*s", i ? ", " : "", (int)strlen(entries[i]->d_name) - 5,
                 entries[i]->d_name);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    complain("there is no preset %s in %s, which has: %s; a file of your own is ./%s", word_shown(name),
             library_preset_directory(), *list ? list : "none", name);
}

bool preset_apply(const char *name)
{
    char path[PATH_MAX];
    const char *shown = name;
    FILE *file;
    if (strchr(name, '/')) {
        file = fopen(name, "re");
    } else {
        file = open_installed(name, path);
        shown = path;
        if (!file && errno == ENOENT) {
            complain_unknown(name);
            return false;
        }
    }
    if (!file) {
        complain("%s: cannot read the settings: %m", shown);
        return false;
    }
    struct place place = {.file = shown};
    char *line = NULL;
    size_t size = 0;
    ssize_t length;
    bool good = true;
    errno = 0;
    while (good && (length = getline(&line, &size, file)) >= 0) {
        place.line++;
        if (memchr(line, '\0', (size_t)length)) {
            good = refuse(&place, "a NUL byte: this is no text file");
            break;
        }
        while (length && (line[length - 1] == '\n' || line[length - 1] == '\r')) line[--length] = '\0';
        good = apply_line(line, &place);
        errno = 0;
    }
    if (good && (ferror(file) || errno)) {
        complain("%s:%u: cannot read the settings: %m", shown, place.line + 1);
        good = false;
    }
    free(line);
    fclose(file);
    return good;
}
