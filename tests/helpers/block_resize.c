/* block_resize.c: block_resize IMAGE SIZE: opens it for writing and makes every call there is that gives an image
 * another size; prints a line for each: "ftruncate: 0", "ftruncate: EBUSY".  For posix_fallocate, which returns its
 * error and leaves errno alone, the line says so if it does not.  Then the calls that leave the size as it is. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { UNTOUCHED = 4242 };

static const char *path;
static int descriptor;
static off_t size;

static void report(const char *name, int error)
{
    printf("%s: %s\n", name, error ? strerrorname_np(error) : "0");
}

static void call(const char *name, long result)
{
    report(name, result < 0 ? errno : 0);
}

static void call_posix(const char *name, int result)
{
    report(name, result);
    if (errno != UNTOUCHED) printf("%s: errno is %d\n", name, errno);
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    path = argv[1];
    size = atoll(argv[2]);
    descriptor = open(path, O_RDWR);
    if (descriptor < 0) {
        perror(path);
        return 1;
    }
    call("ftruncate", ftruncate(descriptor, size));
    call("ftruncate64", ftruncate64(descriptor, size));
    call("truncate", truncate(path, size));
    call("truncate64", truncate64(path, size));
    call("fallocate", fallocate(descriptor, 0, 0, size));
    call("fallocate64", fallocate64(descriptor, 0, 0, size));
    errno = UNTOUCHED;
    call_posix("posix_fallocate", posix_fallocate(descriptor, 0, size));
    errno = UNTOUCHED;
    call_posix("posix_fallocate64", posix_fallocate64(descriptor, 0, size));
    call("syscall ftruncate", syscall(SYS_ftruncate, descriptor, size));
    call("syscall truncate", syscall(SYS_truncate, path, size));
    call("syscall fallocate", syscall(SYS_fallocate, descriptor, 0, 0L, size));
    off_t end = lseek(descriptor, 0, SEEK_END);
    call("fallocate one byte on", fallocate(descriptor, FALLOC_FL_ZERO_RANGE, 1, end));
    errno = UNTOUCHED;
    call_posix("posix_fallocate one byte on", posix_fallocate(descriptor, 1, end));
    call("collapse range", fallocate(descriptor, FALLOC_FL_COLLAPSE_RANGE, 0, 4096));
    call("keep size", fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, size));
    call("punch hole", fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    end = lseek(descriptor, 0, SEEK_END);
    call("zero range", fallocate(descriptor, FALLOC_FL_ZERO_RANGE, 4096, 4096));
    call("fallocate to the end", fallocate(descriptor, 0, 0, end));
    errno = UNTOUCHED;
    call_posix("posix_fallocate to the end", posix_fallocate(descriptor, 0, end));
    call("pwrite", pwrite(descriptor, "x", 1, 0) - 1);
    return 0;
}
