#include "arguments.h"

#include <errno.h>
#include <string.h>

#include "sys.h"

/* Options without an argument, which may stand before U in one word: qemu-img info -pU.  A letter that takes an
 * argument ends the word for us: in -fU the U is a format. */
static const struct {
    const char *program;
    const char *letters;
} programs[] = {
    {"qemu-img", "hpqcnW"}, {"qemu-io", "hVrsnxkmiC"}, {"qemu-nbd", "hVrsncdvLU"}, {"qemu-storage-daemon", "h"}};

/* "--force-share", or what getopt_long takes for it. */
static bool is_long_option(const char *argument)
{
    static const char option[] = "--force-share";
    size_t length = strlen(argument);
    return length >= strlen("--fo") && length < sizeof option && memcmp(argument, option, length) == 0;
}

static bool is_short_option(const char *argument, const char *letters)
{
    if (argument[0] != '-' || argument[1] == '-') return false;
    const char *at = argument + 1;
    while (*at && *at != 'U' && strchr(letters, *at)) at++;
    return *at == 'U';
}

/* file.driver=qcow2,force-share=on, or {"force-share": true} in a json: name. */
static bool is_image_option(const char *argument)
{
    if (strstr(argument, "force-share=on")) return true;
    const char *at = strstr(argument, "\"force-share\"");
    if (!at) return false;
    at += strlen("\"force-share\"");
    at += strspn(at, " \t\n:");
    return strncmp(at, "true", 4) == 0;
}

static bool asks(const char *argument, const char *letters)
{
    return is_long_option(argument) || is_short_option(argument, letters) || is_image_option(argument);
}

/* Looks at the words one after the other in a window; of a longer word, at its first part. */
static bool any_asks(int descriptor, const char *letters)
{
    char bytes[2048];
    size_t have = 0;
    bool found = false;
    bool skipping = false; /* the rest of a word that filled the window */
    for (;;) {
        ssize_t got = sys_read(descriptor, bytes + have, sizeof bytes - 1 - have);
        if (got <= 0) return found;
        have += (size_t)got;
        bytes[have] = '\0';
        char *word = bytes;
        for (char *end; (end = memchr(word, '\0', have - (size_t)(word - bytes))); word = end + 1) {
            if (!skipping && strcmp(word, "--") == 0) return found;
            found |= !skipping && asks(word, letters);
            skipping = false;
        }
        have -= (size_t)(word - bytes);
        memmove(bytes, word, have);
        if (have < sizeof bytes - 1) continue;
        bytes[have] = '\0';
        found |= !skipping && asks(bytes, letters);
        skipping = true;
        have = 0;
    }
}

bool arguments_force_share(void)
{
    /* Set by libc before any library's constructor runs. */
    const char *name = program_invocation_short_name;
    for (size_t i = 0; name && i < sizeof programs / sizeof *programs; i++) {
        if (strcmp(name, programs[i].program) != 0) continue;
        int descriptor = sys_openat(AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0);
        if (descriptor < 0) return false;
        bool found = any_asks(descriptor, programs[i].letters);
        sys_close(descriptor);
        return found;
    }
    return false;
}
