/* usage.h: who uses which image, as data: one usage, the list of them, and the question that it answers. */
#ifndef IMGLOCK_USAGE_H
#define IMGLOCK_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mark.h"
#include "protocol.h"
#include "settings.h"

enum usage_kind {
    KIND_HOLDER,     /* recorded, and as far as can be seen it is so */
    KIND_HELPER,     /* the same, on the descendants' bytes */
    KIND_INHERITED,  /* has the lock from a process that is gone, or shares it with one */
    KIND_UNRECORDED, /* holds the lock and left no record */
    KIND_FOREIGN,    /* recorded on another host or in another pid namespace, and not to be seen from here */
    KIND_BLOCKER,    /* holds no lock, and blocks operations (imglock hold --no-lock) */
    KIND_WAITING,    /* waits for the lock */
    KIND_MARKED,     /* has imglock's marks on the image, and its lock by another name or in another directory */
    KIND_QEMU,       /* has QEMU's own lock on the image */
    KIND_LOCKED,     /* has locked the image by another lock of the kernel's */
    KIND_MOUNTED,    /* nobody: a block device that is mounted, or a part of it */
    KIND_OPEN        /* has the image open and does not hold its lock */
};

/* One process that uses one image.  Strings are as they were found: whoever prints them escapes them. */
struct usage {
    const char *image;            /* its path, or NULL where the lock file does not tell it rightly */
    const struct lock_name *name; /* of the lock file; of an open, that of the lock which is missing */
    enum lock_mode mode;          /* below LOCK_SHARED: no lock */
    bool noted;                   /* that it has no lock it says itself, in a record */
    enum usage_kind kind;
    pid_t pid; /* 0: unknown */
    bool uid_known;
    uid_t uid;
    char command[49];
    char host[33];
    int descriptor;   /* -1: unknown */
    int64_t since_ms; /* 0: unknown */
    uint64_t start;   /* 0: unknown, as the next two */
    uint64_t boot;
    uint64_t pid_space;
    unsigned block; /* 1 << enum operation, each: what it forbids others */
    char reason[RECORD_SIZE];
    char guest[64];   /* of a QEMU; or empty, as the next two */
    char unit[96];    /* systemd's */
    char machine[64]; /* machine or container */
    char mark;        /* for a watch: '+' is new, '-' is gone */
    bool first;       /* of those that wait: it has the gate */
    bool recorded;    /* the record is its own */
    bool same;        /* the same open file description as the usage before: told in that one's row */
    unsigned sharers; /* how many more processes have this one's, by inheritance */
    /* Of one that does not hold the lock, and is not on record: */
    bool seen;   /* how it has the image open is known */
    bool writes; /* for writing */
    bool mapped; /* and no descriptor of it is left */
    int loop;    /* its number: a loop device; or -1 */
    bool flock;  /* locked by flock(2) */
    struct mark_meaning meaning;
    const char *as; /* where the lock of one that is KIND_MARKED is, in words, and the mount point; or NULL */
};

struct usage_list {
    struct usage *usages;
    size_t count, room;
    struct looked_lock *locks; /* what the usages' names and images point into */
    size_t lock_count, lock_room;
    struct looked_image *images;
    size_t image_count, image_room;
    void *image_tree; /* of tsearch: images by path */
    char **words;     /* what the usages' as point into */
    size_t word_count, word_room;
    size_t unseen; /* processes that could not be looked into */
    bool failed;   /* something could not be looked at, and a line said so */
};

/* What is asked for: nothing means every lock of the directory. */
struct named_path {
    char *path;     /* a real path */
    bool directory; /* images below it */
    bool missing;   /* there is no such file */
};

struct question {
    const struct settings *settings;
    struct named_path *named;
    size_t count;
    struct lock_cache *cache; /* NULL: lock files are closed after they were looked at */
};

#endif
