#include "block_device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "realpath.h"
#include "sys.h"
#include "text.h"

/* ---- /sys/dev/block ------------------------------------------------------------------------------------- */

enum { SYSFS_PATH = 128, WORD = 64 };

/* "/sys/dev/block/7:0" and what is to be found below it.  A name of sysfs has no more than 32 bytes here. */
static void sysfs_path(char path[SYSFS_PATH], dev_t device, const char *below, const char *file)
{
    struct text text = text_in(path, SYSFS_PATH);
    text_append(&text, "/sys/dev/block/");
    text_append_number(&text, major(device));
    text_append(&text, ":");
    text_append_number(&text, minor(device));
    text_append(&text, below);
    text_append(&text, file);
}

/* A small file of sysfs; false: there is none. */
static bool read_sysfs(const char *path, char word[WORD])
{
    const int descriptor = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return false;
    const ssize_t length = sys_read(descriptor, word, WORD - 1);
    sys_close(descriptor);
    if (length <= 0) return false;
    word[length] = '\0';
    return true;
}

static bool parse_device(const char *word, dev_t *device)
{
    uint64_t first, second;
    if (!text_parse_number(&word, &first) || *word++ != ':' || !text_parse_number(&word, &second)) return false;
    *device = makedev((unsigned)first, (unsigned)second);
    return true;
}

bool block_device_is_empty(dev_t device)
{
    char path[SYSFS_PATH], word[WORD];
    sysfs_path(path, device, "/size", "");
    return read_sysfs(path, word) && strcmp(word, "0\n") == 0;
}

/* Is it a partition, and of which disk?  The directory of a partition lies in that of its disk. */
static bool is_partition(dev_t device, dev_t *disk)
{
    char path[SYSFS_PATH], word[WORD];
    sysfs_path(path, device, "/partition", "");
    if (!read_sysfs(path, word)) return false;
    sysfs_path(path, device, "/../dev", "");
    return read_sysfs(path, word) && parse_device(word, disk);
}

/* Is this directory of a disk that of a partition, and of which number? */
static bool is_partition_of(dev_t disk, const char *name, dev_t *partition)
{
    char path[SYSFS_PATH], word[WORD], below[40];
    struct text text = text_in(below, sizeof below);
    if (strlen(name) > 32) return false;
    text_append(&text, "/");
    text_append(&text, name);
    sysfs_path(path, disk, below, "/partition");
    if (!read_sysfs(path, word)) return false;
    sysfs_path(path, disk, below, "/dev");
    return read_sysfs(path, word) && parse_device(word, partition);
}

void block_device_each_related(dev_t device, bool (*act)(dev_t related, void *context), void *context)
{
    char path[SYSFS_PATH];
    char entries[1024] __attribute__((aligned(8)));
    dev_t related;
    long got;
    if (is_partition(device, &related)) {
        act(related, context);
        return;
    }
    sysfs_path(path, device, "/", "");
    const int directory = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0) return;
    bool more = true;
    while (more && (got = sys_getdents(directory, entries, sizeof entries)) > 0)
        for (long at = 0; more && at < got;) {
            const struct sys_entry *entry = (const struct sys_entry *)(entries + at);
            at += entry->length;
            if (entry->name[0] != '.' && is_partition_of(device, entry->name, &related)) more = act(related, context);
        }
    sys_close(directory);
}

/* Do they lie on the same storage? */
static bool overlap(dev_t one, dev_t other)
{
    dev_t disk;
    if (one == other) return true;
    if (is_partition(one, &disk)) return disk == other;
    return is_partition(other, &disk) && disk == one;
}

/* ---- who has it ----------------------------------------------------------------------------------------- */

bool block_device_is_claimed(int descriptor)
{
    char link[32];
    realpath_descriptor_link(descriptor, link);
    const int claimed = sys_openat(AT_FDCWD, link, O_RDONLY | O_EXCL | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    if (claimed >= 0) sys_close(claimed);
    return claimed == -EBUSY;
}

/* /proc/self/mountinfo, byte by byte: the third word of a line is the device, the fifth the mount point. */
struct mounts {
    dev_t device;
    int word;   /* of the line, from 0 on */
    bool found; /* the line is one of the device's */
    struct text text;
};

/* The end of a word.  False: that was the mount point. */
static bool end_word(struct mounts *mounts, char end)
{
    dev_t device;
    if (mounts->word == 4 && mounts->found) return false;
    if (mounts->word == 2)
        mounts->found =
            parse_device(mounts->text.bytes, &device) && major(device) != 0 && overlap(mounts->device, device);
    mounts->word = end == '\n' ? 0 : mounts->word + 1;
    if (end == '\n') mounts->found = false;
    return true;
}

bool block_device_mount_point(dev_t device, char *point, size_t size)
{
    char bytes[1024];
    ssize_t got;
    bool found = false;
    struct mounts mounts = {.device = device, .text = text_in(point, size)};
    const int file = sys_openat(AT_FDCWD, "/proc/self/mountinfo", O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return false;
    while (!found && (got = sys_read(file, bytes, sizeof bytes)) > 0)
        for (const char *at = bytes; at < bytes + got && !found; at++) {
            if (*at != ' ' && *at != '\n') {
                if (mounts.word == 2 || mounts.word == 4) text_append_untrusted(&mounts.text, at, 1);
                continue;
            }
            found = !end_word(&mounts, *at);
            if (!found) mounts.text = text_in(point, size);
        }
    sys_close(file);
    return found;
}

bool block_device_is_open_here(dev_t device, int descriptor)
{
    char entries[1024] __attribute__((aligned(8)));
    struct stat status;
    long got;
    bool open = false;
    const int directory = sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0) return false;
    while (!open && (got = sys_getdents(directory, entries, sizeof entries)) > 0)
        for (long at = 0; !open && at < got;) {
            const struct sys_entry *entry = (const struct sys_entry *)(entries + at);
            const char *digits = entry->name;
            uint64_t number;
            at += entry->length;
            if (!text_parse_number(&digits, &number) || (int)number == descriptor) continue;
            open = sys_fstat((int)number, &status) == 0 && S_ISBLK(status.st_mode) &&
                   !(sys_fcntl((int)number, F_GETFL, 0) & O_PATH) && overlap(device, status.st_rdev);
        }
    sys_close(directory);
    return open;
}
