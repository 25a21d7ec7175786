/* report_model.h: who had which image open, when, as the events of audit logs tell it. */
#ifndef IMGLOCK_REPORT_MODEL_H
#define IMGLOCK_REPORT_MODEL_H

#include "report_log.h"

struct report_process {
    unsigned boot;
    pid_t pid, parent_pid;
    uint32_t number; /* in the order of their first line */
    uint64_t start;
    int64_t uid;
    const struct report_name *comm, *cmdline; /* when it was seen first */
    struct report_process *older;             /* the process that had this pid before, in the order of start times */
    struct report_process *parent;            /* as far as the logs know it; set when all lines have been read */
    struct report_holder *holders;            /* what it had to do with each image */
    struct crowd *crowd;                      /* report_overlap.c */
    size_t holder_count;
};

enum span_end { END_RELEASED, END_EXITED, END_UNKNOWN };

/* A part of a span in which the lock's mode stayed the same. */
struct segment {
    int64_t from, to;
    enum lock_mode mode; /* as needed; the lock itself where locked */
    bool locked;
    bool granted; /* begins with a lock that the kernel gave: what excludes it was gone by then */
};

/* Which file an image was. */
struct file {
    const struct report_name *device;
    uint64_t inode;
};

/* One process had one image open, from the first descriptor to the last. */
struct span {
    struct report_image *image;
    struct report_process *process;
    const struct report_name *comm, *cmdline, *flags;
    const struct file *file; /* NULL: not told */
    int64_t from, to;
    int64_t last_seen;        /* the last line that proves that it goes on */
    struct segment *segments; /* NULL where one says it all: see span_segment */
    uint32_t count;           /* of segments */
    uint32_t opens;
    uint32_t clashes; /* overlaps that corrupt, or mixtures, with this span */
    uint32_t number;  /* in the image */
    uint8_t end;      /* enum span_end */
    int8_t mode;      /* of the only segment, as its locked and granted are */
    bool locked : 1, granted : 1;
    bool let_through : 1; /* beside a lock that excludes it */
    bool inherited : 1;   /* it took no lock of its own: the lock came through fork or exec */
    bool family : 1;      /* its lock was let past an ancestor's */
    bool corrupts : 1;    /* has part in an overlap that corrupts */
    bool mixes : 1;       /* was a reader beside a writer, or the writer */
    bool reported : 1;    /* known from lines of others that name it as a holder */
};

enum wait_end { WAIT_GRANTED, WAIT_REFUSED, WAIT_UNKNOWN };

struct report_wait {
    struct report_process *process;
    const struct report_name *comm, *cmdline;
    pid_t thread;
    int64_t from, to;
    enum lock_mode mode;
    enum wait_end end;
    struct report_wait *next; /* of one holder, while they last */
};

/* Two processes had one image open at the same time, and one of them for writing.  Each that came while somebody else
 * was there makes one, with the first of those; else their number would be the square of that of the processes. */
struct overlap {
    struct span *first, *second; /* second began later */
    int64_t from, to;
    enum overlap_kind {
        OVERLAP_WRITERS, /* both for writing: the image is corrupt */
        OVERLAP_MIXTURE, /* a reader beside a writer: what was read may be of two times */
        OVERLAP_FAMILY,  /* ancestor and descendant, or one lock that fork handed on: no harm */
    } kind;
    bool possible; /* the end of one is not in the log, and it may have ended before */
    bool repeated; /* the two processes overlapped before on this image in this way: not counted again */
};

/* What lines say that are no part of a span.  Those that say the same share it. */
struct detail {
    enum event_kind kind; /* EVENT_CONFLICT, EVENT_GUARD, EVENT_LOST, EVENT_ERROR */
    enum lock_mode mode;
    bool regained;
    const struct report_name *comm, *cmdline, *what, *flags, *result, *error;
    struct opponent *opponents;
    size_t opponent_count;
};

struct incident {
    int64_t time;
    struct report_process *process;
    const struct detail *detail;
};

/* A program into which the library did not get. */
struct unwatched {
    const struct report_name *program, *why;
    const struct report_name *cmdline; /* who started it first */
    pid_t pid;
    int64_t time;
    size_t count;
};

struct report_image {
    const struct report_name *path, *lock;
    struct span **spans; /* by their beginning */
    size_t span_count, span_room;
    struct report_wait **waits;
    size_t wait_count, wait_room;
    struct incident *incidents;
    size_t incident_count, incident_room;
    struct overlap *overlaps; /* by their beginning; those with a span of another image, too: one file, two names */
    size_t overlap_count, overlap_room;
    size_t holder_count;
    size_t clashes, mixtures, possible, family; /* pairs of processes that overlap */
    struct report_image *same;                  /* an image with which it shared a file, or itself */
};

struct report {
    struct log log;
    int64_t from, to;
    struct report_image **images; /* in the order of their first line */
    size_t image_count, image_room;
    struct report_process **processes; /* in the order of their first line, so those of a boot together */
    size_t process_count, process_room;
    struct incident *homeless; /* errors without an image */
    size_t homeless_count, homeless_room;
    struct unwatched **unwatched; /* in the order in which they were started first */
    size_t unwatched_count, unwatched_room;
    size_t events;
    size_t boots, spans, clashes, mixtures, possible, family;
    size_t refused, let_through, waits, lost, errors, skipped;
};

/* Is there anything that locks would prevent, or have prevented? */
bool report_has_conflict(const struct report *report);

/* The strongest mode of a span. */
enum lock_mode span_mode(const struct span *span);

/* One of the parts of a span. */
struct segment span_segment(const struct span *span, size_t number);

struct segment span_last_segment(const struct span *span);

/* Sets the end of a span's last part, and so its own. */
void span_set_end(struct span *span, int64_t at);

/* Ends a span at an earlier time. */
void cut_span(struct span *span, int64_t at);

/* The name of the boot that the logs give it, or NULL. */
const struct report_name *boot_name(const struct report *report, unsigned boot);

/* Does the name of what came of a conflict say that it was let through? */
bool was_let_through(const struct report_name *result);

/* Firmware and the like: a file of the system that nobody wrote or was refused, of which people want to know nothing.
 */
bool is_system_file(const struct report_image *image);

#endif
