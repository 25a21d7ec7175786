/* login.h: a whole session with the library: a file of environment.d(5). */
#ifndef IMGLOCK_LOGIN_H
#define IMGLOCK_LOGIN_H

#include <limits.h>
#include <stdbool.h>

/* The file's path: of this user, or of all.  False when it cannot be told. */
bool login_path(bool of_all, char path[PATH_MAX]);

/* Is there such a file, made by imglock? */
bool login_is_on(const char *path);

/* Writes or removes it.  0, or the exit status after a complaint. */
int login_turn_on(const char *path);
int login_turn_off(const char *path);

#endif
