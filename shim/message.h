/* message.h: what imglock says: a line for each thing that there is to say.
 *
 * Who is in the way is put into words by obstacle.h; where a line goes is up to message_line.h.  Nothing is written
 * unless an image open is refused or cannot be evaluated, so a program that never meets a locked image never sees
 * output.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_MESSAGE_H
#define IMGLOCK_MESSAGE_H

#include "lock.h"
#include "markers.h"
#include "outsiders.h"
#include "policy.h"

/* What there is to say to whoever is refused, behind who is in the way. */
struct message_advice {
    int64_t waited_ns; /* how long it has waited */
    bool may_wait;     /* it waits when it is told to */
    bool may_read;     /* it only reads, which goes without a lock as well */
};

/* "imglock: PATH: ACTION: locked exclusively by COMMAND (pid N, user U) for T; waited T; ADVICE".  lock_descriptor: the
 * open lock file, whose records name the holders, or -1.  operations: 1 << enum operation, each: what was tried; who
 * blocks one of them is named as well.  marker: who is in the way by what it has announced on the image itself, and not
 * by the lock; NULL: nobody, here and below.  advice: NULL: it is not refused, or there is nothing to say. */
void message_conflict(const struct settings *settings, const char *path, const char *action, int lock_descriptor,
                      enum lock_mode wanted, unsigned operations, const struct marker *marker,
                      const struct message_advice *advice);

/* "imglock: PATH: ACTION: blocked by COMMAND (pid N, user U) for T: REASON". */
void message_blocked(const struct settings *settings, const char *path, const char *action, int lock_descriptor,
                     enum operation operation);

/* "imglock: PATH: ACTION: COMMAND (pid N, user U) has it open for writing, outside imglock". */
void message_outsider(const struct settings *settings, const char *path, const char *action,
                      const struct outsider *outsider);

/* "imglock: PATH: waiting; COMMAND (pid N, user U) has it ...". */
void message_waiting_outsider(const struct settings *settings, const char *path, const struct outsider *outsider);

/* "imglock: PATH: opened read-only instead of for writing: locked ..., or, where lock_descriptor is -1, the error. */
void message_degraded(const struct settings *settings, const char *path, int lock_descriptor, int error,
                      const struct marker *marker);

/* "imglock: PATH: ACTION: WHY", where why is a mode that does not allow the open. */
void message_mode(const struct settings *settings, const char *path, const char *action, const char *why);

/* A lock, or a mark, is gone, and somebody else has the image by now. */
struct message_loss {
    int lock_descriptor; /* open on the lock file, whose header names the image, or -1 */
    enum lock_mode mode; /* that it was of */
    const char *why;
    const struct marker *marker; /* who has marked the image, where it is the mark that is lost */
    bool fails;                  /* the program's writes do from now on */
};

/* "imglock: PATH: its lock is lost, WHY; now locked exclusively on HOST by COMMAND (pid N, user U) for T". */
void message_lost(const struct settings *settings, const struct message_loss *loss);

/* "imglock: PATH: ACTION: WHAT PATH-OF-LOCK-FILE: ERROR; next step". */
void message_problem(const struct settings *settings, const char *path, const char *action,
                     const struct lock_name *name, const struct lock_problem *problem);

/* "imglock: PATH: ACTION: IMGLOCK_X=value makes no sense: it takes ...". */
void message_bad_setting(const struct settings *settings, const char *path, const char *action);

/* After how many nanoseconds of waiting a waiter that has said so many lines says the next: on a terminal one after a
 * second; elsewhere after ten seconds, and then each minute. */
int64_t message_waits_until(const struct settings *settings, int said);

/* "imglock: PATH: waiting; locked exclusively by COMMAND (pid N, user U) for T". */
void message_waiting(const struct settings *settings, const char *path, int lock_descriptor, enum lock_mode wanted,
                     const struct marker *marker);

/* "imglock: PATH: TEXT", at IMGLOCK_LOG=debug. */
void message_debug(const struct settings *settings, const char *path, const char *text);

#endif
