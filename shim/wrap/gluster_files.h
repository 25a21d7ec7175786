/* gluster_files.h: what a program has of GlusterFS by libgfapi: its volumes, and the images that it has open there.
 *
 * Tables of a fixed size, which the first glfs that a program makes maps.  Entries are taken and given back by one
 * atomic operation each, and no lock is held. */
#ifndef IMGLOCK_GLUSTER_FILES_H
#define IMGLOCK_GLUSTER_FILES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../track.h"
#include "libgfapi.h"

/* As long as a server may take to answer; then the thread that asked it was ended in the midst of it. */
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

/* Calls visit for each glfs_fd that the process has on the image of this one.  None is closed meanwhile. */
void gluster_file_each(const struct gluster_file *like, void (*visit)(struct gluster_file *file));

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
 * process off meanwhile, and would take for a stranger's those of one who is not shown yet.  No lock: it is noted in
 * the entry of the file, and nobody waits but who is about to ask the same server about the same image, which is silent
 * to him as well.  Who has another image does not.  After GLUSTER_ANSWER_NS the turn goes on to the next. */
void gluster_begin_turn(const struct gluster_file *file);
void gluster_end_turn(const struct gluster_file *file);

/* A number that no glfs_fd of this process has had. */
uint64_t gluster_new_owner(void);

#endif
