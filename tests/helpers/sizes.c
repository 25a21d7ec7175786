// link: -D_FILE_OFFSET_BITS=32
/* sizes.c: sizes IMAGE PLAIN PROBE: each function that libc has for narrow and for wide offsets, on an image and on
 * what is none, and the system calls that a program makes itself.  PROBE, a file of 5 GiB, is what only the wide ones
 * open where long has 32 bits.  Says what was wrong, else "all right". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool good = true;
static const char *at;

static void check(bool right, const char *what)
{
    if (!right) printf("%s: %s: %s\n", at, what, strerror(errno));
    good = good && right;
}

static long long size_of(int descriptor)
{
    struct stat64 status;
    return fstat64(descriptor, &status) == 0 ? (long long)status.st_size : -1;
}

static void resize(int descriptor, const char *path)
{
    check(ftruncate(descriptor, 70000) == 0 && size_of(descriptor) == 70000, "ftruncate");
    check(truncate(path, 80000) == 0 && size_of(descriptor) == 80000, "truncate");
    check(ftruncate64(descriptor, 5LL << 30) == 0 && size_of(descriptor) == 5LL << 30, "ftruncate64");
    check(truncate64(path, 6LL << 30) == 0 && size_of(descriptor) == 6LL << 30, "truncate64");
    check(ftruncate(descriptor, 65536) == 0 && fallocate(descriptor, 0, 65536, 4096) == 0, "fallocate");
    check(fallocate64(descriptor, FALLOC_FL_KEEP_SIZE, 5LL << 30, 4096) == 0 && size_of(descriptor) == 69632,
          "fallocate64");
    check(posix_fallocate(descriptor, 0, 73728) == 0 && size_of(descriptor) == 73728, "posix_fallocate");
    check(posix_fallocate64(descriptor, 0, 77824) == 0 && size_of(descriptor) == 77824, "posix_fallocate64");
}

static void resize_by_system_calls(int descriptor, const char *path)
{
#ifdef __LP64__
    check(syscall(SYS_ftruncate, descriptor, 5L << 30) == 0 && size_of(descriptor) == 5L << 30, "SYS_ftruncate");
    check(syscall(SYS_truncate, path, 65536L) == 0 && size_of(descriptor) == 65536, "SYS_truncate");
    check(syscall(SYS_fallocate, descriptor, 0L, 0L, 69632L) == 0 && size_of(descriptor) == 69632, "SYS_fallocate");
#else
    check(syscall(SYS_ftruncate, descriptor, 70000L) == 0 && size_of(descriptor) == 70000, "SYS_ftruncate");
    check(syscall(SYS_ftruncate64, descriptor, 1L << 30, 1L) == 0 && size_of(descriptor) == 5LL << 30,
          "SYS_ftruncate64");
    check(syscall(SYS_truncate64, path, 1L << 30, 2L) == 0 && size_of(descriptor) == 9LL << 30, "SYS_truncate64");
    check(syscall(SYS_truncate, path, 65536L) == 0 && size_of(descriptor) == 65536, "SYS_truncate");
    check(syscall(SYS_fallocate, descriptor, (long)FALLOC_FL_KEEP_SIZE, 1L << 30, 1L, 4096L, 0L) == 0, "SYS_fallocate");
    check(size_of(descriptor) == 65536, "SYS_fallocate keeps the size");
#endif
}

static void lock(int descriptor)
{
    struct flock narrow = {.l_type = F_WRLCK, .l_start = 300, .l_len = 1};
    struct flock64 wide = {.l_type = F_WRLCK, .l_start = 301, .l_len = 1};
    check(fcntl(descriptor, F_SETLK, &narrow) == 0, "F_SETLK");
    check(fcntl64(descriptor, F_SETLK64, &wide) == 0, "F_SETLK64");
    check(lockf(descriptor, F_TEST, 1) == 0, "lockf");
    check(lockf64(descriptor, F_TEST, 1) == 0, "lockf64");
    narrow.l_type = F_UNLCK, wide.l_type = F_UNLCK;
    check(fcntl(descriptor, F_SETLK, &narrow) == 0, "unlock");
    check(fcntl64(descriptor, F_SETLK64, &wide) == 0, "unlock64");
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 20), other = fcntl64(descriptor, F_DUPFD, 20);
    check(copy >= 20 && other > copy && close(copy) == 0 && close(other) == 0, "F_DUPFD");
#ifdef SYS_fcntl64
    copy = (int)syscall(SYS_fcntl64, descriptor, F_DUPFD, 20L);
    check(copy >= 20 && close(copy) == 0, "SYS_fcntl64");
#endif
}

static void open_in_all_ways(const char *path)
{
    int descriptor = open64(path, O_RDWR | O_CREAT, 0600);
    check(descriptor >= 0, "open");
    resize(descriptor, path);
    resize_by_system_calls(descriptor, path);
    lock(descriptor);
    check(close(descriptor) == 0, "close");
    descriptor = open(path, O_RDWR);
    check(descriptor >= 0 && close(descriptor) == 0, "open of what is small");
    descriptor = openat(AT_FDCWD, path, O_RDWR);
    check(descriptor >= 0 && close(descriptor) == 0, "openat");
    descriptor = openat64(AT_FDCWD, path, O_RDWR);
    check(descriptor >= 0 && close(descriptor) == 0, "openat64");
    descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR);
    check(descriptor >= 0 && syscall(SYS_close, descriptor) == 0, "SYS_openat");
    descriptor = creat64(path, 0600);
    check(descriptor >= 0 && size_of(descriptor) == 0 && close(descriptor) == 0, "creat64");
    FILE *stream = fopen64(path, "r+");
    check(stream && fputs("text", stream) >= 0 && fclose(stream) == 0, "fopen64");
    stream = fopen(path, "r");
    check(stream && getc(stream) == 't' && fclose(stream) == 0, "fopen");
}

/* What only programs for narrow offsets are refused. */
static void open_large(const char *path)
{
    int wide = open64(path, O_RDWR);
    check(wide >= 0 && size_of(wide) == 5LL << 30 && close(wide) == 0, "open64");
    int narrow = open(path, O_RDWR);
    if (sizeof(long) == 8)
        check(narrow >= 0 && close(narrow) == 0, "open");
    else
        check(narrow < 0 && errno == EOVERFLOW, "open of what is too large");
}

static void list(void)
{
    int narrow = 0, wide = 0;
    DIR *directory = opendir(".");
    for (struct dirent *entry; (entry = readdir(directory));) narrow += strncmp(entry->d_name, "size", 4) == 0;
    rewinddir(directory);
    for (struct dirent64 *entry; (entry = readdir64(directory));) wide += strncmp(entry->d_name, "size", 4) == 0;
    closedir(directory);
    check(narrow == 3 && wide == 3, "readdir");
}

int main(int count, char **arguments)
{
    if (count != 4) return 2;
    for (int i = 1; i < 3; i++) open_in_all_ways(at = arguments[i]);
    open_large(at = arguments[3]);
    at = ".";
    list();
    if (good) puts("all right");
    return !good;
}
