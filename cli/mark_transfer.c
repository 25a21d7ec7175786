#include "mark_transfer.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mark.h"
#include "sys.h"

/* The process, or its descriptor, is there no more. */
static bool is_over(long error)
{
    return error == ESRCH || error == EBADF || error == ENOENT;
}

/* Calls act with a duplicate of each descriptor of the image that the process has, until it says false.  0, or why some
 * could not be reached. */
static int each_duplicate(int process, pid_t pid, const struct stat *image,
                          bool (*act)(int descriptor, int access, void *argument), void *argument)
{
    char name[32];
    bool more = true;
    int failed = 0;
    snprintf(name, sizeof name, "/proc/%d/fd", pid);
    DIR *stream = opendir(name);
    if (!stream) return is_over(errno) ? 0 : errno;
    for (const struct dirent *entry; more && (entry = readdir(stream));) {
        struct stat status;
        if (!isdigit((unsigned char)entry->d_name[0]) || fstatat(dirfd(stream), entry->d_name, &status, 0) < 0 ||
            status.st_dev != image->st_dev || status.st_ino != image->st_ino)
            continue;
        const int descriptor = (int)sys_call(SYS_pidfd_getfd, process, atoi(entry->d_name), 0, 0, 0, 0);
        if (descriptor < 0) {
            if (!is_over(-descriptor)) failed = -descriptor;
            continue;
        }
        const int flags = fcntl(descriptor, F_GETFL);
        /* The number may be another file's by now. */
        if (fstat(descriptor, &status) == 0 && status.st_dev == image->st_dev && status.st_ino == image->st_ino &&
            flags >= 0 && !(flags & O_PATH))
            more = act(descriptor, flags & O_ACCMODE, argument);
        close(descriptor);
    }
    closedir(stream);
    return failed;
}

static bool find_other_locks(int descriptor, int access, void *argument)
{
    bool *others = argument;
    (void)access;
    *others = mark_is_locked_otherwise(descriptor);
    return !*others;
}

static bool set_mark(int descriptor, int access, void *argument)
{
    const struct stat *image = argument;
    if (mark_is_possible(descriptor, image->st_dev)) mark_set(descriptor, LOCK_EXCLUSIVE, access);
    return true;
}

static bool clear_mark(int descriptor, int access, void *argument)
{
    (void)access;
    (void)argument;
    mark_clear(descriptor);
    return true;
}

bool mark_transfer(int process, pid_t pid, const struct stat *image, bool set)
{
    bool others = false;
    int error = each_duplicate(process, pid, image, find_other_locks, &others);
    if (!error && !others) error = each_duplicate(process, pid, image, set ? set_mark : clear_mark, (void *)image);
    errno = error;
    return !error;
}
