/* directory.c: readdir of /proc/self/fd.  Programs walk that directory to close, count or hand down what is open, some
 * until nothing is left to close: our own descriptors are none of theirs, and are stepped over. */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../realpath.h"
#include "../sys.h"
#include "../text.h"
#include "../track.h"
#include "../track_private.h"
#include "real.h"

/* Does the directory list the descriptors of this process: /proc/PID/fd, fdinfo, or the same of a thread? */
static bool lists_descriptors(DIR *directory)
{
    char link[32];
    char path[64];
    uint64_t process;
    realpath_descriptor_link(REAL(dirfd)(directory), link);
    ssize_t length = sys_readlinkat(AT_FDCWD, link, path, sizeof path - 1);
    if (length < 0) return false;
    path[length] = '\0';
    const char *at = path + sizeof "/proc/" - 1;
    if (strncmp(path, "/proc/", sizeof "/proc/" - 1) != 0 || !text_parse_number(&at, &process)) return false;
    const char *last = memrchr(path, '/', (size_t)length);
    return process == (uint64_t)sys_getpid() && (strcmp(last, "/fd") == 0 || strcmp(last, "/fdinfo") == 0);
}

/* Most names are no number, and most numbers no descriptor of ours.  The one that was in the listing when libc read it
 * may be gone by now: with the image that the program has just closed. */
static bool is_private_entry(const char *name, DIR *directory)
{
    uint64_t number;
    if (*name < '0' || *name > '9' || !text_parse_number(&name, &number) || *name || number > INT32_MAX) return false;
    return (track_is_private((int)number) || track_was_private((int)number)) && lists_descriptors(directory);
}

#define WRAP_READDIR(name, type)                                       \
    EXPORT type *name(DIR *directory)                                  \
    {                                                                  \
        type *entry;                                                   \
        do {                                                           \
            entry = REAL(name)(directory);                             \
        } while (entry && is_private_entry(entry->d_name, directory)); \
        return entry;                                                  \
    }

#define WRAP_READDIR_R(name, type)                                                 \
    EXPORT int name(DIR *directory, type *entry, type **result)                    \
    {                                                                              \
        int error;                                                                 \
        do {                                                                       \
            error = REAL(name)(directory, entry, result);                          \
        } while (!error && *result && is_private_entry(entry->d_name, directory)); \
        return error;                                                              \
    }

WRAP_READDIR(readdir, struct dirent)
WRAP_READDIR(readdir64, struct dirent64)
WRAP_READDIR_R(readdir_r, struct dirent)
WRAP_READDIR_R(readdir64_r, struct dirent64)
