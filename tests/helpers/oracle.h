/* oracle.h: who has which image, outside all lock files: the oracle of torture_relatives.c.
 *
 * A table in shared memory says which process has which image through which open file description, and of whom it
 * descends; it knows nothing of lock files.  Two questions are asked of it:
 *
 *  - Who gets in: is anybody in, in a way that excludes this, who is no relative?  (a violation)
 *  - Who is refused: was there, from before the call until after it, nobody but ancestors and holders of descriptions
 *    that this process has as well?  (a wrong refusal)
 *
 * Each errs on one side only.  A process enters itself after its open came back, and takes itself out before its close:
 * no violation that was none.  It says before its open that it wants in, each change of who is in or wants in is
 * counted before it is on the table, and a refusal is judged only if nothing changed meanwhile: no wrong refusal that
 * was none. */
#ifndef ORACLE_H
#define ORACLE_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
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

enum {
    GROUPS = 10, /* families of the ordinary kind; one more, of the hand-over */
    PAIR = GROUPS,
    CONTESTED = 2,                   /* images that every group opens */
    PAIR_IMAGE = CONTESTED,          /* that is handed over; every group opens it, too */
    OWN_IMAGE = PAIR_IMAGE + 1,      /* one a group, which nobody else opens */
    LINE_IMAGE = OWN_IMAGE + GROUPS, /* one a group, which a line of generations opens */
    IMAGES = LINE_IMAGE + GROUPS,
    HELD = 4,
    GENERATIONS = 14,
    MEMBERS = 1024,
    MOST_IN_GROUP = 40
};

enum state { NOT_IN, WANTS_IN, IN, LEAVES };

struct use {
    atomic_int state;
    int image;
    bool writing;
    unsigned description; /* a number for each open(2) */
};

/* A process. */
struct member {
    atomic_int taken;   /* 0: free; 1 + the group for which somebody writes, or has written, the entry */
    atomic_uint serial; /* 0: it is not whole */
    atomic_int pid;     /* 0: not forked yet */
    atomic_bool dying;
    atomic_bool preparing; /* a child is on the table that may not be there yet */
    int group;
    int generation;
    unsigned line[GENERATIONS + 4]; /* the serials of whom it descends from, and its own last */
    int line_length;
    atomic_uint_least64_t shared;  /* images of which it has, or had, a description with another process */
    atomic_uint_least64_t written; /* those that it has, or had, open for writing, or got from who had */
    atomic_bool executed;          /* another program, with what it had */
    struct use uses[HELD];
};

struct oracle {
    struct member members[MEMBERS];
    atomic_uint serials, descriptions;
    atomic_uint changes[IMAGES];
    atomic_int at_work[IMAGES]; /* others that may hold bytes of its lock file: hand-overs */
    atomic_bool dying[GROUPS + 1];
    atomic_bool stop;
    atomic_long opened, refused, judged, beside_relatives, lines, daemons, kills, handed_over, handoffs_killed, lies;
    atomic_int violations, wrong_refusals, bad_ends, bad_status;
    char first_violation[200], first_wrong_refusal[200];
    pid_t driver;
};

static struct oracle *oracle;
static const char *oracle_path;
static struct member *self;
static int descriptors[HELD];   /* of self->uses */
static unsigned opened_here[4]; /* descriptions that this process, since its exec, opened itself */
static unsigned opened_here_count;
static void seed_random(unsigned long seed)
{
    random_state = (seed + 1) * 6364136223846793005u + 1442695040888963407u;
}

static void sleep_us(unsigned microseconds)
{
    struct timespec time = {.tv_sec = microseconds / 1000000, .tv_nsec = (long)(microseconds % 1000000) * 1000};
    nanosleep(&time, NULL);
}

static void map_oracle(void)
{
    int descriptor = open(oracle_path, O_RDWR | O_CLOEXEC);
    oracle = mmap(NULL, sizeof *oracle, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (oracle == MAP_FAILED) _exit(99);
}

__attribute__((format(printf, 3, 4))) static void report(atomic_int *count, char note[200], const char *format, ...)
{
    if (atomic_fetch_add(count, 1)) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(note, 200, format, arguments);
    va_end(arguments);
}

static void changed(int image)
{
    atomic_fetch_add(&oracle->changes[image], 1);
}

/* A child of parent, or NULL: the first of a group.  NULL when the table is full.  The serial comes last: until then
 * the entry says of whom it was before, whose family may end at this moment and take it off the table. */
static struct member *add_member(int group, const struct member *parent)
{
    for (struct member *member = oracle->members; member < oracle->members + MEMBERS; member++) {
        int free = 0;
        if (!atomic_compare_exchange_strong(&member->taken, &free, 1 + group)) continue;
        const unsigned serial = atomic_fetch_add(&oracle->serials, 1) + 1;
        atomic_store(&member->pid, 0);
        atomic_store(&member->dying, false);
        atomic_store(&member->preparing, false);
        atomic_store(&member->shared, 0);
        atomic_store(&member->written, 0);
        atomic_store(&member->executed, false);
        member->group = group;
        member->generation = parent ? parent->generation + 1 : 0;
        member->line_length = parent ? parent->line_length : 0;
        if (parent) memcpy(member->line, parent->line, sizeof member->line);
        member->line[member->line_length++] = serial;
        atomic_store(&member->serial, serial);
        return member;
    }
    return NULL;
}

static void remove_member(struct member *member)
{
    for (int i = 0; i < HELD; i++) {
        struct use *use = &member->uses[i];
        if (atomic_load(&use->state) == NOT_IN) continue;
        changed(use->image);
        atomic_store(&use->state, NOT_IN);
    }
    atomic_store(&member->serial, 0);
    atomic_store(&member->taken, 0);
}

static bool is_dying(const struct member *member)
{
    return atomic_load(&member->dying) || atomic_load(&oracle->dying[member->group]);
}

static bool descends(const struct member *member, const struct member *ancestor)
{
    const unsigned serial = atomic_load(&ancestor->serial);
    for (int i = 0; i < member->line_length; i++)
        if (member->line[i] == serial) return true;
    return false;
}

/* May these two ever be in together?  Whoever had a description together with others may have been let past for that;
 * helpers that share nothing exclude each other. */
static bool may_meet(const struct member *one, const struct member *other, int image)
{
    const uint64_t bit = UINT64_C(1) << image;
    if (one->group != other->group) return false;
    return descends(one, other) || descends(other, one) || ((one->shared | other->shared) & bit);
}

/* Calls visit for each use of the image by another process. */
static void for_each_other(int image, void (*visit)(struct member *, struct use *, void *), void *context)
{
    for (struct member *other = oracle->members; other < oracle->members + MEMBERS; other++) {
        if (other == self || !atomic_load(&other->serial)) continue;
        for (int i = 0; i < HELD; i++)
            if (atomic_load(&other->uses[i].state) != NOT_IN && other->uses[i].image == image)
                visit(other, &other->uses[i], context);
    }
}

static void look_for_stranger(struct member *other, struct use *theirs, void *context)
{
    const struct use *own = context;
    const unsigned serial = atomic_load(&other->serial);
    if (atomic_load(&theirs->state) != IN || !(own->writing || theirs->writing)) return;
    if (may_meet(self, other, own->image)) return;
    const int pid = atomic_load(&other->pid), group = other->group;
    /* Marked meanwhile, or out: its entries say nothing any more. */
    if (is_dying(self) || is_dying(other) || atomic_load(&theirs->state) != IN || theirs->image != own->image ||
        atomic_load(&other->serial) != serial)
        return;
    report(&oracle->violations, oracle->first_violation,
           "pid %d of group %d, %s, meets pid %d of group %d, %s, in %d.img", getpid(), self->group,
           own->writing ? "writing" : "reading", pid, group, theirs->writing ? "writing" : "reading", own->image);
}

static void check_alone(struct use *own)
{
    for_each_other(own->image, look_for_stranger, own);
}

/* ---- was it right to refuse? ---------------------------------------------------------------------------- */

static pid_t parent_of(pid_t pid)
{
    char path[32], stat[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return 0;
    ssize_t length = read(descriptor, stat, sizeof stat - 1);
    close(descriptor);
    if (length <= 0) return 0;
    stat[length] = '\0';
    const char *end = strrchr(stat, ')');
    int parent = 0;
    if (!end || sscanf(end + 1, " %*c %d", &parent) != 1) return 0;
    return parent;
}

static bool is_ancestor(pid_t pid)
{
    for (pid_t at = getppid(); at > 1; at = parent_of(at))
        if (at == pid) return true;
    return false;
}

static bool has_description(unsigned description)
{
    for (int i = 0; i < HELD; i++)
        if (atomic_load(&self->uses[i].state) == IN && self->uses[i].description == description) return true;
    for (unsigned i = 0; i < opened_here_count && i < sizeof opened_here / sizeof *opened_here; i++)
        if (opened_here[i] == description) return true;
    return false;
}

struct judgement {
    const struct use *own;
    int relatives;
    bool strangers;
};

/* A lock that another process may have as well is never lowered, so this one may exclude readers still, though it only
 * reads. */
static bool may_exclude_readers(const struct member *other, int image)
{
    const uint64_t bit = UINT64_C(1) << image;
    return other->written & bit && (other->shared & bit || other->executed);
}

static void judge_one(struct member *other, struct use *theirs, void *context)
{
    struct judgement *judgement = context;
    if (atomic_load(&theirs->state) != IN || is_dying(other)) {
        judgement->strangers = true; /* comes or goes: nothing can be said */
    } else if (judgement->own->writing || theirs->writing) {
        if (is_ancestor(atomic_load(&other->pid)) || has_description(theirs->description))
            judgement->relatives++;
        else
            judgement->strangers = true;
    } else if (may_exclude_readers(other, theirs->image)) {
        judgement->strangers = true;
    }
}

/* use is what was wanted; changes, what the image's counter said just before the call. */
static void judge_refusal(struct use *use, unsigned changes, int error)
{
    struct judgement judgement = {.own = use};
    if (atomic_load(&oracle->at_work[use->image])) return;
    for_each_other(use->image, judge_one, &judgement);
    if (judgement.strangers || is_dying(self) || atomic_load(&oracle->at_work[use->image])) return;
    if (atomic_load(&oracle->changes[use->image]) != changes) return;
    atomic_fetch_add(&oracle->judged, 1);
    report(&oracle->wrong_refusals, oracle->first_wrong_refusal,
           "pid %d of group %d, generation %d, wants %d.img for %s, where %d relatives are and nobody else: %s",
           getpid(), self->group, self->generation, use->image, use->writing ? "writing" : "reading",
           judgement.relatives, strerror(error));
}

#endif
