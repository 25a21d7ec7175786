/* torture_outside.c: torture_outside SECONDS SEED LIBRARY STATIC DIRECTORY
 *
 * Processes with the library open and close a few images, beside two that have none: one that locks as QEMU does, and
 * a static one (STATIC, this program once more) that opens and writes when it likes.  All are killed at random.  What
 * each promises:
 *
 *   QEMU's locks  whoever is in for writing is alone, be it with the library or by these locks.
 *   nothing       nobody with the library gets in while that process has the image open for writing, from before the
 *                 open to after it.  Nobody keeps that process out.
 *
 * Exits 0 when no promise was broken.  The oracle errs on one side: a process counts itself in after its open came
 * back, and out before its close; one that is about to be killed is not counted until it is gone. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "random.h"

enum { IMAGES = 2, WRAPPED = 6, QEMU = WRAPPED, STATIC, MEMBERS };

struct oracle {
    atomic_int readers[MEMBERS][IMAGES], writers[MEMBERS][IMAGES];
    atomic_int dying[MEMBERS];
    atomic_uint changes; /* of what STATIC has open */
    atomic_int violations;
    atomic_long opened, refused, qemu_in, qemu_out, static_opens;
    char first[200];
};

static struct oracle *oracle;
static int self;
static void sleep_ms(unsigned milliseconds)
{
    struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int open_image(int image, int flags)
{
    char name[16];
    snprintf(name, sizeof name, "%d.img", image);
    return open(name, flags | O_CLOEXEC, 0600);
}

static void violate(const char *what, int other, int image)
{
    if (atomic_fetch_add(&oracle->violations, 1) == 0)
        snprintf(oracle->first, sizeof oracle->first, "member %d (pid %d) %s member %d in image %d", self, getpid(),
                 what, other, image);
}

/* Whoever has the library or QEMU's locks. */
static void check_alone(int image, bool writing)
{
    for (int other = 0; other < STATIC; other++) {
        if (other == self || atomic_load(&oracle->dying[other]) || atomic_load(&oracle->dying[self])) continue;
        if (!atomic_load(&oracle->writers[other][image]) && !(writing && atomic_load(&oracle->readers[other][image])))
            continue;
        if (atomic_load(&oracle->dying[other]) || atomic_load(&oracle->dying[self])) continue;
        violate(writing ? "writes and meets" : "reads and meets", other, image);
    }
}

/* ---- with the library ----------------------------------------------------------------------------------- */

/* Has the static one the image open for writing now?  *changes tells whether it went on having it. */
static bool static_has(int image, unsigned *changes)
{
    *changes = atomic_load(&oracle->changes);
    return !atomic_load(&oracle->dying[STATIC]) && atomic_load(&oracle->writers[STATIC][image]);
}

static void act_wrapped(void)
{
    for (;;) {
        unsigned before, after;
        const int image = (int)random_below(IMAGES);
        const bool writing = random_below(2);
        const bool was_there = static_has(image, &before);
        const int descriptor = open_image(image, writing ? (random_below(3) ? O_RDWR : O_RDWR | O_TRUNC) : O_RDONLY);
        if (descriptor < 0) {
            atomic_fetch_add(&oracle->refused, 1);
            sleep_ms(random_below(10));
            continue;
        }
        if (was_there && static_has(image, &after) && before == after) violate("got in beside", STATIC, image);
        atomic_int *count = writing ? &oracle->writers[self][image] : &oracle->readers[self][image];
        atomic_store(count, 1);
        atomic_fetch_add(&oracle->opened, 1);
        check_alone(image, writing);
        sleep_ms(random_below(6));
        check_alone(image, writing);
        atomic_store(count, 0);
        close(descriptor);
        sleep_ms(random_below(8));
    }
}

/* ---- without -------------------------------------------------------------------------------------------- */

static bool lock(int descriptor, int command, short type, off_t start, off_t length)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(descriptor, command, &range) == 0 && (command != F_OFD_GETLK || range.l_type == F_UNLCK);
}

/* As block/file-posix.c does for a writer that shares nothing: announces, then looks. */
static void act_qemu(void)
{
    for (;;) {
        const int image = (int)random_below(IMAGES);
        const int descriptor = open_image(image, O_RDWR);
        if (descriptor < 0) continue;
        if (lock(descriptor, F_OFD_SETLK, F_RDLCK, 100, 4) && lock(descriptor, F_OFD_SETLK, F_RDLCK, 201, 3) &&
            lock(descriptor, F_OFD_GETLK, F_WRLCK, 100, 4) && lock(descriptor, F_OFD_GETLK, F_WRLCK, 201, 3)) {
            atomic_fetch_add(&oracle->qemu_in, 1);
            atomic_store(&oracle->writers[self][image], 1);
            check_alone(image, true);
            sleep_ms(random_below(30));
            check_alone(image, true);
            atomic_store(&oracle->writers[self][image], 0);
        } else {
            atomic_fetch_add(&oracle->qemu_out, 1);
        }
        close(descriptor);
        sleep_ms(random_below(30));
    }
}

static void act_static(void)
{
    for (;;) {
        const int image = (int)random_below(IMAGES);
        const int descriptor = open_image(image, O_RDWR);
        if (descriptor < 0) continue;
        atomic_store(&oracle->writers[self][image], 1);
        atomic_fetch_add(&oracle->changes, 1);
        atomic_fetch_add(&oracle->static_opens, 1);
        if (pwrite(descriptor, "static", 6, 0) != 6) _exit(96);
        sleep_ms(random_below(60));
        atomic_fetch_add(&oracle->changes, 1);
        atomic_store(&oracle->writers[self][image], 0);
        close(descriptor);
        sleep_ms(random_below(60));
    }
}

/* ---- the driver ----------------------------------------------------------------------------------------- */

static pid_t start(int member, unsigned long seed, char **argv)
{
    char number[12], seed_text[24];
    const pid_t child = fork();
    if (child) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(number, sizeof number, "%d", member);
    snprintf(seed_text, sizeof seed_text, "%lu", seed);
    if (member < WRAPPED) setenv("LD_PRELOAD", argv[3], 1);
    if (member < WRAPPED && seed % 3 == 0) setenv("IMGLOCK_WAIT", "0.02", 1);
    execl(member == STATIC ? argv[4] : "/proc/self/exe", "torture_outside", number, seed_text, NULL);
    _exit(97);
}

static bool end(int member, pid_t process)
{
    int status;
    atomic_store(&oracle->dying[member], 1);
    kill(process, SIGKILL);
    waitpid(process, &status, 0);
    for (int image = 0; image < IMAGES; image++) {
        atomic_store(&oracle->readers[member][image], 0);
        atomic_store(&oracle->writers[member][image], 0);
    }
    if (member == STATIC) atomic_fetch_add(&oracle->changes, 1);
    atomic_store(&oracle->dying[member], 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Each of those who are kept apart has met the other at least. */
static bool enough_happened(void)
{
    return atomic_load(&oracle->opened) >= 50 && atomic_load(&oracle->refused) >= 50 &&
           atomic_load(&oracle->qemu_in) >= 10 && atomic_load(&oracle->qemu_out) >= 10 &&
           atomic_load(&oracle->static_opens) >= 10;
}

static void map_oracle(void)
{
    const int descriptor = open("oracle", O_RDWR | O_CLOEXEC);
    oracle = mmap(NULL, sizeof *oracle, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (oracle == MAP_FAILED) _exit(99);
}

static int drive(char **argv)
{
    enum { MOST_MORE_SECONDS = 200 };
    pid_t processes[MEMBERS];
    bool good = true;
    unsigned long seed = strtoul(argv[2], NULL, 10);
    random_state = seed * 2654435761u + 1;
    for (int image = 0; image < IMAGES; image++) close(open_image(image, O_RDWR | O_CREAT));
    const int file = open("oracle", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (ftruncate(file, sizeof *oracle) < 0) return 1;
    close(file);
    map_oracle();
    for (int member = 0; member < MEMBERS; member++) processes[member] = start(member, ++seed, argv);
    const double until = now() + atof(argv[1]);
    while (good && !atomic_load(&oracle->violations) &&
           (now() < until || (!enough_happened() && now() < until + MOST_MORE_SECONDS))) {
        sleep_ms(20 + random_below(60));
        const int victim = (int)random_below(MEMBERS);
        good = end(victim, processes[victim]);
        processes[victim] = start(victim, ++seed, argv);
    }
    for (int member = 0; member < MEMBERS; member++) good &= end(member, processes[member]);
    printf("%ld opened, %ld refused, QEMU's locks %ld times in and %ld out, %ld static opens, %d violations\n",
           atomic_load(&oracle->opened), atomic_load(&oracle->refused), atomic_load(&oracle->qemu_in),
           atomic_load(&oracle->qemu_out), atomic_load(&oracle->static_opens), atomic_load(&oracle->violations));
    if (*oracle->first) printf("%s\n", oracle->first);
    if (!good) printf("a process ended by itself\n");
    if (!enough_happened() && !atomic_load(&oracle->violations)) printf("too little happened\n");
    return atomic_load(&oracle->violations) || !good || !enough_happened();
}

int main(int argc, char **argv)
{
    if (argc == 6 && chdir(argv[5]) == 0) return drive(argv);
    if (argc != 3) return 2;
    self = atoi(argv[1]);
    random_state = strtoul(argv[2], NULL, 10) * 6364136223846793005u + 1442695040888963407u;
    map_oracle();
    if (self < WRAPPED) act_wrapped();
    if (self == QEMU) act_qemu();
    act_static();
}
