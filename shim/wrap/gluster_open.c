#include "gluster_open.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "../audit.h"
#include "../image.h"
#include "../look.h"
#include "../message.h"
#include "../pause.h"
#include "../policy.h"
#include "../sys.h"
#include "../text.h"
#include "gluster_mark.h"

/* Mapped, since it is more than a stack may have to spare. */
struct room {
    char name[PATH_MAX]; /* "gluster://HOST/VOLUME/PATH" */
    char path[PATH_MAX + 1];
    unsigned char head[HEAD_SIZE];
};

/* The real path in the volume; of what has none, by the number of the file, as GlusterFS itself names it, or, seen from
 * a directory, as stat does. */
static void append_path(struct text *name, const struct gluster_call *call, const struct stat *status, char *real)
{
    __typeof__(&glfs_realpath) resolve = GLUSTER(glfs_realpath);
    __typeof__(&glfs_h_extract_handle) extract = GLUSTER(glfs_h_extract_handle);
    unsigned char handle[16];
    if (call->object && extract && extract(call->object, handle, sizeof handle) == sizeof handle) {
        text_append(name, "/.gfid/");
        for (size_t i = 0; i < sizeof handle; i++) {
            if (i >= 4 && i <= 10 && i % 2 == 0) text_append(name, "-");
            text_append_hex(name, handle[i], 2);
        }
    } else if (call->directory) {
        text_append(name, "/.inode/");
        text_append_number(name, (long long)status->st_ino);
    } else if (call->path && resolve && resolve(call->fs, call->path, real)) {
        text_append(name, real);
    } else if (call->path) {
        const char *path = call->path;
        while (*path == '/' || (*path == '.' && path[1] == '/')) path++;
        text_append(name, "/");
        text_append(name, path);
    }
}

/* False where it is no name: too long, or of a volume that was made in another way. */
static bool name_image(const struct gluster_call *call, const struct stat *status, struct room *room)
{
    const struct gluster_volume *volume = gluster_volume_of(call->fs);
    struct text name = text_in(room->name, sizeof room->name);
    text_append(&name, LOCK_GLUSTER);
    if (volume) {
        text_append(&name, volume->host);
        text_append(&name, "/");
        text_append(&name, volume->name);
    } else { /* one too many: known by its number here alone */
        text_append(&name, "/");
        text_append_hex(&name, (uintptr_t)call->fs, 2 * sizeof(uintptr_t));
    }
    append_path(&name, call, status, room->path);
    return name.length + 1 < name.size;
}

/* What the first bytes show.  One that is open for writing alone is looked at through another.  *error: they cannot be
 * read, or 0. */
static bool content_shows(const struct gluster_call *call, struct glfs_fd *fd, const struct stat *status,
                          struct room *room, int *error)
{
    __typeof__(&glfs_pread) read = GLUSTER(glfs_pread);
    struct glfs_fd *other = NULL;
    if (!read || status->st_size < SMALLEST_IMAGE) return false;
    if ((call->flags & O_ACCMODE) == O_WRONLY) fd = other = call->invoke(call, O_RDONLY);
    *error = errno;
    if (!fd) return false;
    const ssize_t got = read(fd, room->head, HEAD_SIZE, 0, 0, NULL);
    *error = got < 0 ? errno : 0;
    if (other) GLUSTER(glfs_close)(other);
    struct probe probe = {
        .head = room->head, .length = got > 0 ? (size_t)got : 0, .descriptor = -1, .size = status->st_size};
    return got > 0 && !look_shows_nothing(&probe) && look_match(call->path, &probe);
}

static bool is_image(const struct settings *settings, const struct gluster_call *call, struct glfs_fd *fd,
                     const struct stat *status, struct room *room, int *error)
{
    const int named = settings->images ? policy_names_image(settings, room->name) : 0;
    if (named) return named > 0;
    if (call->known) return true;
    if (call->path && image_by_extension(call->path)) return true;
    return fd && settings->magic && content_shows(call, fd, status, room, error);
}

/* What cannot be looked at may be an image.  0, or the errno of the refusal. */
static int refuse_unseen(const struct settings *settings, const struct gluster_call *call, const struct room *room,
                         int error)
{
    struct lock_name name;
    const struct lock_problem problem = {.error = error, .what = "cannot look at it", .owner = (uid_t)-1};
    lock_name_of_path(room->name, &name);
    message_problem(settings, room->name, claim_action(call->flags), &name, &problem);
    return settings->allow_on_error ? 0 : ENOLCK;
}

/* The lock by name, then the mark.  1: somebody has marked the image; 0: the hold is had; or an errno, negative, after
 * a line on why. */
static int try_to_take(const struct settings *settings, struct gluster_call *call, struct room *room,
                       struct gluster_file *file, struct glfs_fd *fd, const struct stat *status)
{
    struct claim claim = {.settings = settings,
                          .path = room->name,
                          .flags = call->flags,
                          .descriptor = -1,
                          .status = fd ? status : NULL,
                          .mark = -1,
                          .time = &call->time};
    const bool warn = settings->on_conflict == CONFLICT_WARN;
    const int error = claim_image(&claim, &file->hold);
    if (error) return -error;
    file->mode = file->hold.mode;
    return fd && file->mode >= LOCK_SHARED && gluster_mark_is_taken(file, fd, warn);
}

static int refuse(const struct settings *settings, const struct gluster_call *call, const struct room *room,
                  const struct gluster_file *file, int64_t waited)
{
    const bool warn = settings->on_conflict == CONFLICT_WARN;
    const int error = warn ? 0 : settings->refusal_errno;
    const struct marker unseen = {.pid = 0};
    const struct message_advice advice = {.waited_ns = waited, .may_wait = true};
    struct lock_name name;
    struct track_own own;
    lock_name_of_path(room->name, &name);
    /* Others who have the lock shared are in the way by their marks, or may be: they have names. */
    const bool named = track_own_lock(&name, &own) && lock_in_the_way(own.descriptor, LOCK_EXCLUSIVE) > 0;
    const struct audit_image about = {.path = room->name,
                                      .name = &name,
                                      .lock_descriptor = named ? own.descriptor : -1,
                                      .device = file->device,
                                      .inode = file->inode,
                                      .marker = named ? NULL : &unseen};
    message_conflict(settings, room->name, claim_action(call->flags), about.lock_descriptor, LOCK_EXCLUSIVE, 0,
                     about.marker, error ? &advice : NULL);
    audit_conflict(settings, &about, call->flags, file->mode, error);
    return error;
}

/* The same until the marks are gone, as long as the open may wait; the lock is free meanwhile.  0 or an errno. */
static int take(const struct settings *settings, struct gluster_call *call, struct room *room,
                struct gluster_file *file, struct glfs_fd *fd, const struct stat *status)
{
    enum { FIRST_PAUSE_NS = 4 * 1000 * 1000 };
    const int64_t start = sys_monotonic();
    struct pause pause = pause_begin(FIRST_PAUSE_NS, 0);
    claim_start(&call->time, settings);
    for (;;) {
        const int result = try_to_take(settings, call, room, file, fd, status);
        if (result <= 0) return -result;
        pause.deadline = call->time.wait; /* by the first try it is known whether this one waits at all */
        if (pause_length(&pause) <= 0) break;
        track_drop(&file->hold);
        pause_sleep(&pause);
    }
    const int error = refuse(settings, call, room, file, settings->wait_ns ? sys_monotonic() - start : 0);
    if (error) track_drop(&file->hold);
    return error;
}

static void tell_open(const struct settings *settings, const struct gluster_call *call, const struct room *room,
                      const struct gluster_file *file)
{
    struct lock_name name;
    if (!settings->audit) return;
    lock_name_of_path(room->name, &name);
    const struct audit_image about = {
        .path = room->name, .name = &name, .lock_descriptor = -1, .device = file->device, .inode = file->inode};
    audit_open(settings, &about, -1, call->flags, file->mode);
}

int gluster_open_judge(struct gluster_call *call, struct glfs_fd *fd, bool ahead, struct gluster_file **file)
{
    struct settings own = *settings_get();
    const struct settings *settings = &own;
    struct stat status = {.st_mode = S_IFREG};
    struct gluster_file *entry = *file = gluster_file_new();
    struct room *room = entry ? sys_mmap(sizeof *room) : NULL;
    int error = 0;
    if (!room) {
        if (entry) gluster_file_drop(entry);
        *file = NULL;
        return entry ? ENOMEM : ENFILE;
    }
    own.key_inode = false; /* its number is no file's of this host */
    __typeof__(&glfs_fstat) look = GLUSTER(glfs_fstat);
    const bool seen = !fd || (look && look(fd, &status) == 0);
    int unseen = seen ? 0 : errno;
    const bool named = name_image(call, &status, room);
    if (seen && S_ISREG(status.st_mode) && named && is_image(settings, call, fd, &status, room, &unseen)) {
        entry->fs = call->fs;
        entry->device = status.st_dev;
        entry->inode = status.st_ino;
        entry->access = (call->flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR;
        if (settings->bad_variable) {
            message_bad_setting(settings, room->name, claim_action(call->flags));
            error = settings->allow_on_error ? 0 : ENOLCK;
        } else {
            error = take(settings, call, room, entry, fd, &status);
        }
    } else if (unseen) {
        error = refuse_unseen(settings, call, room, unseen);
    }
    if (!error && entry->hold.mode && !ahead) tell_open(settings, call, room, entry);
    sys_munmap(room, sizeof *room);
    if (!error && entry->hold.mode) {
        if (fd) gluster_file_show(entry, fd);
        return 0;
    }
    gluster_file_drop(entry);
    *file = NULL;
    return error;
}

struct glfs_fd *gluster_open_refused(struct glfs_fd *fd, int error)
{
    if (fd) GLUSTER(glfs_close)(fd);
    errno = error;
    return NULL;
}

/* What neither creates nor destroys. */
static struct glfs_fd *open_and_judge(struct gluster_call *call)
{
    struct gluster_file *file;
    const int saved = errno;
    struct glfs_fd *fd = call->invoke(call, call->flags);
    if (!fd) return NULL;
    const int error = gluster_open_judge(call, fd, false, &file);
    if (error) return gluster_open_refused(fd, error);
    errno = saved;
    return fd;
}

/* What does: the file that is there is judged and locked through another glfs_fd, which does nothing to it, or the name
 * where there is none. */
static struct glfs_fd *open_ahead(struct gluster_call *call)
{
    struct gluster_file *file = NULL, *before = NULL;
    const int saved = errno;
    struct glfs_fd *probe = call->invoke(call, call->flags & ~(O_CREAT | O_EXCL | O_TRUNC));
    int error = probe || errno == ENOENT ? gluster_open_judge(call, probe, true, &before) : 0;
    if (error) return gluster_open_refused(probe, error);
    errno = saved;
    struct glfs_fd *fd = call->invoke(call, call->flags);
    int result = errno;
    if (fd) {
        call->flags &= ~O_TRUNC;
        call->known = before; /* it is empty now, and an image all the same */
        error = gluster_open_judge(call, fd, false, &file);
        if (error) {
            fd = gluster_open_refused(fd, error);
            result = error;
        }
    }
    if (before) gluster_file_retire(before);
    if (probe) GLUSTER(glfs_close)(probe);
    if (before) gluster_file_drop(before);
    errno = result;
    return fd;
}

struct glfs_fd *gluster_open(struct gluster_call *call)
{
    if (settings_get()->off) return call->invoke(call, call->flags);
    const bool creates = call->flags & (O_CREAT | O_TRUNC), exclusive = call->flags & O_EXCL && call->flags & O_CREAT;
    return creates && !exclusive ? open_ahead(call) : open_and_judge(call);
}
