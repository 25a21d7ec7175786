/* libgfapi.h: what is needed of libgfapi, GlusterFS's library, whose headers are nothing that everybody has.
 *
 * As api/src/glfs.h of GlusterFS 10 declares it. */
#ifndef IMGLOCK_LIBGFAPI_H
#define IMGLOCK_LIBGFAPI_H

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lookup.h"
#include "real.h"

/* The next definition; NULL: libgfapi is not there, or too old for it.  It may be linked, or be loaded later and out of
 * sight, as QEMU's module for it is: so it is looked for at each call. */
#define GLUSTER(name) ((__typeof__(&name))lookup_anywhere(#name))

struct glfs;
struct glfs_fd;
struct glfs_object;

/* ---- wrapped --------------------------------------------------------------------------------------------- */

EXPORT struct glfs *glfs_new(const char *volume);
EXPORT int glfs_set_volfile_server(struct glfs *fs, const char *transport, const char *host, int port);
EXPORT int glfs_fini(struct glfs *fs);
EXPORT struct glfs_fd *glfs_open(struct glfs *fs, const char *path, int flags);
EXPORT struct glfs_fd *glfs_creat(struct glfs *fs, const char *path, int flags, mode_t mode);
EXPORT struct glfs_fd *glfs_openat(struct glfs_fd *directory, const char *path, int flags, mode_t mode);
EXPORT struct glfs_fd *glfs_h_open(struct glfs *fs, struct glfs_object *object, int flags);
EXPORT struct glfs_object *glfs_h_creat_open(struct glfs *fs, struct glfs_object *parent, const char *path, int flags,
                                             mode_t mode, struct stat *status, struct glfs_fd **fd);
EXPORT struct glfs_fd *glfs_dup(struct glfs_fd *fd);
EXPORT int glfs_close(struct glfs_fd *fd);
EXPORT int glfs_posix_lock(struct glfs_fd *fd, int command, struct flock *range);
EXPORT int glfs_file_lock(struct glfs_fd *fd, int command, struct flock *range, int mode);
EXPORT int glfs_fd_set_lkowner(struct glfs_fd *fd, void *owner, int length);

/* ---- called ---------------------------------------------------------------------------------------------- */

struct glfs *glfs_from_glfd(struct glfs_fd *fd);
int glfs_fstat(struct glfs_fd *fd, struct stat *status);
/* Before version 6 without the last argument, which nobody reads then. */
ssize_t glfs_pread(struct glfs_fd *fd, void *bytes, size_t size, off_t offset, int flags, void *after);
int glfs_ftruncate(struct glfs_fd *fd, off_t size, struct stat *before, struct stat *after); /* the same */
char *glfs_realpath(struct glfs *fs, const char *path, char *real);
int glfs_h_close(struct glfs_object *object);
ssize_t glfs_h_extract_handle(struct glfs_object *object, unsigned char *handle, int size);

#endif
