/* directories.h: makes the directories above a file. */
#ifndef IMGLOCK_DIRECTORIES_H
#define IMGLOCK_DIRECTORIES_H

#include <stdbool.h>

/* As mkdir -p of the path's directory.  False with errno. */
bool directories_make(const char *path);

#endif
