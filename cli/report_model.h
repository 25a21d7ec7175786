/* report_model.h: who had which image open, when, as the events of audit logs tell it. */
#ifndef IMGLOCK_REPORT_MODEL_H
#define IMGLOCK_REPORT_MODEL_H

#include "report_log.h"

struct process {
    unsigned boot;
    const struct name *boot_id; /* NULL: not told */
    pid_t pid, parent;
    uint64_t start;
    int64_t uid;
    const struct name *comm, *cmdline; /* when it was seen first */
    size_t number;                     /* in the order of their first line */
    struct process *older;             /* the process that had this pid before, in the order of start times */
    struct holder *holders;            /* what it had to do with each image */
};

enum span_end { END_RELEASED, END_EXITED, END_UNKNOWN };

/* A part of a span in which the lock's mode stayed the same. */
struct segment {
    int64_t from, to;
    enum lock_mode mode; /* as needed; the lock itself where locked */
    bool locked;
    bool granted; /* begins with a lock that the kernel gave: what excludes it was gone by then */
};

/* One process had one image open, from the first descriptor to the last. */
struct span {
    struct image *image;
    struct process *process;
    const struct name *comm, *cmdline, *flags;
    const struct name *device;
    uint64_t inode;
    int64_t from, to;
    int64_t last_seen; /* the last line that proves that it goes on */
    struct segment *segments;
    size_t count, room;
    enum span_end end;
    bool let_through; /* beside a lock that excludes it */
    bool inherited;   /* it took no lock of its own: the lock came through fork or exec */
    bool family;      /* its lock was let past an ancestor's */
    bool reported;    /* known from lines of others that name it as a holder */
    size_t opens;
    size_t clashes; /* overlaps that corrupt, with this span */
    size_t number;  /* in the image */
};

enum wait_end { WAIT_GRANTED, WAIT_REFUSED, WAIT_UNKNOWN };

struct waiting {
    struct process *process;
    const struct name *comm, *cmdline;
    pid_t thread;
    int64_t from, to;
    enum lock_mode mode;
    enum wait_end end;
    struct waiting *next; /* of one holder, while they last */
};

/* Two processes had one image open at the same time, and one of them for writing. */
struct overlap {
    struct span *first, *second; /* second began later */
    int64_t from, to;
    bool family;   /* ancestor and descendant, or one lock that fork handed on: no harm */
    bool possible; /* the end of one is not in the log, and it may have ended before */
    bool repeated; /* the two processes overlapped before on this image: not counted again */
};

/* A line that is no part of a span: conflict, guard, lost, error. */
struct incident {
    const struct event *event;
    struct process *process;
};

/* A process and an image, while the events are gone through. */
struct holder {
    struct image *image;
    struct process *process;
    struct span *span; /* the image is open */
    bool let_through;  /* a conflict or an error was, and the open is still to follow */
    bool problem;      /* it was an error */
    enum lock_mode mode;
    int64_t since;
    int64_t ended; /* the last span */
    struct waiting *waits;
    struct holder *next; /* of the process */
};

struct image {
    const struct name *path, *lock;
    struct span **spans; /* by their beginning */
    size_t span_count, span_room;
    struct waiting **waits;
    size_t wait_count, wait_room;
    struct incident *incidents;
    size_t incident_count, incident_room;
    struct overlap *overlaps; /* by their beginning; those with a span of another image, too: one file, two names */
    size_t overlap_count, overlap_room;
    size_t holder_count;
    size_t clashes, possible; /* pairs of processes that overlap */
};

struct report {
    struct log log;
    int64_t from, to;
    struct image **images; /* in the order of their first line */
    size_t image_count, image_room;
    struct incident *homeless; /* errors without an image */
    size_t homeless_count, homeless_room;
    size_t boots, processes, spans, clashes, possible, family;
    size_t refused, let_through, waits, lost, errors, skipped;
};

/* Makes the model from the arranged log. */
void report_build(struct report *report);

/* Is there anything that locks would prevent, or have prevented? */
bool report_has_conflict(const struct report *report);

/* The strongest mode of a span. */
enum lock_mode span_mode(const struct span *span);

/* Does the name of what came of a conflict say that it was let through? */
bool was_let_through(const struct event *event);

#endif
