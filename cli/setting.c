/* setting.c: IMGLOCK_* as the library understands it.  All judgement is settings_parse()'s: what the command accepts,
 * the library accepts. */
#include "setting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alike.h"
#include "cli.h"

static const char *const setting_names[] = {
#define WORD(name, field, words, meaning) "IMGLOCK_" #name,
#define VALUE(name, parse, takes, values, meaning) "IMGLOCK_" #name,
#include "settings.def"
    NULL};

bool setting_give(struct given *given, const char *option, const char *value)
{
    if (!*value) {
        complain_usage("option %s needs a value", option);
        return false;
    }
    if (given->value && strcmp(given->value, value) != 0) {
        if (strcmp(given->option, option) == 0)
            complain_usage("option %s is given twice, with '%s' and '%s'", option, given->value, value);
        else
            complain_usage("options %s and %s contradict each other", given->option, option);
        return false;
    }
    given->option = option;
    given->value = value;
    return true;
}

const char *setting_refusal(const char *name, const char *value)
{
    struct settings settings;
    char *entry;
    if (asprintf(&entry, "%s=%s", name, value) < 0) return "memory, and there is none";
    char *environment[] = {entry, NULL};
    const char *refusal = settings_parse(environment, &settings, false) ? NULL : settings.bad_expects;
    free(entry);
    return refusal;
}

bool setting_makes_sense(const char *command, const struct given *given, const char *variable)
{
    const char *refusal = given->value ? setting_refusal(variable, given->value) : NULL;
    if (!refusal) return true;
    complain("%s%s '%s' makes no sense; it takes %s", command, given->option, given->value, refusal);
    return false;
}

bool setting_is_known(const char *name)
{
    for (const char *const *known = setting_names; *known; known++)
        if (strcmp(*known, name) == 0) return true;
    return false;
}

const char *setting_alike(const char *name)
{
    const char *best = NULL;
    size_t least = 4;
    for (const char *const *known = setting_names; *known; known++) {
        size_t apart = letters_apart(name, *known);
        if (apart < least) {
            least = apart;
            best = *known;
        }
    }
    return best;
}

bool settings_read(struct settings *settings)
{
    if (settings_parse(environ, settings, true)) return true;
    bool told = false;
    for (char *const *entry = environ; *entry; entry++) {
        const char *equals = strchr(*entry, '=');
        if (strncmp(*entry, "IMGLOCK_", 8) != 0 || !equals) continue;
        char *name = strndup(*entry, (size_t)(equals - *entry));
        const char *refusal = name ? setting_refusal(name, equals + 1) : NULL;
        if (refusal) {
            complain("%s=%s makes no sense; it takes %s", name, equals + 1, refusal);
            told = true;
        }
        free(name);
    }
    if (!told)
        complain("%s=%s makes no sense; it takes %s", settings->bad_variable, settings->bad_value,
                 settings->bad_expects);
    return false;
}
