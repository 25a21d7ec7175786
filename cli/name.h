/* name.h: the image that a name on the command line stands for. */
#ifndef IMGLOCK_NAME_H
#define IMGLOCK_NAME_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

/* Is it the name of an image that programs open by libgfapi, "gluster://HOST/VOLUME/PATH"?  Nothing here sees those. */
bool name_is_gluster(const char *name);

/* The real path of an image as the library has it, of one that does not exist yet too.  *exists: then *status is its
 * status.  Returns 0 or an errno. */
int name_real_path(const char *name, char path[PATH_MAX], bool *exists, struct stat *status);

#endif
