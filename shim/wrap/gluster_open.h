/* gluster_open.h: one open of an image by libgfapi: named, judged, locked, or refused.
 *
 * What creates or destroys is done when the lock is had: by another glfs_fd, which does nothing to the file, or, where
 * there is no file, by its name. */
#ifndef IMGLOCK_GLUSTER_OPEN_H
#define IMGLOCK_GLUSTER_OPEN_H

#include "claim.h"
#include "gluster_files.h"

struct gluster_call {
    struct glfs_fd *(*invoke)(const struct gluster_call *call, int flags);
    struct glfs *fs;
    struct glfs_fd *directory;
    const char *path; /* NULL: none */
    struct glfs_object *object;
    int flags;
    mode_t mode;
    bool known; /* for an image, from before it was truncated */
    struct claim_time time;
};

/* The program's call, or NULL and errno. */
struct glfs_fd *gluster_open(struct gluster_call *call);

/* Judges what is open, or a name that is about to be created, fd NULL; and locks it.  0: *file, which knows the fd, has
 * the hold, or is NULL where it is no image; or an errno.  ahead: the fd is not the one that the program gets. */
int gluster_open_judge(struct gluster_call *call, struct glfs_fd *fd, bool ahead, struct gluster_file **file);

/* Closes what is not to be had.  NULL, and errno is the error. */
struct glfs_fd *gluster_open_refused(struct glfs_fd *fd, int error);

#endif
