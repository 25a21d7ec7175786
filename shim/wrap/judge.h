/* judge.h: is an open file an image, and may the program have it?
 *
 * One open of the program, as its wrapper describes it, and a descriptor that came of it or stands for it.  What is an
 * image is locked, and the lock is bound to the descriptor; where that cannot be, one line says why.
 *
 * What may be no image takes at most 3 KiB of stack, so what every open goes through is inlined here, and what images
 * alone come to has a frame of its own. */
#ifndef IMGLOCK_JUDGE_H
#define IMGLOCK_JUDGE_H

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "../settings.h"
#include "../sys.h"
#include "../track.h"
#include "claim.h"
#include "recognise.h"
#include "record_locks.h"

/* What it is judged for. */
enum purpose {
    PURPOSE_OPEN,    /* the program's descriptor */
    PURPOSE_LOOK,    /* an O_PATH descriptor, before the program's open */
    PURPOSE_INHERIT, /* a descriptor that came through exec */
};

/* invoke does the real call with the flags given, which differ from the call's own by O_CREAT, O_EXCL and O_TRUNC, or
 * ask for reading alone; it returns a descriptor, or -1 with libc's errno. */
struct opening {
    int (*invoke)(const struct opening *opening, int flags);
    int (*look)(const struct opening *opening, int flags); /* opens for O_PATH; NULL: by the path */
    const char *path;                                      /* NULL: none */
    const void *real;                                      /* for invoke */
    const void *extra;                                     /* for invoke and look */
    int directory;
    int flags;
    mode_t mode;
    enum purpose purpose;
    struct claim_time time; /* of everything that this open waits for */
};

/* ---- refusing ------------------------------------------------------------------------------------------- */

/* Out of the way of every open: frames of what is seldom called would add to those of what is called under them. */
#define SELDOM __attribute__((noinline, cold))

/* What stands in the way of evaluating the lock, in one line; then the errno, or 0 with IMGLOCK_ON_ERROR=allow. */
SELDOM int judge_refuse_for_problem(const struct settings *settings, const struct opening *opening, int error,
                                    const char *what);

/* The same for a setting that makes no sense. */
SELDOM int judge_refuse_for_setting(const struct settings *settings, const struct opening *opening);

/* ---- an image that is open ------------------------------------------------------------------------------ */

/* Locks an image that is open, and binds the lock to its descriptor.  last, also: as in judge_file. */
int judge_image(const struct settings *settings, struct opening *opening, int descriptor, const struct stat *status,
                bool last, struct track_hold *also);

/* Locks an image before the program's own open of it, through a descriptor that stands for that.  mark: the descriptor
 * that is marked; -1: none.  *hold is under a cleanup handler of the caller's.  *degraded: a lock for reading is all
 * that was to be had, and has to do (IMGLOCK_ON_CONFLICT=read-only). */
int judge_lock_ahead(const struct settings *settings, struct opening *look, int descriptor, const struct stat *status,
                     int mark, struct track_hold *hold, bool *degraded);

/* The program's descriptor becomes one for reading, under the same number.  0 or an errno. */
int judge_reopen_for_reading(const struct opening *opening, int descriptor);

/* ---- judging -------------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) enum recognised judge_recognise(const struct settings *settings,
                                                                             const struct opening *opening,
                                                                             int descriptor, const struct stat *status,
                                                                             int *error)
{
    const int access = opening->flags & O_ACCMODE;
    const struct sight sight = {.directory = opening->directory,
                                .path = opening->path,
                                .flags = opening->flags,
                                .descriptor = descriptor,
                                .readable =
                                    opening->purpose != PURPOSE_LOOK && (access == O_RDONLY || access == O_RDWR),
                                .status = status};
    /* To read what is open for writing alone takes a second descriptor. */
    if (opening->purpose == PURPOSE_INHERIT && access != O_RDONLY) record_locks_note_inherited(descriptor);
    return recognise(settings, &sight, error);
}

/* The file that was judged. */
struct identity {
    dev_t device;
    ino_t inode;
};

/* Judges an open file, and locks it where it is an image.  0 or an errno.  ESTALE: open it once more and judge again,
 * unless last.  also: an earlier hold of the same open, or NULL. */
static inline __attribute__((always_inline)) int judge_file(struct opening *opening, int descriptor, bool last,
                                                            struct identity *identity, struct track_hold *also)
{
    const struct settings *settings = settings_get();
    struct stat status;
    int error = -sys_fstat(descriptor, &status);
    /* A file system that has lost its server: there is no open to refuse, and the program is not ended for it. */
    if (error && opening->purpose == PURPOSE_INHERIT) return 0;
    if (error) return judge_refuse_for_problem(settings, opening, error, "cannot look at it");
    *identity = (struct identity){status.st_dev, status.st_ino};
    switch (judge_recognise(settings, opening, descriptor, &status, &error)) {
    case RECOGNISED_NO_IMAGE:
        return 0;
    case RECOGNISED_UNKNOWN:
        return judge_refuse_for_problem(settings, opening, error, "cannot look at its content");
    case RECOGNISED_IMAGE:
        break;
    }
    if (settings->bad_variable) return judge_refuse_for_setting(settings, opening);
    return judge_image(settings, opening, descriptor, &status, last, also);
}

/* Judges a descriptor that the program's call has just opened without destroying anything.  0: it may have it.
 * -1: errno says why not; the caller closes the descriptor by the means that opened it. */
int judge_opened(struct opening *opening, int descriptor);

#endif
