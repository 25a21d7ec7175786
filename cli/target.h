/* target.h: can the library be preloaded into this command? */
#ifndef IMGLOCK_TARGET_H
#define IMGLOCK_TARGET_H

#include <limits.h>
#include <stdbool.h>

struct target {
    char path[PATH_MAX];       /* of the command */
    char reason[2 * PATH_MAX]; /* why it cannot be wrapped, or not watched */
    char chain[2 * PATH_MAX];  /* the command and its interpreters: "x.sh, run by /usr/bin/env, run by /bin/sh" */
    const char *next_step;     /* what to do instead, or NULL */
    const char *unwatched;     /* why an audit cannot see what it does, in the words of audit_unwatched(); or NULL */
    char unwatched_path[PATH_MAX]; /* the program of which that is said: the command, or an interpreter; or "" */
    bool go;                       /* the command is written in Go */
    bool musl;                     /* or linked with musl, whose loader knows no $LIB */
};

/* Finds the command as execvp(3) does, and looks at it and at the interpreters that the kernel would start for it.
 * Returns 0 when the library can be preloaded into it, else the exit status, with the reason. */
int target_look(const char *command, char *const *arguments, struct target *target);

/* 0 when this is a file that may be executed, else errno. */
int target_check_executable(const char *path);

/* PATH, or what execvp(3) takes instead. */
const char *target_search_path(void);

/* Debian has an administrator's programs, mkfs.ext4 and parted, where an ordinary user's PATH does not lead: says that
 * a command that was not found is there.  NULL: it is not.  Lasts until the next call. */
const char *target_elsewhere(const char *command);

#endif
