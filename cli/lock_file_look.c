/* lock_file_look.c: a lock file that is looked at, and not locked. */
#include "lock_file_look.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

static int fail(struct lock_problem *problem, int error, const char *what)
{
    lock_problem_set(problem, -error, what);
    return -(error ? error : EIO);
}

int lock_file_look(const char *directory, const struct lock_name *name, struct lock_problem *problem)
{
    char path[PATH_MAX];
    struct stat status;
    lock_path(directory, name, path);
    /* At the name may lie whatever somebody has put there. */
    int descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (descriptor < 0 && errno == ENOENT) return -ENOENT;
    if (descriptor < 0 && errno == ELOOP) return fail(problem, 0, "the lock file is a symbolic link");
    if (descriptor < 0) return fail(problem, errno, "cannot open the lock file");
    int result = descriptor;
    if (fstat(descriptor, &status) < 0)
        result = fail(problem, errno, "cannot look at the lock file");
    else if (!S_ISREG(status.st_mode))
        result = fail(problem, 0, "the lock file is no regular file");
    else if (status.st_nlink == 0)
        result = -ENOENT;
    else if (status.st_nlink > 1)
        result = fail(problem, 0, "the lock file has a second hard link");
    if (result < 0) close(descriptor);
    return result;
}
