/* private.c: private CASE IMAGE: no program can close imglock's descriptors, see a changed return value, or meet one in
 * the numbers that it uses.
 *
 * Each case prints what the program sees.  The test compares that with a bare run, and LOCK_FILE, set in the wrapped
 * run, lets the program look at the lock as well. */
#include "check.h"

#include <dirent.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/stat.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

static const char *image;

/* One line: the call, what it returned, and errno where it failed. */
#define SHOW(call)                                            \
    ({                                                        \
        errno = 77;                                           \
        long result = (long)(call);                           \
        printf("%s = %ld, errno %d\n", #call, result, errno); \
        result;                                               \
    })

/* Which numbers are open, and which of them go with exec. */
static void show_descriptors(int last)
{
    printf("open:");
    for (int number = 0; number <= last; number++) {
        int flags = fcntl(number, F_GETFD);
        if (flags >= 0) printf(" %d%s", number, flags & FD_CLOEXEC ? "e" : "");
    }
    putchar('\n');
}

static int open_image(void)
{
    int descriptor = open(image, O_RDWR);
    printf("the image is %d\n", descriptor);
    check_lock("exclusive", "open");
    return descriptor;
}

/* The number to aim at: imglock's descriptor, or any free one in the bare run. */
static int target(void)
{
    int found = private_descriptor();
    if (getenv("LOCK_FILE")) check(found > 255, "the private descriptor is %d", found);
    return found >= 0 ? found : 768;
}

static void close_loop(void)
{
    int descriptor = open_image();
    int closed = 0;
    for (int number = 3; number <= 4096; number++) {
        if (number == descriptor) continue;
        errno = 77;
        int result = close(number);
        if (result != -1 || errno != EBADF) printf("close(%d) = %d, errno %d\n", number, result, errno);
        closed += result == 0;
    }
    printf("closed %d\n", closed);
    show_descriptors(4096);
    check_lock("exclusive", "close of all others");
    for (int number = 3; number <= 4096; number++) syscall(SYS_close, number);
    show_descriptors(4096);
    check_lock("free", "close of all");
}

/* Everything that a program can do to a number which is not open. */
static void operations_on_the_number(void)
{
    int descriptor = open_image();
    int number = target();
    SHOW(close(number));
    SHOW(syscall(SYS_close, number));
    SHOW(dup(number));
    SHOW(syscall(SYS_dup, number));
    SHOW(dup2(number, 20));
    SHOW(dup2(number, number) == number);
    SHOW(dup3(number, 20, O_CLOEXEC));
    SHOW(dup3(number, 20, 0x40));
    SHOW(dup3(number, number, 0));
    SHOW(syscall(SYS_dup3, number, number, 0));
    SHOW(fcntl(number, F_GETFD));
    SHOW(fcntl(number, F_GETFL));
    SHOW(fcntl(number, F_SETFD, FD_CLOEXEC));
    SHOW(fcntl(number, F_DUPFD, 5));
    SHOW(fcntl(number, F_DUPFD_CLOEXEC, INT_MAX));
    SHOW(syscall(SYS_fcntl, number, F_GETFD));
    SHOW(close_range((unsigned)number, (unsigned)number, 0));
    SHOW(close_range((unsigned)number, (unsigned)number, CLOSE_RANGE_CLOEXEC));
    SHOW((closefrom(number), 0));
    show_descriptors(4096);
    check_lock("exclusive", "operations on the number");
    close(descriptor);
    check_lock("free", "close");
}

static void closefrom_all(void)
{
    int descriptor = open_image();
    errno = 77;
    closefrom(descriptor + 1);
    printf("errno %d\n", errno);
    show_descriptors(4096);
    check_lock("exclusive", "closefrom above the image");
    closefrom(3);
    show_descriptors(4096);
    check_lock("free", "closefrom(3)");
    descriptor = open_image();
    fflush(stdout); /* it goes, too */
    closefrom(-1);
    check_lock("free", "closefrom(-1)");
}

static void close_range_of_everything(void)
{
    int descriptor = open_image();
    unsigned above = (unsigned)descriptor + 1;
    dup2(descriptor, 50);
    SHOW(close_range(above, ~0U, 0));
    show_descriptors(4096);
    check_lock("exclusive", "close_range above the image");
    SHOW(close_range(above, INT_MAX, 0));
    SHOW(close_range(above, ~0U, 0x40));
    SHOW(close_range(3, 2, 0));
    SHOW(close_range(~0U, ~0U, 0));
    SHOW(close_range(0x80000000U, ~0U, 0));
    check_lock("exclusive", "close_range without effect");
    dup2(descriptor, 50);
    SHOW(close_range(above, ~0U, CLOSE_RANGE_CLOEXEC));
    show_descriptors(4096);
    SHOW(close_range(above, ~0U, CLOSE_RANGE_UNSHARE));
    show_descriptors(4096);
    check_lock("exclusive", "close_range with flags");
    SHOW(close_range(3, ~0U, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC));
    show_descriptors(4096);
    check_lock("exclusive", "close_range with both flags");
    SHOW(syscall(SYS_close_range, 3, ~0U, 0));
    show_descriptors(4096);
    check_lock("free", "close_range of all");
}

/* Onto every number, each time the image alone is open besides: also onto the one that imglock moved to. */
static void dup2_onto_every_number(void)
{
    int descriptor = open_image();
    int wrong = 0;
    for (int number = 3; number < 5000; number++) {
        if (number == descriptor) continue;
        int result = number % 2 ? dup2(0, number) : dup3(0, number, O_CLOEXEC);
        if (result != number) printf("dup onto %d gives %d\n", number, result);
        if (number % 16 == 0) check_lock("exclusive", "dup onto %d", number);
        wrong += close(number) != 0;
    }
    printf("%d wrong\n", wrong);
    check_lock("exclusive", "dup onto every number");
    close(descriptor);
    check_lock("free", "close");
}

/* The same, and all of them stay. */
static void fill_every_number(void)
{
    int descriptor = open_image();
    int wrong = 0;
    for (int number = descriptor + 1; number < 5000; number++) wrong += dup2(0, number) != number;
    printf("%d wrong\n", wrong);
    show_descriptors(5000);
    check_lock("exclusive", "dup onto every number");
    for (int number = descriptor + 1; number < 5000; number++) wrong += close(number) != 0;
    printf("%d wrong\n", wrong);
    close(descriptor);
    check_lock("free", "close");
}

static void dup2_onto_the_number(void)
{
    int descriptor = open_image();
    for (int i = 0; i < 5; i++) {
        int number = target();
        check(dup2(descriptor, number) == number, "dup2 onto %d", number);
        check(fcntl(number, F_GETFD) == 0, "%d", number);
        check_lock("exclusive", "dup2 of the image onto %d", number);
        check(syscall(SYS_dup3, 0, number, 0) == number, "dup3 onto %d", number);
        check_lock("exclusive", "dup3 of another file onto %d", number);
        check(private_descriptor() != number, "%d is still private", number);
        if (i % 2) close(number);
    }
    close(descriptor);
    check_lock("free", "close");
}

/* F_DUPFD takes the lowest free number from the one that is asked for; ours counts as free. */
static void fcntl_from_the_number(void)
{
    int descriptor = open_image();
    for (int i = 0; i < 4; i++) {
        int number = target();
        int copy = fcntl(i % 2 ? 0 : descriptor, i < 2 ? F_DUPFD : F_DUPFD_CLOEXEC, number);
        check(copy == number, "F_DUPFD from %d gives %d", number, copy);
        check_lock("exclusive", "F_DUPFD from %d", number);
        close(copy);
        int below = private_descriptor() - 1;
        if (below > 0) {
            int first = fcntl(0, F_DUPFD, below);
            int second = (int)syscall(SYS_fcntl, 0, F_DUPFD, below);
            check(first == below && second == below + 1, "F_DUPFD from %d gives %d and %d", below, first, second);
            close(first);
            close(second);
        }
        check_lock("exclusive", "F_DUPFD from below the number");
    }
    close(descriptor);
}

static void set_limit(rlim_t soft, rlim_t hard)
{
    const struct rlimit limit = {soft, hard};
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) perror("setrlimit");
}

/* A limit of 8: 3 to 7 are the program's. */
static void low_limit(void)
{
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    int descriptor = open_image();
    set_limit(8, before.rlim_max);
    SHOW(dup(descriptor));
    SHOW(open("/dev/null", O_RDONLY));
    SHOW(open(image, O_RDONLY));
    SHOW(open("/dev/null", O_RDONLY));
    SHOW(open("/dev/null", O_RDONLY));
    SHOW(open(image, O_RDWR));
    SHOW(dup(descriptor));
    SHOW(fcntl(descriptor, F_DUPFD, 7));
    SHOW(dup2(descriptor, 8));
    show_descriptors(64);
    check_lock("exclusive", "at the limit");
    for (int number = 3; number < 8; number++) close(number);
    check_lock("free", "close");
    /* Opened below the limit: the lock needs a number of its own. */
    descriptor = open_image();
    SHOW(dup(descriptor));
    SHOW(dup(descriptor));
    show_descriptors(5);
    close(4);
    close(5);
    check_lock("exclusive", "copies are gone");
    close(descriptor);
    check_lock("free", "close");
}

/* No number is left for the lock file: the open fails as one that is one descriptor later, and nothing is left. */
static void no_number_left(void)
{
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    set_limit(5, before.rlim_max);
    int other = dup(0);
    errno = 0;
    int descriptor = open(image, O_RDWR);
    check(descriptor == -1 && errno == EMFILE, "open gives %d", descriptor);
    check(fcntl(4, F_GETFD) == -1, "4 is open");
    check_lock("free", "a failed open");
    close(other);
    descriptor = open(image, O_RDWR);
    check(descriptor == 3, "open gives %d", descriptor);
    check_lock("exclusive", "open at the limit");
    close(descriptor);
    check_lock("free", "close");
}

/* All numbers below the limit are taken, imglock's among them, and the program wants that one. */
static void no_number_to_move_to(void)
{
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    set_limit(16, before.rlim_max);
    int descriptor = open_image();
    for (int number = descriptor + 1; number < 16; number++) SHOW(dup2(0, number) == number);
    show_descriptors(32);
    check_lock("exclusive", "dup2 onto all numbers");
    close(descriptor);
    check_lock("free", "close");
}

static void far_numbers(void)
{
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    /* Where the limit may not be raised, as far as it goes. */
    const struct rlimit far = {1048576, 1048576};
    if (setrlimit(RLIMIT_NOFILE, &far) < 0) set_limit(before.rlim_max, before.rlim_max);
    getrlimit(RLIMIT_NOFILE, &before);
    int half = before.rlim_max > 500000 ? 500000 : (int)before.rlim_max / 2;
    int most = (int)before.rlim_max - 6;
    printf("half %d, most %d\n", half, most);
    int descriptor = open_image();
    SHOW(dup2(descriptor, half));
    SHOW(fcntl(descriptor, F_DUPFD, most));
    SHOW(close(descriptor));
    check_lock("exclusive", "two are left");
    SHOW(close(most));
    check_lock("exclusive", "one is left");
    SHOW(close_range(4000, (unsigned)half - 1, 0));
    check_lock("exclusive", "one is left");
    SHOW(dup3(0, half, 0));
    check_lock("free", "close");
    SHOW(close(half));
    descriptor = open_image();
    SHOW(dup2(descriptor, half + 1));
    SHOW(close(descriptor));
    SHOW(close_range(3, ~0U, 0));
    check_lock("free", "close_range of all");
}

/* The program itself raises its limit while the library already has a descriptor. */
static void huge_limit(void)
{
    int descriptor = open_image();
    const struct rlimit limit = {1073741816, 1073741816};
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        puts("the limit cannot be raised");
        return;
    }
    int copy = open(image, O_RDONLY);
    printf("a second open is %d\n", copy);
    close(descriptor);
    check_lock("shared", "huge limit");
    close(copy);
    descriptor = open_image();
    printf("a third open is %d\n", descriptor);
    close(descriptor);
    check_lock("free", "close");
}

/* What programs do that close everything /proc/self/fd shows, as long as something is closed. */
static void walk(const char *directory, bool keep_image, int descriptor)
{
    int rounds = 0;
    int closed;
    do {
        DIR *opened = opendir(directory);
        if (!opened) return;
        struct dirent *entry;
        closed = 0;
        while ((entry = readdir(opened))) {
            int number = atoi(entry->d_name);
            if (number < 3 || number == dirfd(opened) || (keep_image && number == descriptor)) continue;
            int result = close(number);
            if (result != 0 || number > 255) printf("close(%d) = %d\n", number, result);
            closed++;
        }
        closedir(opened);
    } while (closed && ++rounds < 10);
    printf("%d rounds\n", rounds);
}

static void directory_walkers(void)
{
    char directory[64];
    snprintf(directory, sizeof directory, "/proc/%d/fd", (int)getpid());
    const char *const names[] = {"/proc/self/fd", "/dev/fd", directory, "/proc/thread-self/fd"};
    for (int i = 0; i < 4; i++) {
        int descriptor = open_image();
        dup2(descriptor, 30);
        dup2(0, 31);
        walk(names[i], true, descriptor);
        check_lock("exclusive", "%s: all but the image", names[i]);
        walk(names[i], false, descriptor);
        check_lock("free", "%s: all", names[i]);
    }
    int descriptor = open_image();
    struct dirent **entries;
    int count = scandir("/proc/self/fdinfo", &entries, NULL, versionsort);
    for (int i = 0; i < count && entries; i++) free(entries[i]);
    DIR *opened = opendir("/proc/self/fdinfo");
    while (opened) {
        struct dirent64 *entry = readdir64(opened);
        if (!entry) break;
        printf("fdinfo %s\n", entry->d_name);
    }
    /* The same number as a name elsewhere is anybody's. */
    char name[16];
    snprintf(name, sizeof name, "%d", target());
    mkdir("numbers", 0700);
    if (chdir("numbers") == 0) {
        close(open(name, O_CREAT | O_WRONLY, 0600));
        DIR *numbers = opendir(".");
        int found = 0;
        struct dirent *entry;
        while ((entry = readdir(numbers))) found += strcmp(entry->d_name, name) == 0;
        printf("found %d\n", found);
        closedir(numbers);
        unlink(name);
        if (chdir("..") == 0) rmdir("numbers");
    }
    close(descriptor);
}

/* The first open gives 3, and every further one the next. */
static void lowest_numbers(void)
{
    SHOW(open(image, O_RDONLY));
    SHOW(open(image, O_RDWR));
    SHOW(open("/dev/null", O_RDONLY));
    SHOW(close(3));
    SHOW(open(image, O_RDWR));
    SHOW(dup(4));
    SHOW(fcntl(4, F_DUPFD, 0));
    FILE *stream = fopen(image, "r+");
    printf("fopen gives %d\n", fileno(stream));
    show_descriptors(4096);
    fclose(stream);
    for (int number = 3; number < 10; number++) close(number);
    check_lock("free", "close");
}

int main(int argc, char **argv)
{
    static const struct test_case cases[] = {
        {"close-loop", close_loop},
        {"operations", operations_on_the_number},
        {"closefrom", closefrom_all},
        {"close_range", close_range_of_everything},
        {"dup2-every-number", dup2_onto_every_number},
        {"fill-every-number", fill_every_number},
        {"dup2-the-number", dup2_onto_the_number},
        {"fcntl-the-number", fcntl_from_the_number},
        {"low-limit", low_limit},
        {"no-number-left", no_number_left},
        {"full", no_number_to_move_to},
        {"far", far_numbers},
        {"huge-limit", huge_limit},
        {"walkers", directory_walkers},
        {"lowest", lowest_numbers},
    };
    if (argc != 3) return 2;
    image = argv[2];
    closefrom(3); /* whatever the test runner left open */
    run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    fflush(stdout);
    return checked();
}
