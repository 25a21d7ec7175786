/* gluster_mark.h: the marks of images that are open by libgfapi.
 *
 * By glfs_file_lock, with an owner of its own for each glfs_fd, by which these locks behave as those of open file
 * descriptions do. */
#ifndef IMGLOCK_GLUSTER_MARK_H
#define IMGLOCK_GLUSTER_MARK_H

#include "gluster_files.h"

/* Marks a new glfs_fd, and asks whether anybody is in the way, unless that is known or a relative has been asked. True:
 * somebody is, and it is not marked; false: it is, as far as it can be, and shown.  warn: nothing is to be excluded. */
bool gluster_mark_is_taken(struct gluster_file *file, struct glfs_fd *fd, bool warn);

/* Marks a copy as the one that it is of, and shows it. */
void gluster_mark_copy(struct gluster_file *file, struct glfs_fd *copy);

/* The program locks this image itself, or asks who has: no mark of ours is to be met any more. */
void gluster_mark_give_up(struct glfs_fd *fd);

#endif
