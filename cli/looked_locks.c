/* looked_locks.c: what the lock files tell: which images they are of, whether they are locked, and whose records lie in
 * them. */
#include "looked_locks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "blocker.h"
#include "bytes.h"
#include "complain.h"
#include "distant.h"
#include "holders.h"
#include "lock.h"
#include "lock_cache.h"
#include "lock_directory.h"
#include "lock_name.h"
#include "memory.h"
#include "regain.h"

/* An image's path in a tree of tsearch, so that two lock files of one image meet in it. */
struct image_path {
    const char *path;
    size_t image; /* index + 1 */
};

/* ---- looking at one lock file ------------------------------------------------------------------------------- */

static void add_slot(struct looked_lock *lock, const struct holder *holder, bool doubtful)
{
    lock->slots = array_grow(lock->slots, lock->slot_count, &lock->slot_room, sizeof *lock->slots);
    lock->slots[lock->slot_count++] = (struct looked_slot){.holder = *holder, .doubtful = doubtful};
}

/* Who asks for a list has more time for it than a refusal has. */
enum { MORE_NS = 30 * 1000 * 1000 };

/* The claimed slots.  A lock on the whole file, which flock --fcntl takes, covers their bytes as well, and what it
 * hides the kernel does not tell: there a slot counts only if it has a record. */
static void look_at_slots(int descriptor, struct looked_lock *lock)
{
    struct stat status;
    struct holder holder;
    struct bytes_found found;
    if (fstat(descriptor, &status) < 0) return;
    int recorded_slots = (int)((status.st_size - RECORD_OFFSET) / RECORD_SIZE);
    struct holders_walk walk = holders_begin(descriptor);
    walk.deadline += MORE_NS;
    while (holders_walk(&walk, &holder)) {
        off_t byte = SLOT_BYTE + holder.slot;
        if (bytes_held(descriptor, F_WRLCK, byte, 1, &found) <= 0) continue;
        bool doubtful = found.start != byte || found.length != 1;
        if (doubtful) {
            lock->whole = true;
            if (holder.slot >= recorded_slots) break;
            if (!holder.recorded) continue;
        }
        add_slot(lock, &holder, doubtful);
    }
    /* 4,096 slots, locked by one user, take a second; what is in the way is told by the kernel all the same. */
    if (walk.unfinished)
        complain("%s%s%s: some of its records were looked at, and more were not", LOCK_FILE_PREFIX, lock->name.hex,
                 LOCK_FILE_SUFFIX);
}

unsigned lock_find_blocked(int descriptor)
{
    unsigned blocked = 0;
    if (bytes_held(descriptor, F_WRLCK, OPERATION_BYTE, OPERATIONS, NULL) <= 0) return 0;
    for (int i = 0; i < OPERATIONS; i++)
        if (blocker_find(descriptor, 1u << i)) blocked |= 1u << i;
    return blocked;
}

/* Who holds it, from the lock file alone. */
static void look_at_bytes(int descriptor, struct looked_lock *lock)
{
    struct bytes_found found;
    lock->held = lock_in_the_way(descriptor, LOCK_EXCLUSIVE) > 0;
    if (lock->held) lock->mode = lock_in_the_way(descriptor, LOCK_SHARED) > 0 ? LOCK_EXCLUSIVE : LOCK_SHARED;
    if (bytes_held(descriptor, F_WRLCK, LOCK_BYTE, LOCK_BYTES, &found) > 0 && found.pid > 0)
        lock->process_lock_pid = found.pid;
    lock->blocked = lock_find_blocked(descriptor);
    look_at_slots(descriptor, lock);
}

/* ---- images ------------------------------------------------------------------------------------------------- */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct image_path *)a)->path, ((const struct image_path *)b)->path);
}

/* The name of an image's lock, whether or not there is such a file. */
static void name_lock(const char *path, struct lock_name *name)
{
    struct stat status;
    lock_name_of_image(path, stat(path, &status) < 0 ? NULL : &status, name);
}

/* Is a file that a lock file tells of gone, or where this user cannot look, or no file?  Then it is told of by its name
 * alone. */
static bool is_out_of_reach(int error)
{
    return !error || error == ENOENT || error == ENOTDIR || error == ELOOP || error == ENAMETOOLONG ||
           error == EACCES || error == EPERM || error == ENOTCONN || error == ESTALE;
}

/* Index + 1. */
static size_t add_image(struct usage_list *list, struct process_scan *scan, const char *path)
{
    struct image_path wanted = {.path = path};
    struct image_path **place = tfind(&wanted, &list->image_tree, by_path);
    if (place) return (*place)->image;
    struct looked_image image = {.path = string_keep(path)};
    struct file_identity identity;
    name_lock(path, &image.name);
    errno = 0;
    image.exists = identify_file(AT_FDCWD, path, &identity);
    if (!image.exists && !is_out_of_reach(errno)) {
        complain("%s: cannot look at it: %s", path, strerror(errno));
        list->failed = true;
    }
    if (image.exists) image.file = scan_add(scan, &identity, false);
    list->images = array_grow(list->images, list->image_count, &list->image_room, sizeof *list->images);
    list->images[list->image_count++] = image;
    struct image_path *node = memory_get(1, sizeof *node);
    *node = (struct image_path){.path = image.path, .image = list->image_count};
    if (!tsearch(node, &list->image_tree, by_path)) exit(complain("%s", strerror(ENOMEM)));
    return list->image_count;
}

static void add_lock(struct usage_list *list, const struct looked_lock *lock)
{
    list->locks = array_grow(list->locks, list->lock_count, &list->lock_room, sizeof *list->locks);
    list->locks[list->lock_count++] = *lock;
    if (!lock->image) return;
    size_t *locks = list->images[lock->image - 1].locks;
    locks[locks[0] ? 1 : 0] = list->lock_count;
}

/* Does the lock of this name belong to the image at this path, by its path or by its inode? */
static bool belongs(const struct lock_name *name, const char *path)
{
    struct lock_name right;
    struct stat status;
    lock_name_of_path(path, &right);
    if (strcmp(right.hex, name->hex) == 0) return true;
    if (stat(path, &status) < 0) return false;
    lock_name_of_inode(&status, &right);
    return strcmp(right.hex, name->hex) == 0;
}

static bool is_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    if (length == 1) return true; /* the root */
    return strncmp(path, directory, length) == 0 && path[length] == '/';
}

static bool is_asked_for(const struct question *question, const char *path)
{
    if (!question->count) return true;
    for (size_t i = 0; i < question->count; i++)
        if (question->named[i].directory && path && is_below(path, question->named[i].path)) return true;
    return false;
}

/* ---- looking at all of them --------------------------------------------------------------------------------- */

static bool is_listed(const struct usage_list *list, const struct lock_name *name)
{
    for (size_t i = 0; i < list->lock_count; i++)
        if (strcmp(list->locks[i].name.hex, name->hex) == 0) return true;
    return false;
}

static void complain_of_lock(const struct question *question, const struct lock_name *name,
                             const struct lock_problem *problem)
{
    char path[PATH_MAX];
    lock_path(question->settings->directory, name, path);
    complain("%s: %s%s%s", path, problem->what, problem->error ? ": " : "",
             problem->error ? strerror(problem->error) : "");
}

/* Looks at one lock.  image: its path where that is known; else the lock file's header says it, if it is asked for. */
static void look_at_lock(const struct question *question, const struct lock_name *name, size_t image,
                         struct usage_list *list, struct process_scan *scan)
{
    struct lock_problem problem = {0};
    struct looked_lock lock = {.name = *name, .image = image};
    int descriptor = lock_cache_open(question, name, &problem);
    if (descriptor < 0) {
        if (descriptor == -ENOENT) return;
        complain_of_lock(question, name, &problem);
        list->failed = true;
        return;
    }
    char path[PATH_MAX];
    const char *told = !image && record_read_header(descriptor, path) && belongs(name, path) ? path : NULL;
    struct file_identity identity;
    if ((image || is_asked_for(question, told)) && identify_file(descriptor, "", &identity)) {
        if (told) lock.image = add_image(list, scan, told);
        regain_locks(descriptor);
        look_at_bytes(descriptor, &lock);
        lock.rows = distant_shows_rows(descriptor);
        lock.file = scan_add(scan, &identity, true);
        add_lock(list, &lock);
    }
    lock_cache_close(question, descriptor);
}

/* Locks of an image that is named: by its path, and by its inode whatever IMGLOCK_KEY says here. */
static void look_at_image(const struct question *question, const char *path, struct usage_list *list,
                          struct process_scan *scan)
{
    struct lock_name name;
    struct stat status;
    size_t image = add_image(list, scan, path);
    name_lock(path, &name);
    look_at_lock(question, &name, image, list, scan);
    if (stat(path, &status) < 0) return;
    lock_name_of_inode(&status, &name);
    if (!is_listed(list, &name)) look_at_lock(question, &name, image, list, scan);
}

static void look_at_directory(const struct question *question, struct usage_list *list, struct process_scan *scan)
{
    struct lock_names names;
    int error = lock_directory_list(question->settings->directory, &names);
    if (error) {
        complain("cannot read the lock directory %s: %s", question->settings->directory, strerror(error));
        list->failed = true;
    }
    for (size_t i = 0; i < names.count; i++) look_at_lock(question, &names.names[i], 0, list, scan);
    free(names.names);
}

void locks_look_at_all(const struct question *question, struct usage_list *list, struct process_scan *scan)
{
    bool any_directory = question->count == 0;
    for (size_t i = 0; i < question->count; i++) any_directory |= question->named[i].directory;
    if (any_directory) look_at_directory(question, list, scan);
    for (size_t i = 0; i < question->count; i++) {
        const struct named_path *named = &question->named[i];
        struct lock_name name;
        if (named->directory) continue;
        name_lock(named->path, &name);
        if (!is_listed(list, &name)) look_at_image(question, named->path, list, scan);
    }
}
