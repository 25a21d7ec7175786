#include "record_locks.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>

#include "../bytes.h"
#include "../image.h"
#include "../realpath.h"
#include "../sys.h"
#include "../text.h"

/* Programs that lock have a pid file, a database, a mail folder.  An entry stays: to take one for locked that is not
 * any more costs some calls, the reverse costs the program its lock. */
enum { FILES = 64 };
static struct {
    _Atomic bool filled;
    _Atomic int descriptor; /* that it was locked by */
    dev_t device;
    ino_t inode;
} files[FILES];
_Atomic unsigned record_lock_files;

static int index_of(const struct stat *status)
{
    const unsigned count = atomic_load(&record_lock_files);
    for (unsigned i = 0; i < count && i < FILES; i++)
        if (atomic_load_explicit(&files[i].filled, memory_order_acquire) && files[i].device == status->st_dev &&
            files[i].inode == status->st_ino)
            return (int)i;
    return -1;
}

void record_locks_note(int descriptor)
{
    struct stat status;
    if (sys_fstat(descriptor, &status) < 0 || !image_possible(&status)) return;
    const int known = index_of(&status);
    if (known >= 0) {
        files[known].descriptor = descriptor;
        return;
    }
    const unsigned index = atomic_fetch_add(&record_lock_files, 1);
    if (index >= FILES) {
        atomic_store(&record_lock_files, FILES + 1); /* so that it never wraps around */
        return;
    }
    files[index].device = status.st_dev;
    files[index].inode = status.st_ino;
    files[index].descriptor = descriptor;
    atomic_store_explicit(&files[index].filled, true, memory_order_release);
}

/* Has the file of this descriptor a record lock that was taken by it?  Rows of fdinfo: "lock:\t1: POSIX  ADVISORY ...",
 * __show_fd_locks() in fs/locks.c. */
static bool shows_record_lock(int descriptor)
{
    char path[48] = "/proc/self/fdinfo/";
    char bytes[1024];
    struct text text = text_in(path + strlen(path), sizeof path - strlen(path));
    text_append_number(&text, descriptor);
    const int about = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (about < 0) return false;
    const ssize_t length = sys_read(about, bytes, sizeof bytes - 1);
    sys_close(about);
    if (length <= 0) return false;
    bytes[length] = '\0';
    return strstr(bytes, ": POSIX ") != NULL;
}

void record_locks_note_inherited(int descriptor)
{
    static _Atomic bool noted;
    char bytes[1024] __attribute__((aligned(8)));
    /* As an open file description's, the question meets this process's own record locks.  Most files, a shell's log
     * above all, have none, and the list below takes 30 us, a twentieth of a small program's start. */
    if (bytes_held(descriptor, F_WRLCK, 0, 0, NULL) == 0) return;
    if (atomic_exchange(&noted, true)) return;
    const int directory = sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0) return;
    for (long size; (size = sys_getdents(directory, bytes, sizeof bytes)) > 0;) {
        const struct sys_entry *entry;
        for (long at = 0; at < size; at += entry->length) {
            struct stat status;
            uint64_t number;
            entry = (const struct sys_entry *)(bytes + at);
            const char *cursor = entry->name;
            if (!text_parse_number(&cursor, &number) || (int)number == directory) continue;
            if (sys_fstat((int)number, &status) == 0 && image_possible(&status) && shows_record_lock((int)number))
                record_locks_note((int)number);
        }
    }
    sys_close(directory);
}

bool record_locks_on(const struct stat *status)
{
    if (!record_locks_exist()) return false;
    return atomic_load(&record_lock_files) > FILES || index_of(status) >= 0;
}

/* These two apart, for the stack: with link-time optimization every open would have their frames. */
__attribute__((noinline)) bool record_locks_on_path(int directory, const char *path)
{
    struct stat status;
    return path && record_locks_exist() && sys_fstatat(directory, path, &status, 0) == 0 && record_locks_on(&status);
}

__attribute__((noinline)) int record_locks_reader(const struct stat *status)
{
    struct stat now;
    const int known = index_of(status);
    if (known < 0) return -1;
    const int descriptor = files[known].descriptor;
    if (sys_fstat(descriptor, &now) < 0 || now.st_dev != status->st_dev || now.st_ino != status->st_ino) return -1;
    const int flags = sys_fcntl(descriptor, F_GETFL, 0);
    if (flags < 0 || flags & O_PATH) return -1;
    return (flags & O_ACCMODE) == O_RDONLY || (flags & O_ACCMODE) == O_RDWR ? descriptor : -1;
}

enum { CHILD_SAYS_NO, CHILD_SAYS_IMAGE, CHILD_FAILED };

static _Noreturn void look_as_child(const char *path, int descriptor, const struct stat *status)
{
    char link[32];
    int error = 0;
    realpath_descriptor_link(descriptor, link);
    /* Its table is a copy, so where that is full, there is room after this. */
    sys_close(descriptor == 0 ? 1 : 0);
    const int reading = sys_openat(AT_FDCWD, link, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    if (reading < 0) sys_exit(CHILD_FAILED);
    const char *format = image_by_content(path, reading, status, O_NONBLOCK, &error);
    sys_exit(error ? CHILD_FAILED : format ? CHILD_SAYS_IMAGE : CHILD_SAYS_NO);
}

int record_locks_look(const char *path, int descriptor, const struct stat *status)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_signals before;
    int result = 0;
    sys_sigmask(SIG_BLOCK, &all, &before);
    /* No signal at its end, and no exit handler: the program neither hears of it nor finds it by wait(2). */
    const long child = sys_call(SYS_clone, 0, 0, 0, 0, 0, 0);
    if (child == 0) look_as_child(path, descriptor, status);
    if (child > 0) {
        long waited;
        do {
            waited = sys_call(SYS_wait4, child, (long)&result, __WALL, 0, 0, 0);
        } while (waited == -EINTR);
        if (waited < 0) result = -1;
    }
    sys_sigmask(SIG_SETMASK, &before, NULL);
    if (child < 0) return (int)child;
    if (result < 0 || !WIFEXITED(result) || WEXITSTATUS(result) == CHILD_FAILED) return -EIO;
    return WEXITSTATUS(result) == CHILD_SAYS_IMAGE;
}
