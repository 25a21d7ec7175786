/* other_name.c: what marks on an image itself say of a lock that is not in this image's lock file: somebody has locked
 * it by another name, in another lock directory, or on another host. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "holders.h"
#include "lock_file_look.h"
#include "memory.h"
#include "other_name.h"
#include "process_scan.h"

/* Where a descriptor of a process leads, by the kernel's word.  False: it cannot be told. */
static bool read_link(pid_t pid, const char *number, char path[PATH_MAX])
{
    char link[300];
    snprintf(link, sizeof link, "/proc/%d/fd/%s", pid, number);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return false;
    path[length] = '\0';
    return true;
}

/* Was this the image's lock file, and is it deleted?  The kernel says so behind the path. */
static bool is_deleted_lock_file(const char *path, const char *image)
{
    static const char deleted[] = LOCK_FILE_SUFFIX " (deleted)";
    struct lock_name right;
    const char *name = strrchr(path, '/');
    lock_name_of_path(image, &right);
    if (!name || strncmp(++name, LOCK_FILE_PREFIX, strlen(LOCK_FILE_PREFIX)) != 0) return false;
    name += strlen(LOCK_FILE_PREFIX);
    return strncmp(name, right.hex, strlen(right.hex)) == 0 && strcmp(name + strlen(right.hex), deleted) == 0;
}

/* The image that a lock file is of, by its own word.  *directory: where it lies. */
static bool is_lock_file(char *path, char image[PATH_MAX], const char **directory)
{
    struct lock_name name, right;
    struct lock_problem problem;
    char *slash = strrchr(path, '/');
    if (!slash || slash == path || !lock_file_parse(slash + 1, &name)) return false;
    *slash = '\0';
    *directory = path;
    int descriptor = lock_file_look(path, &name, &problem);
    if (descriptor < 0) return false;
    bool told = record_read_header(descriptor, image);
    close(descriptor);
    if (!told) return false;
    /* What the header says counts if it is what the lock file is named by; with IMGLOCK_KEY=inode it is not. */
    lock_name_of_path(image, &right);
    return strcmp(right.hex, name.hex) == 0;
}

static bool is_same_file(const char *path, const struct file_identity *wanted)
{
    struct file_identity identity;
    return identify_file(AT_FDCWD, path, &identity) && identity.device == wanted->device &&
           identity.inode == wanted->inode;
}

static char *join(const char *before, const char *path)
{
    char *words = memory_get(strlen(before) + strlen(path) + 1, 1);
    strcat(strcpy(words, before), path);
    return words;
}

char *other_name_of(const char *directory, const char *image, pid_t pid, int descriptor)
{
    char path[PATH_MAX], locked[PATH_MAX], *words = NULL;
    struct file_identity wanted;
    const char *place;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *stream = opendir(path);
    const bool known = identify_file(AT_FDCWD, image, &wanted);
    for (const struct dirent *entry; stream && !words && (entry = readdir(stream));) {
        if (!read_link(pid, entry->d_name, path)) continue;
        if (is_deleted_lock_file(path, image)) words = join("in a lock file that was deleted", "");
        if (words || !is_lock_file(path, locked, &place)) continue;
        /* Of a name that is gone, a directory above it was renamed. */
        if (access(locked, F_OK) == 0 && !(known && is_same_file(locked, &wanted))) continue;
        if (strcmp(locked, image) != 0)
            words = join("as ", locked);
        else if (strcmp(place, directory) != 0)
            words = join("in ", place);
    }
    if (stream) closedir(stream);
    char number[16];
    snprintf(number, sizeof number, "%d", descriptor);
    if (!words && read_link(pid, number, path) && strcmp(path, image) != 0) words = join("as ", path);
    return words;
}

bool image_locks_ask(const char *image, struct mark_meaning *meaning)
{
    /* QEMU's bytes each by themselves, and what is around them. */
    static const struct {
        off_t start, length;
    } ranges[] = {{USED_BYTE, MARK_WRITES},
                  {UNSHARED_BYTE, MARK_UNSHARED},
                  {1, USED_BYTE - 1},
                  {USED_BYTE + MARK_WRITES, UNSHARED_BYTE - USED_BYTE - MARK_WRITES},
                  {UNSHARED_BYTE + MARK_UNSHARED, 0}};
    *meaning = (struct mark_meaning){.bytes = 0};
    int descriptor = open(image, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (descriptor < 0) return false;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        struct bytes_found found;
        if (bytes_held(descriptor, F_WRLCK, ranges[i].start, ranges[i].length, &found) <= 0) continue;
        const struct fdinfo_lock lock = {.owner = found.pid > 0 ? FDINFO_PROCESS : FDINFO_DESCRIPTION,
                                         .exclusive = found.type == F_WRLCK,
                                         .start = found.start,
                                         .end = found.length ? found.start + found.length - 1 : INT64_MAX};
        mark_note(meaning, &lock);
    }
    close(descriptor);
    return meaning->bytes != 0;
}
