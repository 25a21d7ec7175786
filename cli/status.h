/* status.h: what the parts of imglock status share.
 *
 *   status.c          the command line, and the exit status
 *   status_watch.c    --watch: lists anew when something changes
 *   status_table.c    columns, and how they are printed
 *   usage_list.c      who uses which image: lock files and processes put together
 *   process_scan.c    the pass over /proc
 *   other_name.c      what marks on an image say of a lock that is elsewhere
 *   lock_directory.c  the lock files of a directory (for gc, too) */
#ifndef IMGLOCK_STATUS_H
#define IMGLOCK_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "holders.h"
#include "lock.h"
#include "mark.h"
#include "policy.h"
#include "text.h"

/* ---- lock_directory.c --------------------------------------------------------------------------------------- */

struct lock_names {
    struct lock_name *names;
    size_t count;
};

/* The names in a lock directory that lock files have, in their order.  0 or an errno. */
int lock_directory_list(const char *directory, struct lock_names *list);

/* ---- process_scan.c ----------------------------------------------------------------------------------------- */

/* What tells one file from all others: device and inode; for a block device its number, and 0. */
struct file_identity {
    uint64_t device;
    uint64_t inode;
};

/* One process that has one of the files open. */
struct finding {
    size_t file; /* the number that scan_add gave */
    pid_t pid;
    int descriptor;        /* -1: mapped, and no descriptor of it is left */
    enum lock_mode own;    /* its lock on bytes 0-1 of a lock file */
    bool first_byte;       /* byte 0 is among them */
    enum lock_mode beside; /* in the relatives' range */
    int slot;              /* the slot whose byte it has locked, or -1 */
    bool gate;             /* it holds the gate: it is the next writer */
    bool waits;            /* it has the file open, holds nothing in it, and is told when it changes */
    int loop;              /* the loop device of this number has it open, and no process; or -1 */
    /* Of what is no lock file: */
    bool writes; /* open, or mapped, for writing */
    bool flock;  /* locked by flock(2) */
    struct mark_meaning meaning;
};

struct process_scan {
    struct scanned_file *files;
    size_t file_count, file_room;
    size_t *buckets;
    size_t bucket_count;
    bool mappings;            /* look for files that are mapped, too: takes half as long again */
    struct finding *findings; /* ordered by file, process and descriptor */
    size_t finding_count, finding_room;
    pid_t *seen; /* the processes that could be looked into, in ascending order */
    size_t seen_count, seen_room;
    size_t unseen; /* how many could not */
    bool missed;   /* a part of the one that is looked into could not be read */
    int error;     /* why /proc cannot be read, or 0 */
};

/* Identifies a regular file or a block device.  False for everything else, and what does not exist.  Does not wait for
 * a server of a network file system. */
bool identify_file(int directory, const char *name, struct file_identity *identity);

/* A file to look for.  Lock files are looked into further: which bytes are locked.  Returns its number; the same one
 * for the same file. */
size_t scan_add(struct process_scan *scan, const struct file_identity *identity, bool lock_file);

/* One pass over all processes and loop devices. */
void scan_run(struct process_scan *scan);

/* The findings of a file: from the returned one on, *count. */
const struct finding *scan_findings(const struct process_scan *scan, size_t file, size_t *count);

bool scan_has_seen(const struct process_scan *scan, pid_t pid);

void scan_free(struct process_scan *scan);

/* What /proc tells every user of a process. */
struct process_facts {
    pid_t pid;
    pid_t inner_pid;    /* in its own pid namespace */
    uint64_t pid_space; /* inode of that namespace; 0: unknown */
    uint64_t start;     /* clock ticks since boot */
    uid_t uid;          /* effective */
    char command[17];   /* as it is: not to be trusted */
};

/* False when the process is gone. */
bool process_look_up(pid_t pid, struct process_facts *process);

/* ---- usage_list.c ------------------------------------------------------------------------------------------- */

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

/* Lists who uses what.  Complains of what cannot be looked at. */
void usages_collect(const struct question *question, struct usage_list *list);

void usages_free(struct usage_list *list);

/* The order of a list, for qsort(3). */
int usages_order(const void *a, const void *b);

/* Do two usages say the same, but for how long? */
bool usages_are_alike(const struct usage *a, const struct usage *b);

/* Keeps lock files open from one list to the next, so that looking at them is no event that a watch reports. */
struct lock_cache *lock_cache_make(void);

/* Adds a usage of the image by somebody of whom nothing is known but what the image's locks say, which may be nothing.
 */
void usages_add_unknown(struct usage_list *list, const char *image, const struct mark_meaning *meaning);

/* ---- other_name.c ------------------------------------------------------------------------------------------- */

/* Where the lock is of a process that has imglock's marks on this image by this descriptor, in words: "as
 * /other/name", "in /other/directory".  The caller frees it.  NULL: it cannot be told. */
char *other_name_of(const char *directory, const char *image, pid_t pid, int descriptor);

/* What the locks on an image say, whoever has them; by asking the kernel through an open for reading, which tells every
 * user who may read the image, of other hosts and containers as well.  False: there are none. */
bool image_locks_ask(const char *image, struct mark_meaning *meaning);

/* Every path of an image in the list: what a watch watches. */
const char *usages_image(const struct usage_list *list, size_t index);

/* ---- status_table.c ----------------------------------------------------------------------------------------- */

enum table_format { TABLE_PLAIN, TABLE_RAW, TABLE_JSON };

struct table_options {
    enum table_format format;
    bool headings;
    bool chosen; /* the user has said which columns */
    bool wrap;   /* what is too long for the terminal goes on in the next line */
    bool colour;
    bool words;    /* times in words: "3 h" */
    bool marks;    /* a column of what is new and what is gone */
    bool follow;   /* a line for each change */
    bool one_line; /* a JSON document is one line */
    const struct settings *settings;
    int columns[32];
    size_t column_count;
};

/* The columns that are printed unless others are asked for. */
void table_default_columns(struct table_options *options);

/* The columns of a list, "A,B", or of the default ones and more, "+A,B".  False, after a complaint. */
bool table_parse_columns(struct table_options *options, const char *list);

void table_all_columns(struct table_options *options);

void table_list_columns(void);

/* Their names, separated by blanks. */
const char *table_column_names(void);

/* Prints the list to standard output.  0, or an errno. */
int table_print(const struct table_options *options, const struct usage_list *list);

/* The table as a text, which the caller frees.  NULL: there is no memory. */
char *table_text(const struct table_options *options, const struct usage_list *list);

/* Prints one usage as a raw line: the time, its mark, and the columns. */
void table_print_change(const struct table_options *options, const struct usage *usage);

const char *usage_kind_name(enum usage_kind kind);

/* What it has of the image if not its lock, in words: "QEMU's own lock: writes, shares nothing"; or nothing. */
void usage_append_has(struct text *text, const struct usage *usage);

/* The mode's name; "unlocked" for an open that imglock has nothing to do with. */
const char *usage_mode_name(const struct usage *usage);

/* ---- status_watch.c ----------------------------------------------------------------------------------------- */

/* Shows the list whenever it changes, until SIGINT or SIGTERM: in place on a terminal, else again and again, or as a
 * line for each change.  Returns the exit status. */
int status_watch(struct question *question, const struct table_options *options);

/* The exit status that a list stands for. */
int status_of_list(const struct usage_list *list);

/* The line about processes that could not be looked into. */
void status_note_unseen(const struct usage_list *list);

#endif
