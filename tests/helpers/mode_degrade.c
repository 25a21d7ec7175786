/* mode_degrade.c: mode_degrade CASE IMAGE: opens the image for reading and writing in one way, and checks that it got
 * what IMGLOCK_ON_CONFLICT=read-only promises: a descriptor for reading alone, with the number and the flags that it
 * would have had. */
#include <linux/openat2.h>

#include "check.h"

static const char *image;

/* The number that the next open gives. */
static int next_number(void)
{
    int number = dup(2);
    close(number);
    return number;
}

/* A descriptor for reading in place of one for writing.  flags: those that F_GETFL tells. */
static void check_descriptor(int descriptor, int number, int flags, int descriptor_flags)
{
    /* In memory and at a place that O_DIRECT will do with. */
    static char block[4096] __attribute__((aligned(4096)));
    const int told = O_ACCMODE | O_DIRECT | O_NONBLOCK | O_APPEND | O_SYNC | O_NOATIME;
    check(descriptor == number, "number %d, not %d", descriptor, number);
    int has = fcntl(descriptor, F_GETFL);
    check((has & told) == flags, "flags %#o, not %#o", has & told, flags);
    check(fcntl(descriptor, F_GETFD) == descriptor_flags, "descriptor flags %d", fcntl(descriptor, F_GETFD));
    check(read(descriptor, block, sizeof block) == sizeof block && block[0] == 'i', "reading");
    check(write(descriptor, block, sizeof block) == -1 && errno == EBADF, "writing");
    check(pwrite(descriptor, block, sizeof block, 0) == -1 && errno == EBADF, "writing at a place");
    check(ftruncate(descriptor, 0) == -1 && (errno == EINVAL || errno == EBADF), "truncating");
    check(lseek(descriptor, 0, SEEK_CUR) == sizeof block, "where it stands");
}

static void check_stream(FILE *stream, int number, int descriptor_flags)
{
    char byte = 0;
    if (!check(stream != NULL, "no stream")) return;
    check(fileno(stream) == number, "number %d, not %d", fileno(stream), number);
    check((fcntl(number, F_GETFL) & O_ACCMODE) == O_RDONLY, "the descriptor writes");
    check(fcntl(number, F_GETFD) == descriptor_flags, "descriptor flags %d", fcntl(number, F_GETFD));
    check(fread(&byte, 1, 1, stream) == 1 && byte == 'i', "reading");
    rewind(stream);
    errno = 0;
    check((fputc('x', stream) == EOF || fflush(stream) == EOF) && errno == EBADF, "writing");
}

static void try_open(void)
{
    int number = next_number();
    check_descriptor(open(image, O_RDWR), number, O_RDONLY, 0);
}

static void try_open_flags(void)
{
    int number = next_number();
    int flags = O_DIRECT | O_NONBLOCK | O_NOATIME;
    check_descriptor(open(image, O_RDWR | O_CLOEXEC | flags), number, flags, FD_CLOEXEC);
    number = next_number();
    check_descriptor(open(image, O_RDWR | O_NOFOLLOW | O_SYNC), number, O_SYNC, 0);
}

static void try_open_create(void)
{
    int number = next_number();
    check_descriptor(open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0644), number, O_RDONLY, FD_CLOEXEC);
}

static void try_openat(void)
{
    int directory = open(".", O_RDONLY | O_DIRECTORY);
    int number = next_number();
    check_descriptor(openat(directory, image, O_RDWR | O_NONBLOCK), number, O_NONBLOCK, 0);
    number = next_number();
    check_descriptor(openat64(directory, image, O_RDWR | O_CLOEXEC), number, O_RDONLY, FD_CLOEXEC);
}

static void try_syscalls(void)
{
    struct open_how how = {.flags = O_RDWR | O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_BENEATH};
    int number = next_number();
    check_descriptor((int)syscall(SYS_openat2, AT_FDCWD, image, &how, sizeof how), number, O_NONBLOCK, FD_CLOEXEC);
    number = next_number();
    check_descriptor((int)syscall(SYS_openat, AT_FDCWD, image, O_RDWR), number, O_RDONLY, 0);
#ifdef SYS_open
    number = next_number();
    check_descriptor((int)syscall(SYS_open, image, O_RDWR | O_CLOEXEC), number, O_RDONLY, FD_CLOEXEC);
#endif
}

static void try_fopen(void)
{
    int number = next_number();
    check_stream(fopen(image, "r+"), number, 0);
    number = next_number();
    check_stream(fopen64(image, "r+be"), number, FD_CLOEXEC);
}

static void try_freopen(void)
{
    int number = next_number();
    FILE *stream = fopen("/dev/null", "r");
    check_stream(freopen(image, "r+", stream), number, 0);
    stream = fopen("/dev/null", "r");
    number = fileno(stream);
    check_stream(freopen64(image, "r+e", stream), number, FD_CLOEXEC);
}

/* Copies of the descriptor are of the same kind, and keep the lock. */
static void try_copies(void)
{
    int descriptor = open(image, O_RDWR);
    int copy = dup2(descriptor, 77);
    check(copy == 77 && pwrite(copy, "x", 1, 0) == -1 && errno == EBADF, "a copy that writes");
    close(descriptor);
    check_lock("shared", "with a copy left");
}

/* These are refused: what they are for cannot be had by reading. */
static void try_refused(void)
{
    static const int flags[] = {O_WRONLY,          O_WRONLY | O_CREAT, O_WRONLY | O_APPEND,        O_WRONLY | O_TRUNC,
                                O_RDWR | O_APPEND, O_RDWR | O_TRUNC,   O_RDWR | O_TRUNC | O_CREAT, O_RDWR | O_EXCL};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        check(open(image, flags[i], 0644) == -1 && errno == ETXTBSY, "open with %#o", flags[i]);
    static const char *const modes[] = {"w", "w+", "a", "a+", "wb", "w+e"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        check(fopen(image, modes[i]) == NULL && errno == ETXTBSY, "fopen with %s", modes[i]);
    check(creat(image, 0644) == -1 && errno == ETXTBSY, "creat");
}

/* A program that has locks on the file by F_SETLK loses them when a descriptor is replaced behind its back. */
static void try_posix_locks(void)
{
    struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
    int other = open("/proc/self/exe", O_RDONLY);
    check(other >= 0 && fcntl(other, F_SETLK, &range) == 0, "F_SETLK");
    /* On another file, they are none of this one's. */
    int descriptor = open(image, O_RDWR);
    check(descriptor >= 0 && (fcntl(descriptor, F_GETFL) & O_ACCMODE) == O_RDONLY, "open beside a lock elsewhere");
    check(fcntl(descriptor, F_SETLK, &range) == 0, "F_SETLK");
    check(fopen(image, "r+") == NULL && errno == ETXTBSY, "fopen after a lock of its own");
    check(open(image, O_RDWR) == -1 && errno == ETXTBSY, "open after a lock of its own");
}

static const struct test_case cases[] = {
    {"open", try_open},          {"flags", try_open_flags},
    {"create", try_open_create}, {"openat", try_openat},
    {"syscalls", try_syscalls},  {"fopen", try_fopen},
    {"freopen", try_freopen},    {"copies", try_copies},
    {"refused", try_refused},    {"posix-locks", try_posix_locks},
};

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    image = argv[2];
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    return checked();
}
