/* gluster.c: images that a program opens by libgfapi, as QEMU does those of gluster://HOST/VOLUME/PATH.
 *
 * There is no descriptor and no path that two hosts have in common, but the bytes of the image are locked on its
 * server: so the mark (mark.h) is what keeps hosts, and programs that have the same image through a mount, apart.  For
 * it each glfs_fd gets an owner of its own, by which libgfapi's locks behave as those of open file descriptions do. The
 * lock beside it is that of the name gluster://HOST/VOLUME/PATH, by which programs of one lock directory wait for each
 * other and name each other.
 *
 * libgfapi's calls take milliseconds, allocate and wait, so they are nothing for a signal handler; nor is what is here.
 */
#include <errno.h>

#include "../settings.h"
#include "gluster_mark.h"
#include "gluster_open.h"
#include "libgfapi.h"

/* ---- what the program calls ------------------------------------------------------------------------------ */

static struct glfs_fd *not_there(void)
{
    errno = ENOSYS;
    return NULL;
}

static struct glfs_fd *invoke_open(const struct gluster_call *call, int flags)
{
    __typeof__(&glfs_open) real = GLUSTER(glfs_open);
    return real ? real(call->fs, call->path, flags) : not_there();
}

static struct glfs_fd *invoke_creat(const struct gluster_call *call, int flags)
{
    __typeof__(&glfs_creat) real = GLUSTER(glfs_creat);
    /* It creates whatever the flags say. */
    if (flags != call->flags) return invoke_open(call, flags);
    return real ? real(call->fs, call->path, flags, call->mode) : not_there();
}

static struct glfs_fd *invoke_openat(const struct gluster_call *call, int flags)
{
    __typeof__(&glfs_openat) real = GLUSTER(glfs_openat);
    return real ? real(call->directory, call->path, flags, call->mode) : not_there();
}

static struct glfs_fd *invoke_h_open(const struct gluster_call *call, int flags)
{
    __typeof__(&glfs_h_open) real = GLUSTER(glfs_h_open);
    return real ? real(call->fs, call->object, flags) : not_there();
}

struct glfs_fd *glfs_open(struct glfs *fs, const char *path, int flags)
{
    struct gluster_call call = {.invoke = invoke_open, .fs = fs, .path = path, .flags = flags};
    return gluster_open(&call);
}

struct glfs_fd *glfs_creat(struct glfs *fs, const char *path, int flags, mode_t mode)
{
    struct gluster_call call = {.invoke = invoke_creat, .fs = fs, .path = path, .flags = flags | O_CREAT, .mode = mode};
    return gluster_open(&call);
}

struct glfs_fd *glfs_openat(struct glfs_fd *directory, const char *path, int flags, mode_t mode)
{
    __typeof__(&glfs_from_glfd) from = GLUSTER(glfs_from_glfd);
    struct gluster_call call = {.invoke = invoke_openat,
                                .fs = from ? from(directory) : NULL,
                                .directory = directory,
                                .path = path,
                                .flags = flags,
                                .mode = mode};
    return gluster_open(&call);
}

struct glfs_fd *glfs_h_open(struct glfs *fs, struct glfs_object *object, int flags)
{
    struct gluster_call call = {.invoke = invoke_h_open, .fs = fs, .object = object, .flags = flags};
    return gluster_open(&call);
}

/* A new object and its glfs_fd in one call, or an old one: that is truncated when it is known to be free. */
struct glfs_object *glfs_h_creat_open(struct glfs *fs, struct glfs_object *parent, const char *path, int flags,
                                      mode_t mode, struct stat *status, struct glfs_fd **fd)
{
    __typeof__(&glfs_h_creat_open) real = GLUSTER(glfs_h_creat_open);
    const int saved = errno;
    const bool off = settings_get()->off;
    struct glfs_object *object =
        real ? real(fs, parent, path, off ? flags : flags & ~O_TRUNC, mode, status, fd) : (void *)not_there();
    struct gluster_call call = {.invoke = invoke_h_open, .fs = fs, .object = object, .path = path, .flags = flags};
    struct gluster_file *file;
    if (!object || !fd || !*fd || off) return object;
    const int error = gluster_open_judge(&call, *fd, false, &file);
    __typeof__(&glfs_ftruncate) cut = GLUSTER(glfs_ftruncate);
    if (!error && flags & O_TRUNC && cut) cut(*fd, 0, NULL, NULL);
    errno = saved;
    if (!error) return object;
    __typeof__(&glfs_h_close) close = GLUSTER(glfs_h_close);
    if (close) close(object);
    *fd = gluster_open_refused(*fd, error);
    return NULL;
}

/* The same open file on the server, which each has to keep locked by itself. */
struct glfs_fd *glfs_dup(struct glfs_fd *fd)
{
    __typeof__(&glfs_dup) real = GLUSTER(glfs_dup);
    struct glfs_fd *copy = real ? real(fd) : not_there();
    const struct gluster_file *file = copy ? gluster_file_of(fd) : NULL;
    struct gluster_file *entry = file ? gluster_file_new() : NULL;
    if (!entry) return copy;
    const int saved = errno;
    entry->fs = file->fs;
    entry->device = file->device;
    entry->inode = file->inode;
    entry->asked = file->asked;
    entry->mode = file->mode;
    entry->access = file->access;
    entry->by_itself = file->by_itself;
    track_copy_hold(&file->hold, &entry->hold);
    gluster_mark_copy(entry, copy);
    errno = saved;
    return copy;
}

/* The lock goes after it. */
int glfs_close(struct glfs_fd *fd)
{
    __typeof__(&glfs_close) real = GLUSTER(glfs_close);
    struct gluster_file *file = gluster_file_of(fd);
    const int saved = errno;
    if (file) gluster_file_retire(file);
    errno = saved;
    const int result = real ? real(fd) : (not_there(), -1);
    const int error = errno;
    if (file) gluster_file_drop(file);
    errno = error;
    return result;
}

int glfs_posix_lock(struct glfs_fd *fd, int command, struct flock *range)
{
    __typeof__(&glfs_posix_lock) real = GLUSTER(glfs_posix_lock);
    gluster_mark_give_up(fd);
    return real ? real(fd, command, range) : (not_there(), -1);
}

int glfs_file_lock(struct glfs_fd *fd, int command, struct flock *range, int mode)
{
    __typeof__(&glfs_file_lock) real = GLUSTER(glfs_file_lock);
    gluster_mark_give_up(fd);
    return real ? real(fd, command, range, mode) : (not_there(), -1);
}

int glfs_fd_set_lkowner(struct glfs_fd *fd, void *owner, int length)
{
    __typeof__(&glfs_fd_set_lkowner) real = GLUSTER(glfs_fd_set_lkowner);
    gluster_mark_give_up(fd);
    return real ? real(fd, owner, length) : (not_there(), -1);
}

/* ---- volumes --------------------------------------------------------------------------------------------- */

struct glfs *glfs_new(const char *name)
{
    __typeof__(&glfs_new) real = GLUSTER(glfs_new);
    struct glfs *fs = real ? real(name) : (struct glfs *)not_there();
    if (fs && name && !settings_get()->off) gluster_volume_add(fs, name);
    return fs;
}

int glfs_set_volfile_server(struct glfs *fs, const char *transport, const char *host, int port)
{
    __typeof__(&glfs_set_volfile_server) real = GLUSTER(glfs_set_volfile_server);
    if (fs && host) gluster_volume_add_host(fs, host);
    return real ? real(fs, transport, host, port) : (not_there(), -1);
}

int glfs_fini(struct glfs *fs)
{
    __typeof__(&glfs_fini) real = GLUSTER(glfs_fini);
    const int saved = errno;
    const uint64_t number = gluster_volume_ends(fs);
    errno = saved;
    const int result = real ? real(fs) : (not_there(), -1);
    const int error = errno;
    gluster_volume_ended(number);
    errno = error;
    return result;
}
