/* links.h: programs that are on for good: links of their names to imglock, in a directory that comes first in PATH, as
 * ccache(1) has them. */
#ifndef IMGLOCK_LINKS_H
#define IMGLOCK_LINKS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* The directory of the links: of this user, or of all.  False, after a complaint, when it cannot be told. */
bool links_directory(bool of_all, char path[PATH_MAX]);

/* Is that of all users this user's own, since imglock is installed below ~/.local? */
bool links_of_all_are_own(void);

/* The names of the programs that are on there, in order; *count of them.  The caller frees each, and the array. */
char **links_list(const char *directory, size_t *count);

/* Is this a link to imglock, this one or another? */
bool links_has(const char *directory, const char *name);

enum links_in_path { LINKS_FIRST, LINKS_BEHIND, LINKS_ABSENT };

/* Where the directory stands in PATH: before all others that have one of its programs; behind one that has (*other); or
 * not at all. */
enum links_in_path links_in_path(const char *directory, char other[PATH_MAX]);

/* Says what is to be added to PATH, and where, on standard output; nothing where it comes first already. */
void links_explain_path(const char *directory, bool of_all);

/* The name of the program that this process was started as, through such a link; or NULL. */
const char *links_started_as(void);

/* Finds the program of that name in PATH that is not imglock.  0 or errno. */
int links_find_real(const char *name, char path[PATH_MAX]);

/* The program that this word of a command line runs in the end: behind a link of ours the real one, whose path goes
 * into path; else the word itself. */
const char *links_see_through(const char *command, char path[PATH_MAX]);

#endif
