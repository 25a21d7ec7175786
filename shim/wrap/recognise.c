#include "recognise.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "../block_device.h"
#include "../count.h"
#include "../realpath.h"
#include "../sys.h"
#include "record_locks.h"

/* ---- by the real name ----------------------------------------------------------------------------------- */

/* Paths up to here lie in a frame of the stack, longer ones are worth a mapping. */
enum { NEAR_PATH = 512 };

static bool lies_in(const char *path, const char *directory)
{
    return strncmp(path, directory, strlen(directory)) == 0;
}

/* What the kernel makes up, and devices.  /dev/shm is a directory like any other, and people keep images there. */
static bool is_made_up(const char *real_path, bool block_device)
{
    if (lies_in(real_path, "/proc/") || lies_in(real_path, "/sys/")) return true;
    return lies_in(real_path, "/dev/") && !lies_in(real_path, "/dev/shm/") && !block_device;
}

static int real_path_says(const struct settings *settings, const char *real_path, bool block_device)
{
    if (is_made_up(real_path, block_device)) return -1;
    const int named = settings->images ? policy_names_image(settings, real_path) : 0;
    return named || block_device ? named : image_by_extension(real_path) != NULL;
}

/* Where the real path is to be found; either of an open descriptor, or, for -1, of a name to be created. */
struct place {
    int directory;
    const char *path;
    int descriptor;
    bool block_device;
};

/* As recognise_by_real_name, or -ENAMETOOLONG where size is not enough. */
static int place_says(const struct settings *settings, const struct place *place, char *real_path, size_t size)
{
    bool deleted;
    ssize_t length =
        place->descriptor >= 0 ? realpath_of_descriptor_in(place->descriptor, real_path, size, &deleted) : -ENOENT;
    /* A new name; or a chroot without /proc. */
    if (length == -ENOENT && place->path)
        length = realpath_of_name_in(place->directory, place->path, true, real_path, size);
    if (length == -ENAMETOOLONG) return -ENAMETOOLONG;
    return length < 0 ? 0 : real_path_says(settings, real_path, place->block_device);
}

static int place_says_somewhere(const struct settings *settings, const struct place *place)
{
    char near[NEAR_PATH];
    int says = place_says(settings, place, near, sizeof near);
    if (says != -ENAMETOOLONG) return says;
    char *far = sys_mmap(PATH_MAX);
    if (!far) return 0;
    says = place_says(settings, place, far, PATH_MAX);
    sys_munmap(far, PATH_MAX);
    return says == -ENAMETOOLONG ? 0 : says;
}

__attribute__((noinline)) int recognise_by_real_name(const struct settings *settings, int directory, const char *path,
                                                     int descriptor, const struct stat *status)
{
    const struct place place = {directory, path, descriptor, S_ISBLK(status->st_mode)};
    return place_says_somewhere(settings, &place);
}

bool recognise_new(const struct settings *settings, int directory, const char *path, bool leads_on)
{
    const bool named = image_by_extension(path);
    if (!settings->images && !leads_on && !named) return false;
    const struct place place = {directory, path, -1, false};
    const int says = place_says_somewhere(settings, &place);
    return says > 0 || (says == 0 && named);
}

/* ---- by the content ------------------------------------------------------------------------------------- */

static int look_through(const struct sight *sight, int descriptor, int flags)
{
    int error;
    if (image_by_content(sight->path, descriptor, sight->status, flags, &error)) return 1;
    return -error;
}

/* A second descriptor, which follows no name again.  Apart, so that the look does not stand upon the link's name. */
static __attribute__((noinline)) int open_beside(const struct sight *sight)
{
    enum { FLAGS = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC };
    int reading = count_reopen(sight->descriptor, FLAGS);
    /* A chroot without /proc: by name, once more. */
    if (reading == -ENOENT && sight->path) reading = sys_openat(sight->directory, sight->path, FLAGS, 0);
    return reading;
}

static int look_beside(const struct sight *sight)
{
    if (record_locks_on(sight->status)) {
        const int reader = record_locks_reader(sight->status);
        if (reader >= 0) return look_through(sight, reader, sys_fcntl(reader, F_GETFL, 0));
        return record_locks_look(sight->path, sight->descriptor, sight->status);
    }
    int reading = open_beside(sight);
    /* The program has got its last descriptor. */
    if (reading == -EMFILE) return record_locks_look(sight->path, sight->descriptor, sight->status);
    if (reading < 0) return reading;
    const int shown = look_through(sight, reading, O_NONBLOCK);
    sys_close(reading);
    return shown;
}

/* 1: an image, 0: none, -errno: that cannot be told. */
static int content_shows(const struct sight *sight)
{
    if (!image_may_be_read(sight->descriptor, sight->status)) return 0;
    return sight->readable ? look_through(sight, sight->descriptor, sight->flags) : look_beside(sight);
}

/* ---- both ----------------------------------------------------------------------------------------------- */

/* Is what looks like an image one of the kernel's own files after all?  Only a file system without a device can have
 * made it up. */
static bool is_of_the_kernel(const struct settings *settings, const struct sight *sight)
{
    if (major(sight->status->st_dev) != 0) return false;
    if (!image_is_on_storage(sight->descriptor)) return true;
    return recognise_by_real_name(settings, sight->directory, sight->path, sight->descriptor, sight->status) < 0;
}

/* Whatever is on a block device, raw guests and partition tables included, whoever writes to it has to be alone.  To
 * look at one is what blkid, udev's helpers and a desktop do all the time: only IMGLOCK_IMAGES makes that reading an
 * image.  In a drive without a medium, such as a loop device that is about to be given its file, there is nothing. */
static enum recognised recognise_device(const struct settings *settings, const struct sight *sight)
{
    int named = 0;
    if (settings->images)
        named = recognise_by_real_name(settings, sight->directory, sight->path, sight->descriptor, sight->status);
    if (named == 0 && recognise_writing(sight->flags)) named = 1;
    return named > 0 && !block_device_is_empty(sight->status->st_rdev) ? RECOGNISED_IMAGE : RECOGNISED_NO_IMAGE;
}

enum recognised recognise(const struct settings *settings, const struct sight *sight, int *error)
{
    *error = 0;
    if (S_ISBLK(sight->status->st_mode)) return recognise_device(settings, sight);
    if (!image_possible(sight->status)) return RECOGNISED_NO_IMAGE;
    bool image = sight->path && image_by_extension(sight->path);
    bool asked = settings->images || (!image && (recognise_writing(sight->flags) || !sight->path));
    int named = 0;
    if (asked) {
        named = recognise_by_real_name(settings, sight->directory, sight->path, sight->descriptor, sight->status);
        if (named < 0) return RECOGNISED_NO_IMAGE;
        image = image || named > 0;
    }
    if (!image && settings->magic) {
        const int shown = content_shows(sight);
        image = shown > 0;
        if (!image && !asked && recognise_may_be_raw(sight->status))
            image =
                recognise_by_real_name(settings, sight->directory, sight->path, sight->descriptor, sight->status) > 0;
        if (!image && shown < 0) {
            *error = -shown;
            return RECOGNISED_UNKNOWN;
        }
    }
    return image && !is_of_the_kernel(settings, sight) ? RECOGNISED_IMAGE : RECOGNISED_NO_IMAGE;
}
