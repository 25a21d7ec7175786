/* gluster_files.h: what a program has of GlusterFS by libgfapi: its volumes, and the images that it has open there.
 *
 * Tables of a fixed size, which the first glfs that a program makes maps.  Entries are taken and given back by one
 * atomic operation each, without a lock.  What is like one is the turn at an image, which has an end of its own. */
#ifndef IMGLOCK_GLUSTER_FILES_H
#define IMGLOCK_GLUSTER_FILES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../track.h"
#include "libgfapi.h"

/* As long as a server may take for one answer; then the thread that asked it was ended in the midst of it. */
#define GLUSTER_ANSWER_NS (INT64_C(60) * 1000 * 1000 * 1000)

/* ---- volumes --------------------------------------------------------------------------------------------- */

/* Of a glfs: the start of its images' names. */
struct gluster_volume {
    char name[256], host[256];
};

void gluster_volume_add(struct glfs *fs, const char *name);

/* The first of several servers of one volume names it. */
void gluster_volume_add_host(struct glfs *fs, const char *host);

/* NULL: it was made in another way, or there were too many. */
struct gluster_volume *gluster_volume_of(const struct glfs *fs);

/* A glfs is about to end, and all that it had open with it: retires that.  The number is for gluster_volume_ended,
 * which drops it; what a new glfs of the same address opens meanwhile is not. */
uint64_t gluster_volume_ends(const struct glfs *fs);
void gluster_volume_ended(uint64_t number);

/* ---- files ----------------------------------------------------------------------------------------------- */

/* A glfs_fd that has an image open. */
struct gluster_file {
    _Atomic(struct glfs_fd *) fd; /* NULL: nobody has this entry */
    struct glfs *fs;
    struct track_hold hold;
    dev_t device;
    ino_t inode;
    enum lock_mode asked; /* up to which the marks of others are known to be in nobody's way */
    enum lock_mode mode;
    int access;     /* O_RDONLY or O_RDWR: a server gives a read lock to what is open for writing alone, too */
    bool by_itself; /* the program locks the image itself */
    uint64_t ends;  /* it goes with its glfs, by this number; 0: not yet */
};

/* An entry that nobody has, which only its owner knows; NULL: there is none.  By gluster_file_show it is found by its
 * glfs_fd. */
struct gluster_file *gluster_file_new(void);
void gluster_file_show(struct gluster_file *file, struct glfs_fd *fd);

struct gluster_file *gluster_file_of(const struct glfs_fd *fd);

/* Calls visit for each glfs_fd that the process has on the image of this one.  None is closed meanwhile.  turn: of
 * whose turn that is a part; NULL: of nobody's. */
typedef void gluster_visit(struct gluster_file *file, const struct gluster_file *turn);
void gluster_file_each(const struct gluster_file *like, gluster_visit *visit, const struct gluster_file *turn);

/* The most that one of them has asked for already. */
enum lock_mode gluster_file_asked(const struct gluster_file *like);

/* From now on nobody finds the entry by its glfs_fd, whose address the next open may be given, and nobody is at work on
 * it.  When the glfs_fd is closed, drop gives the entry back, and the hold. */
void gluster_file_retire(struct gluster_file *file);
void gluster_file_drop(struct gluster_file *file);

/* Is one of the image retired just now, whose marks are still there?  And how many were so far: whoever reads the same
 * number twice, and sees none in between, has missed none. */
bool gluster_file_is_closing(const struct gluster_file *like);
uint64_t gluster_files_closed(void);

/* Whose turn is it to mark the image, and to ask who else has?  Whoever asks takes the marks of all others of this
 * process off meanwhile, and would take for a stranger's those of one who is not shown yet.
 *
 * A lock on one image, and the only thing that is held across a server's answers.  It goes in the order in which they
 * came, and nobody waits but who is about to ask the same server about the same image; who has another image does not.
 * Whoever is before one is waited for as long as he is at work, whatever IMGLOCK_WAIT says: threads of one program are
 * in nobody's way.  He says so by renew, before each call to the server, and when nothing was heard of him for
 * GLUSTER_ANSWER_NS, he was ended in the midst of it, and his turn is over.  The number is for the end of this very
 * turn: as soon as the file is shown, its entry may be dropped, and be another's. */
uint64_t gluster_begin_turn(const struct gluster_file *file);
void gluster_renew_turn(const struct gluster_file *file);
void gluster_end_turn(const struct gluster_file *file, uint64_t number);

/* A number that no glfs_fd of this process has had. */
uint64_t gluster_new_owner(void);

#endif
