#include "realpath.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "sys.h"
#include "text.h"

enum { LINKS_MAX = 40 }; /* as many as the kernel follows, path_resolution(7) */

void realpath_descriptor_link(int descriptor, char link[32])
{
    static const char prefix[] = "/proc/self/fd/";
    char *end = link + sizeof prefix - 1;
    unsigned number = descriptor < 0 ? 0u - (unsigned)descriptor : (unsigned)descriptor;
    memcpy(link, prefix, sizeof prefix - 1);
    if (descriptor < 0) *end++ = '-';
    for (unsigned rest = number; rest >= 10; rest /= 10) end++;
    end[1] = '\0';
    for (; number >= 10; number /= 10) *end-- = (char)('0' + number % 10);
    *end = (char)('0' + number);
}

ssize_t realpath_of_descriptor_in(int descriptor, char *path, size_t size, bool *deleted)
{
    static const char suffix[] = " (deleted)"; /* d_path() in fs/d_path.c */
    char link[32];
    realpath_descriptor_link(descriptor, link);
    *deleted = false;
    ssize_t length = sys_readlinkat(AT_FDCWD, link, path, size);
    if (length < 0) return length;
    if ((size_t)length >= size) return -ENAMETOOLONG;
    path[length] = '\0';
    ssize_t bare = length - (ssize_t)(sizeof suffix - 1);
    struct stat status;
    /* A file may be called "x (deleted)"; only one that is not found under that name has lost its own. */
    if (bare > 0 && memcmp(path + bare, suffix, sizeof suffix) == 0 && sys_fstat(descriptor, &status) == 0 &&
        sys_fstatat(AT_FDCWD, path, &(struct stat){0}, AT_SYMLINK_NOFOLLOW) != 0) {
        path[bare] = '\0';
        *deleted = true;
        return bare;
    }
    return length;
}

/* What a walk needs beside the path.  Mapped: on a signal handler's stack there may be no room for it. */
struct walk_space {
    char pending[PATH_MAX]; /* what is still to be walked; a symbolic link's target is put in front of it */
    char target[PATH_MAX];
};

/* Without /proc: names from the root or the current directory are resolved component by component, and the path of an
 * open directory is found by climbing from it to the root. */
static ssize_t walk(const char *name, char *path, size_t size, struct walk_space *space)
{
    char *const pending = space->pending;
    size_t pending_length = strlen(name);
    size_t length = 0;
    if (pending_length >= sizeof space->pending) return -ENAMETOOLONG;
    memcpy(pending, name, pending_length + 1);
    if (name[0] != '/') {
        long taken = sys_call(SYS_getcwd, (long)path, (long)size, 0, 0, 0, 0);
        if (taken < 0) return taken == -ERANGE ? -ENAMETOOLONG : taken;
        length = (size_t)taken - 1;
        if (length == 1) length = 0;
    }
    int links = 0;
    for (char *at = pending; *at;) {
        while (*at == '/') at++;
        size_t step = strcspn(at, "/");
        if (step == 0) break;
        if (step == 1 && at[0] == '.') {
            at += step;
            continue;
        }
        if (step == 2 && at[0] == '.' && at[1] == '.') {
            while (length && path[--length] != '/') continue;
            at += step;
            continue;
        }
        if (length + 1 + step >= size) return -ENAMETOOLONG;
        size_t before = length;
        path[length++] = '/';
        memcpy(path + length, at, step);
        length += step;
        path[length] = '\0';
        ssize_t target_length = sys_readlinkat(AT_FDCWD, path, space->target, sizeof space->target);
        at += step;
        if (target_length == -EINVAL) continue; /* no symbolic link */
        if (target_length < 0) return target_length;
        if (++links > LINKS_MAX) return -ELOOP;
        size_t rest = strlen(at);
        if ((size_t)target_length + rest >= sizeof space->pending) return -ENAMETOOLONG;
        memmove(pending + target_length, at, rest + 1);
        memcpy(pending, space->target, (size_t)target_length);
        length = space->target[0] == '/' ? 0 : before;
        at = pending;
    }
    if (length == 0) path[length++] = '/';
    path[length] = '\0';
    return (ssize_t)length;
}

static ssize_t resolve_by_walking(const char *name, char *path, size_t size)
{
    struct walk_space *space = sys_mmap(sizeof *space);
    if (!space) return -ENOMEM;
    ssize_t result = walk(name, path, size, space);
    sys_munmap(space, sizeof *space);
    return result;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The name of the directory *child in its parent; under a mount point the entry's inode is another one's.  Its length,
 * or -errno. */
static ssize_t name_in_parent(int parent, const struct stat *child, char name[NAME_MAX + 1])
{
    char bytes[1024] __attribute__((aligned(8)));
    for (int pass = 0; pass < 2; pass++) {
        sys_call(SYS_lseek, parent, 0, SEEK_SET, 0, 0, 0);
        for (long size; (size = sys_getdents(parent, bytes, sizeof bytes)) != 0;) {
            if (size < 0) return size;
            for (long at = 0; at < size; at += ((const struct sys_entry *)(bytes + at))->length) {
                const struct sys_entry *entry = (const struct sys_entry *)(bytes + at);
                struct stat status;
                if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0) continue;
                if (entry->type != DT_DIR && entry->type != DT_UNKNOWN) continue;
                if (pass == 0 && entry->inode != child->st_ino) continue;
                if (sys_fstatat(parent, entry->name, &status, AT_SYMLINK_NOFOLLOW) < 0 || !is_same(&status, child))
                    continue;
                size_t length = strnlen(entry->name, NAME_MAX);
                memcpy(name, entry->name, length);
                return (ssize_t)length;
            }
        }
    }
    return -ENOENT;
}

static ssize_t resolve_by_climbing(int directory, char *path, size_t size)
{
    struct stat root, here, above;
    size_t at = size - 1; /* the path grows from the end */
    ssize_t result = sys_fstatat(AT_FDCWD, "/", &root, 0);
    int child = sys_openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (child < 0) return child;
    if (result == 0) result = sys_fstat(child, &here);
    path[at] = '\0';
    while (result == 0 && !is_same(&here, &root)) {
        char name[NAME_MAX + 1];
        int parent = sys_openat(child, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
        sys_close(child);
        child = parent;
        if (parent < 0) return parent;
        result = sys_fstat(parent, &above);
        if (result < 0 || is_same(&above, &here)) break; /* the root of all: this directory lies outside of ours */
        result = name_in_parent(parent, &here, name);
        if (result < 0) break;
        if (at < (size_t)result + 1) {
            result = -ENAMETOOLONG;
            break;
        }
        at -= (size_t)result;
        memcpy(path + at, name, (size_t)result);
        path[--at] = '/';
        here = above;
        result = 0;
    }
    sys_close(child);
    if (result < 0) return result;
    if (!path[at]) path[--at] = '/';
    size_t length = size - 1 - at;
    memmove(path, path + at, length + 1);
    return (ssize_t)length;
}

/* The real path of the open directory that this thread asked for last.  rm -r deletes thousands of names in one: 20,000
 * take 1.36 times as long as bare with this, and 1.61 times without.  Good for one tick of the clock, 1 to 10 ms, and
 * until this process renames anything: another that moves the directory in that moment might as well have done so
 * between our question and the deletion.  generation is odd while the entry changes, so that a signal handler in
 * between leaves it alone. */
static _Atomic unsigned renames;
static _Thread_local struct {
    volatile unsigned generation;
    unsigned renames;
    int descriptor;
    dev_t device;
    ino_t inode;
    struct timespec tick;
    ssize_t length; /* 0: empty */
    char path[256];
} last_directory;

void realpath_forget(void)
{
    atomic_fetch_add(&renames, 1);
}

static ssize_t read_directory_link(int directory, char *path, size_t size)
{
    char link[32];
    realpath_descriptor_link(directory, link);
    return sys_readlinkat(AT_FDCWD, link, path, size);
}

static ssize_t path_of_open_directory(int directory, char *path, size_t size)
{
    struct stat status;
    struct timespec tick;
    if (sys_fstat(directory, &status) < 0 || clock_gettime(CLOCK_MONOTONIC_COARSE, &tick) < 0)
        return read_directory_link(directory, path, size);
    const unsigned renamed = atomic_load(&renames);
    unsigned generation = last_directory.generation;
    atomic_signal_fence(memory_order_seq_cst);
    if (generation % 2 == 0 && last_directory.length && last_directory.renames == renamed &&
        last_directory.descriptor == directory && last_directory.device == status.st_dev &&
        last_directory.inode == status.st_ino && last_directory.tick.tv_sec == tick.tv_sec &&
        last_directory.tick.tv_nsec == tick.tv_nsec) {
        ssize_t length = last_directory.length;
        memcpy(path, last_directory.path, (size_t)length);
        atomic_signal_fence(memory_order_seq_cst);
        if (last_directory.generation == generation) return length;
    }
    ssize_t length = read_directory_link(directory, path, size);
    if (length <= 0 || (size_t)length > sizeof last_directory.path || last_directory.generation % 2) return length;
    last_directory.generation++;
    atomic_signal_fence(memory_order_seq_cst);
    last_directory.renames = renamed;
    last_directory.descriptor = directory;
    last_directory.device = status.st_dev;
    last_directory.inode = status.st_ino;
    last_directory.tick = tick;
    last_directory.length = length;
    memcpy(last_directory.path, path, (size_t)length);
    atomic_signal_fence(memory_order_seq_cst);
    last_directory.generation++;
    return length;
}

/* The real path of directory itself. */
static ssize_t real_start(int directory, char *path, size_t size)
{
    /* The common case of rm -r and rsync: a plain name below an open directory. */
    ssize_t result = directory == AT_FDCWD ? sys_readlinkat(AT_FDCWD, "/proc/self/cwd", path, size)
                                           : path_of_open_directory(directory, path, size);
    if (result == (ssize_t)size) return -ENAMETOOLONG;
    if (result > 0) path[result] = '\0';
    if (result != -ENOENT) return result;
    return directory == AT_FDCWD ? resolve_by_walking(".", path, size) : resolve_by_climbing(directory, path, size);
}

/* The real path of the directory parent, seen from directory. */
static ssize_t real_parent(int directory, const char *parent, char *path, size_t size)
{
    bool deleted = false;
    int opened = sys_openat(directory, parent, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (opened < 0) return opened;
    ssize_t result = realpath_of_descriptor_in(opened, path, size, &deleted);
    const bool climb = result == -ENOENT && directory != AT_FDCWD && *parent != '/';
    if (climb) result = resolve_by_climbing(opened, path, size);
    sys_close(opened);
    if (result == -ENOENT && !climb) return resolve_by_walking(parent, path, size);
    return deleted ? -ENOENT : result;
}

/* The real path of the directory that name[0..length) denotes, seen from directory; length 0 is directory
 * itself. */
static ssize_t real_directory(int directory, const char *name, size_t length, char *path, size_t size)
{
    char near[256];
    if (length == 0) return real_start(directory, path, size);
    char *parent = length < sizeof near ? near : sys_mmap(PATH_MAX);
    if (!parent) return -ENOMEM;
    memcpy(parent, name, length);
    parent[length] = '\0';
    ssize_t result = real_parent(directory, parent, path, size);
    if (parent != near) sys_munmap(parent, PATH_MAX);
    return result;
}

/* The real path of name itself, a symbolic link at its end not followed. */
static ssize_t real_name(int directory, const char *name, char *path, size_t size)
{
    size_t length = strlen(name);
    if (length >= PATH_MAX) return -ENAMETOOLONG;
    const char *slash = memrchr(name, '/', length);
    const char *last = slash ? slash + 1 : name;
    size_t last_length = (size_t)(name + length - last);
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) return -EISDIR;
    /* "/disk.img" lies in "/"; "disk.img" in directory. */
    size_t parent_length = slash ? (size_t)(slash - name) + (slash == name) : 0;
    ssize_t result = real_directory(directory, name, parent_length, path, size);
    if (result < 0) return result;
    size_t at = (size_t)result;
    if (at + 1 + last_length >= size) return -ENAMETOOLONG;
    if (at > 1) path[at++] = '/';
    memcpy(path + at, last, last_length + 1);
    return (ssize_t)(at + last_length);
}

/* The path is a symbolic link; where it leads. */
static ssize_t follow_links(char *path, ssize_t length, size_t size, char target[PATH_MAX])
{
    for (int links = 0;; links++) {
        ssize_t target_length = sys_readlinkat(AT_FDCWD, path, target, PATH_MAX);
        if (target_length < 0) return length; /* no link: a file, or a name to be created */
        if (links >= LINKS_MAX) return -ELOOP;
        if (target_length >= PATH_MAX) return -ENAMETOOLONG;
        target[target_length] = '\0';
        if (target[0] != '/') {
            /* Relative to the directory that the link lies in, whose real path stands before it. */
            size_t base = (size_t)((char *)memrchr(path, '/', (size_t)length) + 1 - path);
            if (base + (size_t)target_length >= PATH_MAX) return -ENAMETOOLONG;
            memmove(target + base, target, (size_t)target_length + 1);
            memcpy(target, path, base);
        }
        length = real_name(AT_FDCWD, target, path, size);
        if (length < 0) return length;
    }
}

ssize_t realpath_of_nameless(const char *path, const struct stat *status, char *shown)
{
    static const char memory[] = "/memfd:";
    if (path[1] && (path[1] != 'm' || status->st_nlink || strncmp(path, memory, sizeof memory - 1) != 0)) return 0;
    char number[64];
    struct text text = text_in(number, sizeof number);
    text_append(&text, path[1] ? ":" : "(no name):");
    text_append_number(&text, major(status->st_dev));
    text_append(&text, ":");
    text_append_number(&text, minor(status->st_dev));
    text_append(&text, ":");
    text_append_number(&text, (long long)status->st_ino);
    size_t length = strlen(path);
    if (length > PATH_MAX - sizeof number) length = PATH_MAX - sizeof number;
    memmove(shown, path, length);
    memcpy(shown + length, number, text.length);
    shown[length + text.length] = '\0';
    return (ssize_t)(length + text.length);
}

ssize_t realpath_of_name_in(int directory, const char *name, bool follow, char *path, size_t size)
{
    char byte;
    ssize_t length = real_name(directory, name, path, size);
    if (length < 0 || !follow || sys_readlinkat(AT_FDCWD, path, &byte, 1) < 0) return length;
    char *target = sys_mmap(PATH_MAX);
    if (!target) return -ENOMEM;
    length = follow_links(path, length, size, target);
    sys_munmap(target, PATH_MAX);
    return length;
}
