#include <stdlib.h>
#include <string.h>

#include "report_picture.h"

static const char *base(const char *word, size_t length)
{
    const char *from = word;
    for (size_t i = 0; i + 1 < length; i++)
        if (word[i] == '/') from = word + i + 1;
    return from;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Does the program run what its first argument names? */
static bool is_interpreter(const char *program, size_t length)
{
    static const char *const names[] = {"sh", "bash", "dash", "python", "python3", "perl", "ruby"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == length && strncmp(program, names[i], length) == 0) return true;
    return false;
}

/* QEMU's guest: -name web01, or -name guest=web01,debug-threads=on.  NULL: it has none. */
static char *guest_name(const char *command)
{
    const char *name = strstr(command, " -name ");
    if (!name) return NULL;
    name += strlen(" -name ");
    if (starts_with(name, "guest=")) name += strlen("guest=");
    size_t length = strcspn(name, ", ");
    return length ? strndup(name, length) : NULL;
}

/* Every word without the directories in it. */
static char *without_directories(const char *command)
{
    char *label = zeroed(strlen(command) + 1);
    size_t used = 0;
    while (*command) {
        size_t length = strcspn(command, " ");
        /* A value behind a comma or an equals sign stays as it is: it is no path of its own. */
        const char *from =
            memchr(command, '=', length) || memchr(command, ',', length) ? command : base(command, length);
        size_t rest = length - (size_t)(from - command);
        memcpy(label + used, from, rest);
        used += rest;
        command += length;
        if (*command) label[used++] = *command++;
    }
    return label;
}

char *label_of(const struct report_name *cmdline)
{
    const char *shown = cmdline->shown;
    size_t length = strcspn(shown, " ");
    const char *program = base(shown, length);
    size_t program_length = length - (size_t)(program - shown);
    char *guest = starts_with(program, "qemu") ? guest_name(shown) : NULL;
    char *label = NULL;
    if (guest && asprintf(&label, "%s (%.*s)", guest, (int)program_length, program) < 0) label = NULL;
    free(guest);
    if (label) return label;
    if (is_interpreter(program, program_length) && shown[length] == ' ' && shown[length + 1] != '-')
        return without_directories(shown + length + 1);
    return without_directories(shown);
}
