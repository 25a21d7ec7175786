/* process_scan.h: which processes have some files open, and what they lock in them: one pass over /proc. */
#ifndef IMGLOCK_PROCESS_SCAN_H
#define IMGLOCK_PROCESS_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mark.h"
#include "protocol.h"

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

#endif
