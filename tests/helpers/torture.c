/* torture.c: torture SECONDS SEED LIBRARY DIRECTORY
 *
 * Sixteen groups of processes open, dup, fork, exec, hand down and close the same few images, and are killed with
 * SIGKILL at random points.  An oracle in shared memory counts who is inside: a group that has an image open for
 * writing must be alone with it.  Exits 0 when there was no violation, nothing hung, and every lock is free at the end.
 *
 * The oracle errs on one side only: a process counts itself in after its open came back, and out before its close. Fork
 * and exec pass the count on.  A group that is about to be killed is marked first, and not counted until it is gone. */
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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "random.h"

enum { GROUPS = 16, IMAGES = 3, HELD = 4 };

struct oracle {
    atomic_int readers[IMAGES][GROUPS];
    atomic_int writers[IMAGES][GROUPS];
    atomic_int dying[GROUPS];
    atomic_int violations;
    atomic_int bad_ends; /* processes that ended by themselves in a way that none should, their counts left behind */
    atomic_int bad_status;
    atomic_int processes; /* that nobody has waited for */
    atomic_long opened, refused, forks, execs;
    char first_violation[160];
    pid_t driver;
};

static struct oracle *oracle;
static const char *oracle_path;
static int group;
static pid_t driver;
static void map_oracle(void)
{
    int descriptor = open(oracle_path, O_RDWR | O_CLOEXEC);
    oracle = mmap(NULL, sizeof *oracle, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (oracle == MAP_FAILED) _exit(99);
    driver = oracle->driver;
}

struct held {
    int descriptor;
    int image;
    int writing;
    int copies; /* descriptors of this process for it: descriptor, and those of dup */
    int copy[2];
};
static struct held held[HELD];
static int held_count;

static void check_alone(int image, int writing)
{
    for (int other = 0; other < GROUPS; other++) {
        if (other == group || atomic_load(&oracle->dying[other]) || atomic_load(&oracle->dying[group])) continue;
        int writers = atomic_load(&oracle->writers[image][other]);
        int readers = atomic_load(&oracle->readers[image][other]);
        if (!writers && !(writing && readers)) continue;
        /* Marked meanwhile: its entries say nothing any more. */
        if (atomic_load(&oracle->dying[other]) || atomic_load(&oracle->dying[group])) continue;
        if (atomic_fetch_add(&oracle->violations, 1) == 0)
            snprintf(oracle->first_violation, sizeof oracle->first_violation,
                     "group %d (pid %d, %s) meets group %d (%d writers, %d readers) in image %d", group, getpid(),
                     writing ? "writing" : "reading", other, writers, readers, image);
    }
}

static void count_in(int image, int writing)
{
    atomic_fetch_add(writing ? &oracle->writers[image][group] : &oracle->readers[image][group], 1);
}

static void count_out(int image, int writing)
{
    atomic_fetch_sub(writing ? &oracle->writers[image][group] : &oracle->readers[image][group], 1);
}

static void open_one(void)
{
    char name[16];
    int image = (int)random_below(IMAGES);
    int writing = random_below(3) == 0;
    int flags = (writing ? O_RDWR : O_RDONLY) | (random_below(2) ? O_CLOEXEC : 0);
    int descriptor;
    if (held_count == HELD) return;
    snprintf(name, sizeof name, "%d.img", image);
    switch (random_below(4)) {
    case 0:
        descriptor = open(name, flags);
        break;
    case 1:
        descriptor = openat(AT_FDCWD, name, flags | (writing ? O_CREAT : 0), 0600);
        break;
    case 2:
        descriptor = (int)syscall(SYS_openat, AT_FDCWD, name, flags);
        break;
    default:
        descriptor = open64(name, flags);
        break;
    }
    if (descriptor < 0) {
        atomic_fetch_add(&oracle->refused, 1);
        return;
    }
    count_in(image, writing);
    check_alone(image, writing);
    atomic_fetch_add(&oracle->opened, 1);
    held[held_count++] = (struct held){.descriptor = descriptor, .image = image, .writing = writing, .copies = 1};
}

static void close_descriptor(int descriptor)
{
    switch (random_below(3)) {
    case 0:
        close(descriptor);
        break;
    case 1:
        syscall(SYS_close, descriptor);
        break;
    default:
        close_range((unsigned)descriptor, (unsigned)descriptor, 0);
        break;
    }
}

static void close_one(void)
{
    if (!held_count) return;
    int which = (int)random_below((unsigned)held_count);
    struct held *one = &held[which];
    if (one->copies > 1) {
        close_descriptor(one->copy[--one->copies - 1]);
        return;
    }
    check_alone(one->image, one->writing);
    count_out(one->image, one->writing);
    close_descriptor(one->descriptor);
    held[which] = held[--held_count];
}

static void copy_one(void)
{
    if (!held_count) return;
    struct held *one = &held[random_below((unsigned)held_count)];
    if (one->copies == 3) return;
    int copy;
    switch (random_below(4)) {
    case 0:
        copy = dup(one->descriptor);
        break;
    case 1:
        copy = dup2(one->descriptor, 100 + (int)random_below(50));
        /* A number that was another copy's is gone with it: only free ones are used. */
        for (int i = 0; i < held_count; i++)
            for (int j = 0; j < held[i].copies - 1; j++)
                if (held[i].copy[j] == copy) held[i].copy[j] = held[i].copy[--held[i].copies - 1];
        break;
    case 2:
        copy = fcntl(one->descriptor, F_DUPFD_CLOEXEC, 20);
        break;
    default:
        copy = dup3(one->descriptor, 200 + (int)(one - held) * 2 + one->copies, O_CLOEXEC);
        for (int i = 0; i < held_count; i++)
            for (int j = 0; j < held[i].copies - 1; j++)
                if (&held[i] != one && held[i].copy[j] == copy) held[i].copy[j] = held[i].copy[--held[i].copies - 1];
        break;
    }
    if (copy < 0) return;
    for (int j = 0; j < one->copies - 1; j++)
        if (one->copy[j] == copy) return;
    one->copy[one->copies++ - 1] = copy;
}

static void close_everything(void)
{
    while (held_count) {
        struct held *one = &held[held_count - 1];
        while (one->copies > 1) close_descriptor(one->copy[--one->copies - 1]);
        count_out(one->image, one->writing);
        close_descriptor(one->descriptor);
        held_count--;
    }
}

static void act(int generation, int steps);

/* Hands one image that survives exec to a program. */
static void exec_with_image(int generation)
{
    for (int i = 0; i < held_count; i++) {
        struct held *one = &held[i];
        if (fcntl(one->descriptor, F_GETFD) & FD_CLOEXEC) fcntl(one->descriptor, F_SETFD, 0);
        char descriptor[12], image[12], writing[12], number[12], seed[24], depth[12];
        for (int j = held_count - 1; j >= 0; j--) {
            if (j == i) continue;
            while (held[j].copies > 1) close_descriptor(held[j].copy[--held[j].copies - 1]);
            count_out(held[j].image, held[j].writing);
            close_descriptor(held[j].descriptor);
        }
        while (one->copies > 1) close_descriptor(one->copy[--one->copies - 1]);
        snprintf(descriptor, sizeof descriptor, "%d", one->descriptor);
        snprintf(image, sizeof image, "%d", one->image);
        snprintf(writing, sizeof writing, "%d", one->writing);
        snprintf(number, sizeof number, "%d", group);
        snprintf(depth, sizeof depth, "%d", generation);
        snprintf(seed, sizeof seed, "%lu", random_state | 1);
        atomic_fetch_add(&oracle->execs, 1);
        execl("/proc/self/exe", "torture", "inside", oracle_path, number, seed, descriptor, image, writing, depth,
              NULL);
        _exit(98);
    }
}

/* So many processes that have not been waited for are more than the groups need.  Where the driver gets too little time
 * to wait for them all there were thousands, in the end as many as there are numbers, and nobody could fork any more.
 */
enum { MOST_PROCESSES = 400 };

static void fork_one(int generation)
{
    if (generation >= 2 || atomic_load(&oracle->processes) >= MOST_PROCESSES) return;
    for (int i = 0; i < held_count; i++) count_in(held[i].image, held[i].writing);
    atomic_fetch_add(&oracle->forks, 1);
    atomic_fetch_add(&oracle->processes, 1);
    pid_t child = random_below(3) ? fork() : _Fork();
    if (child < 0) {
        atomic_fetch_sub(&oracle->processes, 1);
        for (int i = 0; i < held_count; i++) count_out(held[i].image, held[i].writing);
        return;
    }
    if (child) return;
    random_state = random_state * 31 + (unsigned long)getpid() * 2 + 1;
    if (random_below(3) == 0) exec_with_image(generation + 1);
    act(generation + 1, 1 + (int)random_below(40));
    if (random_below(2)) {
        /* Ends with everything open, or by a signal. */
        for (int i = 0; i < held_count; i++) count_out(held[i].image, held[i].writing);
        if (random_below(2)) raise(SIGKILL);
        _exit(0);
    }
    close_everything();
    _exit(0);
}

/* A child ends with 0 or by its own SIGKILL.  Anything else is a failure of its own, and not a meeting of two. */
static void note_end(int status)
{
    atomic_fetch_sub(&oracle->processes, 1);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return;
    atomic_store(&oracle->bad_status, status);
    atomic_fetch_add(&oracle->bad_ends, 1);
}

static void reap_children(void)
{
    int status;
    while (waitpid(-1, &status, WNOHANG) > 0) note_end(status);
}

static void act(int generation, int steps)
{
    for (int step = 0; steps < 0 || step < steps; step++) {
        switch (random_below(10)) {
        case 0:
        case 1:
        case 2:
            open_one();
            break;
        case 3:
        case 4:
        case 5:
            close_one();
            break;
        case 6:
        case 7:
            copy_one();
            break;
        case 8:
            if (random_below(6) == 0) fork_one(generation);
            break;
        default:
            for (int i = 0; i < held_count; i++) check_alone(held[i].image, held[i].writing);
            reap_children();
            if (kill(driver, 0) < 0) _exit(0);
            break;
        }
    }
}

/* Nothing goes on when the driver is gone. */
static void die_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static pid_t start_group(int number, unsigned long seed, const char *library)
{
    atomic_fetch_add(&oracle->processes, 1);
    pid_t child = fork();
    if (child < 0) {
        /* As a pid, -1 would be everybody's. */
        perror("fork");
        exit(1);
    }
    if (child) return child;
    char group_text[12], seed_text[24];
    die_with_parent();
    setpgid(0, 0);
    snprintf(group_text, sizeof group_text, "%d", number);
    snprintf(seed_text, sizeof seed_text, "%lu", seed);
    setenv("LD_PRELOAD", library, 1);
    if (seed % 3 == 0) setenv("IMGLOCK_WAIT", "0.02", 1);
    execl("/proc/self/exe", "torture", "group", oracle_path, group_text, seed_text, NULL);
    _exit(97);
}

static void reap_group(pid_t leader)
{
    kill(-leader, SIGKILL);
    kill(leader, SIGKILL);
    /* As their subreaper we get to wait for all of them. */
    int status;
    while (waitpid(-leader, &status, 0) > 0 || errno == EINTR) note_end(status);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void sleep_ms(unsigned milliseconds)
{
    struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    nanosleep(&time, NULL);
}

enum { MOST_MORE_SECONDS = 200 };

/* A run in which nobody got in, or nobody was kept out, has tested nothing. */
static bool enough_happened(void)
{
    return atomic_load(&oracle->opened) >= 100 && atomic_load(&oracle->refused) >= 100;
}

static int drive(double seconds, unsigned long seed, const char *library)
{
    pid_t leaders[GROUPS];
    int kills = 0;
    random_state = seed * 2654435761u + 1;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (int i = 0; i < IMAGES; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.img", i);
        close(open(name, O_RDWR | O_CREAT, 0600));
    }
    int descriptor = open(oracle_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (ftruncate(descriptor, sizeof *oracle) < 0) return 1;
    close(descriptor);
    map_oracle();
    oracle->driver = getpid();
    for (int i = 0; i < GROUPS; i++) leaders[i] = start_group(i, seed * 1000 + (unsigned long)i, library);
    /* On a machine with much to do it takes longer until enough has happened. */
    const double end = now() + seconds;
    while (!atomic_load(&oracle->violations) &&
           (now() < end || (!enough_happened() && now() < end + MOST_MORE_SECONDS))) {
        sleep_ms(5 + random_below(30));
        /* Whose parent has ended comes to us: thousands in a run, and then nobody can fork any more. */
        reap_children();
        int victim = (int)random_below(GROUPS);
        atomic_store(&oracle->dying[victim], 1);
        reap_group(leaders[victim]);
        for (int image = 0; image < IMAGES; image++) {
            atomic_store(&oracle->readers[image][victim], 0);
            atomic_store(&oracle->writers[image][victim], 0);
        }
        atomic_store(&oracle->dying[victim], 0);
        kills++;
        leaders[victim] = start_group(victim, seed * 1000 + 100 + (unsigned long)kills, library);
    }
    for (int i = 0; i < GROUPS; i++) atomic_store(&oracle->dying[i], 1);
    for (int i = 0; i < GROUPS; i++) reap_group(leaders[i]);
    printf("seed %lu: %ld opened, %ld refused, %ld forks, %ld execs, %d groups killed, %d violations\n", seed,
           atomic_load(&oracle->opened), atomic_load(&oracle->refused), atomic_load(&oracle->forks),
           atomic_load(&oracle->execs), kills, atomic_load(&oracle->violations));
    if (atomic_load(&oracle->violations)) printf("%s\n", oracle->first_violation);
    if (atomic_load(&oracle->bad_ends)) {
        printf("%d processes ended badly, the last with wait status %#x\n", atomic_load(&oracle->bad_ends),
               (unsigned)atomic_load(&oracle->bad_status));
        return 1;
    }
    if (!enough_happened() && !atomic_load(&oracle->violations)) {
        printf("too little happened\n");
        return 1;
    }
    return atomic_load(&oracle->violations) ? 1 : 0;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc == 5 && strcmp(argv[1], "group") == 0) {
        oracle_path = argv[2];
        group = atoi(argv[3]);
        random_state = strtoul(argv[4], NULL, 10) * 6364136223846793005u + 1442695040888963407u;
        map_oracle();
        act(0, -1);
    }
    if (argc == 9 && strcmp(argv[1], "inside") == 0) {
        oracle_path = argv[2];
        group = atoi(argv[3]);
        random_state = strtoul(argv[4], NULL, 10);
        held[held_count++] =
            (struct held){.descriptor = atoi(argv[5]), .image = atoi(argv[6]), .writing = atoi(argv[7]), .copies = 1};
        map_oracle();
        check_alone(held[0].image, held[0].writing);
        act(atoi(argv[8]), 30);
        close_everything();
        return 0;
    }
    if (argc != 5 || chdir(argv[4]) < 0) {
        fprintf(stderr, "usage: torture SECONDS SEED LIBRARY DIRECTORY\n");
        return 2;
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/oracle", argv[4]);
    oracle_path = path;
    return drive(atof(argv[1]), strtoul(argv[2], NULL, 10), argv[3]);
}
