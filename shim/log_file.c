#include "log_file.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "sys.h"

/* The status of the directory that the file is in.  0 or -errno. */
static int directory_status(const char *path, struct stat *status)
{
    const char *slash = NULL;
    for (const char *at = path; *at; at++)
        if (*at == '/') slash = at;
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (!slash) return sys_fstatat(AT_FDCWD, ".", status, 0);
    if (length >= PATH_MAX) return -ENAMETOOLONG;
    /* Not on the stack, which may be a signal handler's. */
    char *directory = sys_mmap(PATH_MAX);
    if (!directory) return -ENOMEM;
    memcpy(directory, length ? path : "/", length ? length : 1);
    int result = sys_fstatat(AT_FDCWD, directory, status, 0);
    sys_munmap(directory, PATH_MAX);
    return result;
}

/* Everybody may write the directory.  Is the file nevertheless one that nobody else can have put there? */
static bool is_trusted(const struct stat *file, const struct stat *directory)
{
    return file->st_nlink <= 1 && (file->st_uid == sys_geteuid() || file->st_uid == directory->st_uid);
}

int log_file_open(const char *path, int flags)
{
    const int how = flags | O_CREAT | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;
    struct stat file, directory;
    int descriptor = sys_openat(AT_FDCWD, path, how | O_NOFOLLOW, 0666);
    if (descriptor == -ELOOP) {
        if (directory_status(path, &directory) < 0 || directory.st_mode & S_IWOTH) return -ELOOP;
        return sys_openat(AT_FDCWD, path, how, 0666);
    }
    if (descriptor < 0) return descriptor;
    int result = sys_fstat(descriptor, &file);
    /* The usual case, for which the directory need not be looked at. */
    if (result == 0 && file.st_uid == sys_geteuid() && file.st_nlink <= 1) return descriptor;
    if (result == 0) result = directory_status(path, &directory);
    if (result == 0 && directory.st_mode & S_IWOTH && !is_trusted(&file, &directory)) result = -EPERM;
    if (result == 0) return descriptor;
    sys_close(descriptor);
    return result;
}
