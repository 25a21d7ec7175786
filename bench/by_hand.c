/* by_hand.c: a preload library that locks one image, BY_HAND_IMAGE, with nothing but the system calls that the protocol
 * takes: the lock file, BY_HAND_LOCK, is named beforehand, and no other file is looked at; a second descriptor, a fork,
 * a signal or a thread would confuse it.  What programs take at least. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "by_hand.h"

static const char *wanted, *lock_path;
static char record[256];
static int image = -1, lock = -1;

static void read_piece(const char *path, char *bytes, size_t size)
{
    int file = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    sys_read(file, bytes, size);
    sys_close(file);
}

/* What a record says of its process: when it started, on which boot, in which PID namespace. */
static void describe(void)
{
    char stat[512];
    memset(record, ' ', sizeof record);
    read_piece("/proc/self/stat", stat, sizeof stat);
    memcpy(record, stat, 64);
    read_piece("/proc/sys/kernel/random/boot_id", record + 64, 64);
    sys_readlinkat(AT_FDCWD, "/proc/self/ns/pid", record + 128, 64);
}

static int open_wanted(int directory, const char *path, int flags, mode_t mode)
{
    int descriptor = sys_openat(directory, path, flags, mode);
    if (descriptor >= 0 && strcmp(path, wanted) == 0) {
        if (record[0] == '\0') describe();
        lock = by_hand_lock(descriptor, lock_path, flags & O_ACCMODE, 0, record, WHOLE);
        if (lock < 0) abort();
        image = descriptor;
    }
    if (descriptor >= 0) return descriptor;
    errno = -descriptor;
    return -1;
}

#define WRAP_OPEN(name)                                  \
    int name(const char *path, int flags, ...)           \
    {                                                    \
        va_list rest;                                    \
        va_start(rest, flags);                           \
        mode_t mode = (mode_t)va_arg(rest, int);         \
        va_end(rest);                                    \
        return open_wanted(AT_FDCWD, path, flags, mode); \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)

/* mkfs.ext4 opens its image by this one, but for the first time. */
int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags)
{
    return open_wanted(AT_FDCWD, path, flags, 0);
}

int close(int descriptor)
{
    int result = sys_close(descriptor);
    if (descriptor == image) {
        image = -1;
        sys_close(lock);
    }
    if (result == 0) return 0;
    errno = -result;
    return -1;
}

__attribute__((constructor)) static void start(void)
{
    wanted = getenv("BY_HAND_IMAGE");
    lock_path = getenv("BY_HAND_LOCK");
    if (!wanted || !lock_path) abort();
    /* Where there are threads, the kernel waits for them before it enlarges the table of descriptors. */
    sys_close(sys_fcntl(0, F_DUPFD_CLOEXEC, BY_HAND_HIGH));
}
