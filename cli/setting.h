/* setting.h: IMGLOCK_* as the library understands it. */
#ifndef IMGLOCK_SETTING_H
#define IMGLOCK_SETTING_H

#include <stdbool.h>

#include "policy.h"

/* The settings that options can give, noted so that two that contradict each other are found. */
struct given {
    const char *option; /* as written: "-s" */
    const char *value;
};

/* Notes that an option gives a setting.  False, after a complaint, when another gave a different value. */
bool setting_give(struct given *given, const char *option, const char *value);

/* Does the library take the value, if one was given, for this variable?  False, after a complaint that names the
 * option. command: "hold: ", or nothing. */
bool setting_makes_sense(const char *command, const struct given *given, const char *variable);

/* Does the library read a variable of this name? */
bool setting_is_known(const char *name);

/* What the library makes of one value.  NULL: it takes it; else what the variable takes. */
const char *setting_refusal(const char *name, const char *value);

/* The known name most like this one, or NULL when none is alike. */
const char *setting_alike(const char *name);

/* Parses the environment into *settings.  False, after one line for each value that makes no sense. */
bool settings_read(struct settings *settings);

#endif
