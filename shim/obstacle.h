/* obstacle.h: who is in the way of an image, put into words.
 *
 * A holder of the lock by its record, whoever has marked the image by its process, an outsider by what it has.  Each
 * function appends to a line.  Names of files and programs are escaped.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_OBSTACLE_H
#define IMGLOCK_OBSTACLE_H

#include <stdbool.h>
#include <sys/types.h>

#include "holders.h"
#include "lock.h"
#include "markers.h"
#include "outsiders.h"
#include "text.h"

/* "locked exclusively by COMMAND (pid N, user U) for T": the holders that are in the way of a lock in this mode.
 * lock_descriptor: the open lock file, whose records name them, or -1.  Returns the pid of the holder that it names; 0:
 * none.  *alone: nobody else is in the way. */
pid_t obstacle_append_holders(struct text *line, int lock_descriptor, enum lock_mode wanted, bool *alone);

/* "by COMMAND (pid N, user U, guest G, unit X) and 2 others for T: REASON", and "on HOST " before it where that is
 * another; unfinished: of others not all were looked at. */
void obstacle_append_holder(struct text *line, const struct holder *holder, int others, bool unfinished);

/* "; it is locked shared by ...".  Whose marks nobody can be shown to have set may be those of another user's program
 * that has the lock, too. */
void obstacle_append_sharers(struct text *line, int lock_descriptor);

/* "; blocked by ...": who blocks what was tried, where that is another than the one who is named already. */
void obstacle_append_blocker(struct text *line, int lock_descriptor, unsigned operations, pid_t named);

/* "locked exclusively by COMMAND (pid N, user U) as OTHER", "in use by qemu-img (pid N, user U): QEMU's own lock:
 * writes, shares nothing". */
void obstacle_append_marker(struct text *line, const struct marker *marker, const char *path);

/* "; kept by virtlockd (pid N), too", behind who is in the way: of a machine of libvirt. */
void obstacle_append_keeper(struct text *line, const char *path);

/* "COMMAND (pid N, user U) has it open for writing, outside imglock". */
void obstacle_append_outsider(struct text *line, const struct outsider *outsider);

#endif
