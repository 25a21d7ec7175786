/* preset.h: files of KEY=value lines. */
#ifndef IMGLOCK_PRESET_H
#define IMGLOCK_PRESET_H

#include <stdbool.h>

/* Puts the settings of a preset into the environment.  A name without a slash is one of the installed presets.
 * False, after a complaint that names the file and the line. */
bool preset_apply(const char *name);

struct dirent;

/* The names of the installed presets, with .conf, in order, as scandir(3) gives them. */
int preset_list(struct dirent ***entries);

#endif
