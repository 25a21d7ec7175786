#include "inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../holders.h"
#include "../image.h"
#include "../lock.h"
#include "../policy.h"
#include "../realpath.h"
#include "../sys.h"
#include "../text.h"
#include "judge.h"

/* Is this one of imglock's own lock descriptors?  By name, and by O_NONBLOCK, which imglock opens lock files with and
 * nobody else has a reason to: a lock file that the user's own flock(1) or script passes down stays theirs. */
static bool is_lock_descriptor(int descriptor, struct lock_name *name)
{
    char path[PATH_MAX];
    bool deleted;
    int flags = sys_fcntl(descriptor, F_GETFL, 0);
    if (flags < 0 || !(flags & O_NONBLOCK)) return false;
    if (realpath_of_descriptor(descriptor, path, &deleted) < 0) return false;
    const char *file = strrchr(path, '/');
    return file && lock_file_parse(file + 1, name);
}

/* The same without /proc: the header names the image, and the image the lock file.  *image: its path. */
static bool is_lock_descriptor_by_header(int descriptor, struct lock_name *name, char *image)
{
    struct stat status, named;
    const char *directory = settings_get()->directory;
    int flags = sys_fcntl(descriptor, F_GETFL, 0);
    if (flags < 0 || !(flags & O_NONBLOCK) || sys_fstat(descriptor, &status) < 0 || !S_ISREG(status.st_mode) ||
        !directory || !record_read_header(descriptor, image))
        return false;
    char path[LOCK_PATH_SIZE(directory)];
    lock_name_of_path(image, name);
    for (int by_inode = 0; by_inode < 2; by_inode++) {
        if (by_inode) {
            if (sys_fstatat(AT_FDCWD, image, &named, 0) < 0) return false;
            lock_name_of_inode(&named, name);
        }
        lock_path(directory, name, path);
        if (sys_fstatat(AT_FDCWD, path, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_dev == status.st_dev &&
            named.st_ino == status.st_ino)
            return true;
    }
    return false;
}

static void adopt_lock_by_header(int descriptor)
{
    char image[PATH_MAX];
    struct lock_name name;
    if (descriptor > 2 && is_lock_descriptor_by_header(descriptor, &name, image)) track_adopt_lock(&name, descriptor);
}

static void adopt_lock(int descriptor)
{
    struct lock_name name;
    if (descriptor > 2 && is_lock_descriptor(descriptor, &name)) track_adopt_lock(&name, descriptor);
}

enum { LOOKED_AT = 1024, TRIED = 64 };

/* The image's path from the header of a lock that came with it; false: none did. */
static bool path_from_lock(const struct stat *status, char *path)
{
    struct stat named;
    for (int descriptor = 3; descriptor < LOOKED_AT; descriptor++)
        if (track_is_private(descriptor) && record_read_header(descriptor, path) &&
            sys_fstatat(AT_FDCWD, path, &named, 0) == 0 && named.st_dev == status->st_dev &&
            named.st_ino == status->st_ino)
            return true;
    return false;
}

/* Judges an inherited image as an open by this path, NULL where none is known, would be.  There is no open that could
 * be refused: the program is. */
static void adopt_open(int descriptor, int flags, const char *path)
{
    struct opening opening = {.directory = AT_FDCWD,
                              .path = path,
                              .flags = flags & ~(O_CREAT | O_TRUNC | O_EXCL | O_CLOEXEC),
                              .purpose = PURPOSE_INHERIT};
    if (judge_opened(&opening, descriptor) < 0) sys_exit(125);
}

/* May it be an image of the program's?  Then *flags are its status flags. */
static bool is_adoptable(int descriptor, struct stat *status, int *flags)
{
    if (track_is_private(descriptor) || sys_fstat(descriptor, status) < 0 || !image_possible(status)) return false;
    *flags = sys_fcntl(descriptor, F_GETFL, 0);
    return *flags >= 0 && !(*flags & O_PATH);
}

static void adopt_image(int descriptor)
{
    struct stat status;
    int flags;
    if (is_adoptable(descriptor, &status, &flags)) adopt_open(descriptor, flags, NULL);
}

/* The same without /proc. */
static void adopt_image_by_lock(int descriptor)
{
    struct stat status;
    int flags;
    char path[PATH_MAX];
    if (is_adoptable(descriptor, &status, &flags))
        adopt_open(descriptor, flags, path_from_lock(&status, path) ? path : NULL);
}

static void each_descriptor(int directory, void (*act)(int descriptor))
{
    char bytes[1024] __attribute__((aligned(8)));
    sys_call(SYS_lseek, directory, 0, SEEK_SET, 0, 0, 0);
    for (;;) {
        long size = sys_getdents(directory, bytes, sizeof bytes);
        if (size <= 0) return;
        for (long at = 0; at < size;) {
            const struct sys_entry *entry = (const struct sys_entry *)(bytes + at);
            const char *cursor = entry->name;
            uint64_t number;
            if (text_parse_number(&cursor, &number) && (int)number != directory) act((int)number);
            at += entry->length;
        }
    }
}

/* Listing /proc/self/fd makes an inode for each descriptor; its size is their number since Linux 6.2, and to try the
 * low numbers until all are found costs a tenth.  False when some are higher up, or the kernel is older. */
static bool adopt_low(void)
{
    struct stat status;
    int numbers[TRIED];
    int found = 0;
    if (sys_fstatat(AT_FDCWD, "/proc/self/fd", &status, 0) < 0) return false;
    for (int descriptor = 0; found < status.st_size && descriptor < TRIED; descriptor++)
        if (sys_fcntl(descriptor, F_GETFD, 0) >= 0) numbers[found++] = descriptor;
    if (status.st_size == 0 || found < status.st_size) return false;
    for (int i = 0; i < found; i++) adopt_lock(numbers[i]);
    for (int i = 0; i < found; i++) adopt_image(numbers[i]);
    return true;
}

static void adopt_all(void)
{
    int directory = sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory >= 0) {
        each_descriptor(directory, adopt_lock);
        each_descriptor(directory, adopt_image);
        sys_close(directory);
    } else {
        /* A chroot without /proc: the numbers that shells hand down, and those that locks have. */
        for (int descriptor = 0; descriptor < LOOKED_AT; descriptor++) adopt_lock_by_header(descriptor);
        for (int descriptor = 0; descriptor < LOOKED_AT; descriptor++) adopt_image_by_lock(descriptor);
    }
}

void inherit_images(void)
{
    if (!adopt_low()) adopt_all();
    track_release_unused();
}
