/* name.c: the image that a name on the command line stands for. */
#include "name.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "protocol.h"
#include "realpath.h"

bool name_is_gluster(const char *name)
{
    return strncmp(name, LOCK_GLUSTER, sizeof LOCK_GLUSTER - 1) == 0;
}

int name_real_path(const char *name, char path[PATH_MAX], bool *exists, struct stat *status)
{
    bool deleted = false;
    ssize_t length;
    if (!*name) return ENOENT;
    if (name_is_gluster(name)) {
        *exists = false;
        if (strlen(name) >= PATH_MAX) return ENAMETOOLONG;
        strcpy(path, name);
        return 0;
    }
    /* As the library does: the kernel's own word for a file that exists; /dev/fd/3 has one, too. */
    int descriptor = open(name, O_PATH | O_CLOEXEC);
    *exists = descriptor >= 0;
    if (*exists) {
        length = realpath_of_descriptor(descriptor, path, &deleted);
        if (fstat(descriptor, status) < 0) length = -errno;
        close(descriptor);
        if (deleted) return ENOENT;
        if (length != -ENOENT) return length < 0 ? (int)-length : 0;
    } else if (errno != ENOENT) {
        return errno;
    }
    length = realpath_of_name(AT_FDCWD, name, true, path);
    return length < 0 ? (int)-length : 0;
}
