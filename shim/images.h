/* images.h: the images that this process keeps track of, each with its lock and the holds that need it.
 *
 * A hold is one claim on one image, shared or exclusive.  The last one that goes releases the lock, the last exclusive
 * one lowers it.  A description that another process may have as well is never changed: who needs more takes a lock of
 * its own, which replaces that one here, and who needs less leaves it as it is.  An image that is locked by path and by
 * inode is two, of which the second is the first one's companion and is held, counted and released with it.
 *
 * Everything here is for the section. */
#ifndef IMGLOCK_IMAGES_H
#define IMGLOCK_IMAGES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "children.h"
#include "lock.h"

struct tracked_image {
    struct lock_name name;
    struct lock lock;
    uint32_t next;          /* in its bucket, or in the free list */
    uint32_t companion;     /* the lock by inode that goes with this one by path, or 0 */
    uint32_t readers;       /* holds that need the lock shared */
    uint32_t writers;       /* holds that need it exclusive */
    uint32_t inheritable;   /* descriptors without FD_CLOEXEC */
    bool through_exec;      /* the private descriptor has no FD_CLOEXEC */
    children_moment opened; /* just before the lock's description was */
    bool inherited;         /* which came through fork or exec: another process may have it, too */
    bool forked;            /* came through fork, and this process has not opened it by itself yet */
    int kept;      /* the private descriptor of an inherited description, beside the lock that was raised; 0: none */
    int64_t since; /* audit_now when the lock was taken, where there is an audit */
    dev_t device;
    ino_t inode;
    enum lock_mode asked; /* up to which the marks of others are known to be in nobody's way; marks.h */
    bool unmarked;        /* a description of the image is not marked as it should be, since another excludes that */
    bool distant;         /* a server keeps the marks */
    bool beside_marks;    /* marks of others were in the way, and let be: what they have says nothing any more */
    bool lost;            /* the server has lost the lock, and it is not had again: asking.h */
    bool lost_marks;      /* others have marked the image since the server lost the marks */
    bool told;            /* of either */
    bool doubtful;        /* others have the lock, or marks, for a moment perhaps */
    int64_t answered;     /* when a server was last asked for them, sys_monotonic; 0: none keeps them */
};

/* An image by its number; 0 is none. */
struct tracked_image *images_at(uint32_t number);

/* The image of that name, or 0. */
uint32_t images_find(const struct lock_name *name);

/* Is there no image whose name is much like this one?  Outside the section as well: another thread may be about to add
 * it. */
bool images_certainly_without(const struct lock_name *name);

/* ---- locks ---------------------------------------------------------------------------------------------- */

/* Brings one lock of this process to at least the wanted mode, by one on a description of its own where another process
 * may have that of the lock as well; *before is the mode that it had.  *number: the image, made if need be; it may be
 * without holds then, until images_count or images_settle.  watch: after LOCK_BUSY the image is there all the same,
 * without a lock. */
enum lock_result images_take(const struct lock_request *request, bool watch, uint32_t *number, int *opened,
                             enum lock_mode *before, struct lock_problem *problem);

/* Undoes images_take for an image that nobody came to hold, or not so strongly. */
void images_settle(uint32_t number);

/* A lock that came through exec: its descriptor is known by number only.  It may be shared with the process that passed
 * it down. */
void images_adopt(const struct lock_name *name, int descriptor);

/* Releases the adopted locks that nobody came to hold. */
void images_release_unused(void);

/* Has this process an image whose lock or marks a server keeps?  Outside the section as well. */
extern _Atomic bool images_distant;

/* A server has just given this image's lock, or keeps its marks. */
void images_note_distant(uint32_t number);

/* The server takes nothing from the lock's description any more: takes the lock on another one.  1; -EAGAIN: others
 * have it; or -EIO: it cannot be evaluated. */
int images_renew(uint32_t number);

/* The private descriptor from is about to be closed, and has a copy under another number already. */
void images_move_private(uint32_t number, int from, int copy);

/* The number of a private descriptor is another file's now.  The lock is gone with it; takes it again. */
void images_lost_private(int descriptor);

/* Enters a private descriptor into the table; image 0: of none.  False without memory. */
bool images_set_private(int descriptor, uint32_t image);

/* May another process have the descriptions of this image, too? */
bool images_is_shared(uint32_t number);

/* In a fork child: the locks are the parent's as well. */
void images_inherit_all(void);

/* ---- holds ---------------------------------------------------------------------------------------------- */

void images_count(uint32_t number, enum lock_mode mode);

/* inheritable: the descriptor that had the hold was counted as one without FD_CLOEXEC. */
void images_uncount(uint32_t number, enum lock_mode mode, bool inheritable);

/* So many descriptors of the image more have no FD_CLOEXEC. */
void images_count_inheritable(uint32_t number, int change);

/* Is the descriptor still open on the file? */
bool images_is_open_on(int descriptor, dev_t device, ino_t inode);

/* The lowest descriptor from first on that has a hold on the file, by whatever name; -1: none.  *entry: of the table.
 * One that is about to be closed still has its marks; if it is closed already and its number another's on the same
 * file, that has none yet. */
int images_next_of_file(int64_t first, dev_t device, ino_t inode, uint64_t *entry);

/* Drops the holds of entries that had to make room for a private descriptor.  At the end of the section. */
void images_drop_displaced(void);

/* Makes one image of two names: returns the number of which both are held; 0: it cannot be, *problem says why. */
uint32_t images_join(uint32_t by_path, uint32_t by_inode, struct lock_problem *problem);

#endif
