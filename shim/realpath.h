/* realpath.h: real paths without allocation.
 *
 * The lock's name is made from the image's real path, so this has to give byte for byte what realpath(3)
 * gives.  The kernel knows the real path of an open descriptor; asking it through /proc costs one call.  Where
 * /proc is not mounted (a chroot), the path is walked by hand.
 *
 * The caller brings the room for the path.  Nothing here takes more than 1.5 KiB of the stack beside it: it may be a
 * signal handler's, of 8 KiB.  What is no image brings little room, and maps more for a path that does not fit. */
#ifndef IMGLOCK_REALPATH_H
#define IMGLOCK_REALPATH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Writes "/proc/self/fd/<descriptor>", at most 32 bytes, NUL included. */
void realpath_descriptor_link(int descriptor, char link[32]);

/* Before a function that has room for a path of 4 KiB on its stack: images alone come there, everything else is to get
 * along with 3 KiB for the whole call.  Never inlined, or the caller's frame would have that room as well. */
#define PATH_FRAME __attribute__((noinline))

/* The real path of an open file into path[size], NUL-terminated.  Returns its length, or -errno: -ENAMETOOLONG when it
 * does not fit, -ENOENT when /proc cannot tell.  *deleted: the file's name is gone; path is then the name that it
 * had. */
ssize_t realpath_of_descriptor_in(int descriptor, char *path, size_t size, bool *deleted);

/* The same into path[PATH_MAX]. */
static inline ssize_t realpath_of_descriptor(int descriptor, char *path, bool *deleted)
{
    return realpath_of_descriptor_in(descriptor, path, PATH_MAX, deleted);
}

/* The real path that name, seen from directory, has or would have once created: the real path of the
 * directory that it lies in, a slash, the last component.  Symbolic links at the end are followed when
 * follow.  Returns the length, or -errno: what the kernel says when a directory on the way cannot be
 * searched, -EISDIR when name ends in a slash or a dot. */
ssize_t realpath_of_name_in(int directory, const char *name, bool follow, char *path, size_t size);

/* The same into path[PATH_MAX]. */
static inline ssize_t realpath_of_name(int directory, const char *name, bool follow, char *path)
{
    return realpath_of_name_in(directory, name, follow, path, PATH_MAX);
}

/* For an open file whose path is no name of its own: one of a memfd, or one that was opened by its handle before
 * anybody looked its name up, which is "/".  What stands for it into shown, which may be path; 0: it has a name. */
ssize_t realpath_of_nameless(const char *path, const struct stat *status, char *shown);

/* Directories have been renamed: paths that were remembered count no longer. */
void realpath_forget(void);

#endif
