/* gluster.c: images that a program opens by libgfapi, as QEMU does those of gluster://HOST/VOLUME/PATH.
 *
 * There is no descriptor and no path that two hosts have in common, but the bytes of the image are locked on its
 * server: so the mark (mark.h) is what keeps hosts, and programs that have the same image through a mount, apart.  For
 * it each glfs_fd gets an owner of its own, by which libgfapi's locks behave as those of open file descriptions do. The
 * lock beside it is that of the name gluster://HOST/VOLUME/PATH, by which programs of one lock directory wait for each
 * other and name each other.
 *
 * libgfapi may be linked, or be loaded later and out of sight, as QEMU's module for it is: its own functions are looked
 * for at each call.  Its calls take milliseconds, allocate and wait, so they are nothing for a signal handler; nor is
 * what is here. */
#include "gluster.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

#include "../audit.h"
#include "../image.h"
#include "../look.h"
#include "../mark.h"
#include "../message.h"
#include "../pause.h"
#include "../policy.h"
#include "../sys.h"
#include "../text.h"
#include "../track.h"
#include "claim.h"
#include "lookup.h"

/* The next definition; NULL: libgfapi is not there, or too old for it. */
#define GLUSTER(name) ((__typeof__(&name))lookup_anywhere(#name))

/* ---- what is known --------------------------------------------------------------------------------------- */

enum { VOLUMES = 1024, FILES = 1024 };

/* What an entry has in place of a glfs_fd while that is about to be there, or to go; each is more than NULL, and less
 * than any address. */
enum { OPENING = 1, CLOSING = 2 };

/* Of a glfs: the start of its images' names. */
struct volume {
    char name[256], host[256];
};

/* A glfs_fd that has an image open. */
struct file {
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

/* Mapped by the first glfs that a program makes. */
struct known {
    _Atomic(struct glfs *) volumes[VOLUMES];
    struct volume names[VOLUMES]; /* pages that no volume has come to cost nothing */
    struct file files[FILES];
    _Atomic unsigned users[FILES]; /* who is at work on the file's glfs_fd, which is not closed meanwhile */
    _Atomic uint64_t owners, ends, closes;
    _Atomic bool marking; /* one thread at a time: it takes the marks of all for others' off */
};
static _Atomic(struct known *) known;

static struct known *known_get(void)
{
    struct known *there = atomic_load_explicit(&known, memory_order_acquire);
    if (there) return there;
    struct known *fresh = sys_mmap(sizeof *fresh);
    if (!fresh || atomic_compare_exchange_strong(&known, &there, fresh)) return fresh;
    sys_munmap(fresh, sizeof *fresh);
    return there;
}

static struct volume *volume_of(const struct glfs *fs)
{
    if (!fs) return NULL;
    struct known *all = atomic_load_explicit(&known, memory_order_acquire);
    for (int i = 0; all && i < VOLUMES; i++)
        if (all->volumes[i] == fs) return &all->names[i];
    return NULL;
}

static struct file *file_of(const struct glfs_fd *fd)
{
    struct known *all = atomic_load_explicit(&known, memory_order_acquire);
    for (int i = 0; all && fd && i < FILES; i++)
        if (all->files[i].fd == fd) return &all->files[i];
    return NULL;
}

/* An entry that nobody has; it is found by its glfs_fd when that is set. */
static struct file *file_new(void)
{
    struct known *all = known_get();
    for (int i = 0; all && i < FILES; i++) {
        struct glfs_fd *none = NULL;
        if (atomic_compare_exchange_strong(&all->files[i].fd, &none, (struct glfs_fd *)OPENING)) return &all->files[i];
    }
    return NULL;
}

static bool is_of(const struct file *file, dev_t device, ino_t inode)
{
    return (uintptr_t)file->fd > CLOSING && file->device == device && file->inode == inode;
}

/* Calls visit for each glfs_fd that the process has on the image.  Whoever closes one either sees that it is in use, or
 * has said before that it is about to go. */
static void each_file(dev_t device, ino_t inode, void (*visit)(struct file *file))
{
    struct known *all = atomic_load_explicit(&known, memory_order_acquire);
    for (int i = 0; all && i < FILES; i++) {
        if (!is_of(&all->files[i], device, inode)) continue;
        atomic_fetch_add(&all->users[i], 1);
        if (is_of(&all->files[i], device, inode)) visit(&all->files[i]);
        atomic_fetch_sub(&all->users[i], 1);
    }
}

/* As long as a server may take to answer; then the thread was ended in the midst of it. */
#define ANSWER_NS (INT64_C(60) * 1000 * 1000 * 1000)

static void begin_marking(struct known *all)
{
    const int64_t end = sys_monotonic() + ANSWER_NS;
    while (atomic_exchange(&all->marking, true) && sys_pause(end)) continue;
}

static void end_marking(struct known *all)
{
    atomic_store(&all->marking, false);
}

/* From now on nobody finds the entry by its glfs_fd, whose address the next open may be given, and nobody is at work on
 * it. */
static void retire(struct known *all, struct file *file)
{
    const int64_t end = sys_monotonic() + ANSWER_NS;
    atomic_store(&file->fd, (struct glfs_fd *)CLOSING);
    ++all->closes; /* behind it: who reads the old number and does not see it closing reads another one afterwards */
    while (atomic_load(&all->users[file - all->files]) && sys_pause(end)) continue;
}

static void drop(struct file *file)
{
    struct track_hold hold = file->hold;
    file->hold = (struct track_hold){0};
    file->ends = 0;
    atomic_store(&file->fd, NULL);
    track_drop(&hold);
}

/* ---- marks ----------------------------------------------------------------------------------------------- */

static int control(struct glfs_fd *fd, int command, struct flock *range)
{
    enum { ADVISORY = 0 };
    __typeof__(&glfs_file_lock) lock = GLUSTER(glfs_file_lock);
    if (!lock) return -ENOSYS;
    if (lock(fd, command, range, ADVISORY) == 0) return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

static int lock_bytes(void *fd, short type, off_t start, off_t length)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return control(fd, F_SETLK, &range);
}

static int find_held(void *fd, short type, off_t start, off_t length, struct bytes_found *found)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    const int result = control(fd, F_GETLK, &range);
    if (result < 0 || range.l_type == F_UNLCK) return result;
    *found = (struct bytes_found){range.l_type, range.l_start, range.l_len, -1};
    return 1;
}

static const struct mark_means by_gluster = {lock_bytes, find_held};

/* Else two of one process would be one owner, and whichever is closed first would end the locks of both. */
static bool set_owner(struct glfs_fd *fd)
{
    __typeof__(&glfs_fd_set_lkowner) set = GLUSTER(glfs_fd_set_lkowner);
    uint64_t owner[2] = {(uint64_t)sys_getpid(), ++known_get()->owners};
    return set && set(fd, owner, sizeof owner) == 0;
}

static void clear(struct file *file)
{
    if (!file->by_itself) mark_clear_by(&by_gluster, file->fd);
}

static void mark(struct file *file)
{
    if (!file->by_itself) mark_set_by(&by_gluster, file->fd, file->mode, file->access);
}

/* The program locks the image itself, or asks who has: no mark of ours is to be met, and its glfs_fd have one owner, as
 * they have without us. */
static void give_up(struct file *file)
{
    uint64_t owner = (uint64_t)sys_getpid();
    __typeof__(&glfs_fd_set_lkowner) set = GLUSTER(glfs_fd_set_lkowner);
    if (file->by_itself) return;
    clear(file);
    file->by_itself = true;
    if (set) set(file->fd, &owner, sizeof owner);
}

static void locks_itself(struct glfs_fd *fd)
{
    const struct file *file = file_of(fd);
    const int saved = errno;
    if (file && !file->by_itself) each_file(file->device, file->inode, give_up);
    errno = saved;
}

/* ---- one open -------------------------------------------------------------------------------------------- */

struct call {
    struct glfs_fd *(*invoke)(const struct call *call, int flags);
    struct glfs *fs;
    struct glfs_fd *directory;
    const char *path; /* NULL: none */
    struct glfs_object *object;
    int flags;
    mode_t mode;
    bool known; /* for an image, from before it was truncated */
    struct claim_time time;
};

/* Mapped, since it is more than a stack may have to spare. */
struct room {
    char name[PATH_MAX]; /* "gluster://HOST/VOLUME/PATH" */
    char path[PATH_MAX + 1];
    unsigned char head[HEAD_SIZE];
};

/* The real path in the volume; of what has none, by the number of the file, as GlusterFS itself names it, or, seen from
 * a directory, as stat does. */
static void append_path(struct text *name, const struct call *call, const struct stat *status, char *real)
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
static bool name_image(const struct call *call, const struct stat *status, struct room *room)
{
    const struct volume *volume = volume_of(call->fs);
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
static bool content_shows(const struct call *call, struct glfs_fd *fd, const struct stat *status, struct room *room,
                          int *error)
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

static bool is_image(const struct settings *settings, const struct call *call, struct glfs_fd *fd,
                     const struct stat *status, struct room *room, int *error)
{
    const int named = settings->images ? policy_names_image(settings, room->name) : 0;
    if (named) return named > 0;
    if (call->known) return true;
    if (call->path && image_by_extension(call->path)) return true;
    return fd && settings->magic && content_shows(call, fd, status, room, error);
}

/* What cannot be looked at may be an image.  0, or the errno of the refusal. */
static int refuse_unseen(const struct settings *settings, const struct call *call, const struct room *room, int error)
{
    struct lock_name name;
    const struct lock_problem problem = {.error = error, .what = "cannot look at it", .owner = (uid_t)-1};
    lock_name_of_path(room->name, &name);
    message_problem(settings, room->name, claim_action(call->flags), &name, &problem);
    return settings->allow_on_error ? 0 : ENOLCK;
}

static enum lock_mode asked_already(const struct file *file)
{
    struct known *all = known_get();
    enum lock_mode most = LOCK_NONE;
    for (int i = 0; i < FILES; i++)
        if (is_of(&all->files[i], file->device, file->inode) && all->files[i].asked > most) most = all->files[i].asked;
    return most;
}

static bool is_closing(const struct known *all, const struct file *file)
{
    for (int i = 0; i < FILES; i++)
        if ((uintptr_t)all->files[i].fd == CLOSING && all->files[i].device == file->device &&
            all->files[i].inode == file->inode)
            return true;
    return false;
}

/* Announces, and asks whether anybody is in the way; what this process has itself is taken off meanwhile. */
static bool ask_once(struct file *file, struct glfs_fd *fd, bool warn)
{
    /* The new one first: at no time is nothing of this process there. */
    const bool excluded = !warn && mark_set_by(&by_gluster, fd, file->mode, file->access) < 0;
    each_file(file->device, file->inode, clear);
    const bool taken = mark_is_in_the_way_by(&by_gluster, fd, file->mode, file->access) || excluded;
    each_file(file->device, file->inode, mark);
    if (taken && !warn) mark_clear_by(&by_gluster, fd);
    return taken;
}

/* The same; but what another thread is just closing is found by nobody any more, and has its marks until the server has
 * closed it: then it is asked again. */
static bool is_taken(struct file *file, struct glfs_fd *fd, bool warn)
{
    const struct known *all = known_get();
    const int64_t end = sys_monotonic() + ANSWER_NS;
    for (;;) {
        const uint64_t closes = all->closes;
        const bool closing = is_closing(all, file);
        if (!ask_once(file, fd, warn)) return false;
        if ((!closing && all->closes == closes) || !sys_pause(end)) return true;
    }
}

/* The lock by name, then the mark.  1: somebody has marked the image; 0: the hold is had; or an errno, negative, after
 * a line on why. */
static int try_to_take(const struct settings *settings, struct call *call, struct room *room, struct file *file,
                       struct glfs_fd *fd, const struct stat *status)
{
    struct claim claim = {.settings = settings,
                          .path = room->name,
                          .flags = call->flags,
                          .descriptor = -1,
                          .status = fd ? status : NULL,
                          .mark = -1,
                          .time = &call->time};
    const bool warn = settings->on_conflict == CONFLICT_WARN;
    struct known *all = known_get();
    const int error = claim_image(&claim, &file->hold);
    if (error) return -error;
    file->mode = file->hold.mode;
    if (!fd || file->mode < LOCK_SHARED || !set_owner(fd)) return 0;
    begin_marking(all);
    const bool asks = !file->hold.family && asked_already(file) < file->mode;
    const bool taken = asks && is_taken(file, fd, warn);
    if (!asks && !warn) mark_set_by(&by_gluster, fd, file->mode, file->access);
    if (!taken) {
        file->asked = file->mode;
        /* Marked, so it has to be found. */
        atomic_store(&file->fd, fd);
    }
    end_marking(all);
    return taken;
}

static int refuse(const struct settings *settings, const struct call *call, const struct room *room,
                  const struct file *file, int64_t waited)
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
static int take(const struct settings *settings, struct call *call, struct room *room, struct file *file,
                struct glfs_fd *fd, const struct stat *status)
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

static void tell_open(const struct settings *settings, const struct call *call, const struct room *room,
                      const struct file *file)
{
    struct lock_name name;
    if (!settings->audit) return;
    lock_name_of_path(room->name, &name);
    const struct audit_image about = {
        .path = room->name, .name = &name, .lock_descriptor = -1, .device = file->device, .inode = file->inode};
    audit_open(settings, &about, -1, call->flags, file->mode);
}

/* Judges what is open, or a name that is about to be created, fd NULL; and locks it.  0: *file, which knows the fd, has
 * the hold, or is NULL where it is no image; or an errno.  ahead: the fd is not the one that the program gets. */
static int judge(struct call *call, struct glfs_fd *fd, bool ahead, struct file **file)
{
    struct settings own = *settings_get();
    const struct settings *settings = &own;
    struct stat status = {.st_mode = S_IFREG};
    struct file *entry = *file = file_new();
    struct room *room = entry ? sys_mmap(sizeof *room) : NULL;
    int error = 0;
    if (!room) {
        if (entry) drop(entry);
        *file = NULL;
        return entry ? ENOMEM : ENFILE;
    }
    own.key_inode = false; /* its number is no file's of this host */
    __typeof__(&glfs_fstat) look = GLUSTER(glfs_fstat);
    const bool seen = !fd || (look && look(fd, &status) == 0);
    int unseen = seen ? 0 : errno;
    const bool named = name_image(call, &status, room);
    if (seen && S_ISREG(status.st_mode) && named && is_image(settings, call, fd, &status, room, &unseen)) {
        *entry = (struct file){.fd = (struct glfs_fd *)OPENING,
                               .fs = call->fs,
                               .device = status.st_dev,
                               .inode = status.st_ino,
                               .access = (call->flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR};
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
        if (fd) atomic_store(&entry->fd, fd);
        return 0;
    }
    drop(entry);
    *file = NULL;
    return error;
}

static struct glfs_fd *refused(struct glfs_fd *fd, int error)
{
    if (fd) GLUSTER(glfs_close)(fd);
    errno = error;
    return NULL;
}

/* What neither creates nor destroys. */
static struct glfs_fd *open_and_judge(struct call *call)
{
    struct file *file;
    const int saved = errno;
    struct glfs_fd *fd = call->invoke(call, call->flags);
    if (!fd) return NULL;
    const int error = judge(call, fd, false, &file);
    if (error) return refused(fd, error);
    errno = saved;
    return fd;
}

/* What does: the file that is there is judged and locked through another glfs_fd, which does nothing to it, or the name
 * where there is none. */
static struct glfs_fd *open_ahead(struct call *call)
{
    struct file *file = NULL, *before = NULL;
    const int saved = errno;
    struct glfs_fd *probe = call->invoke(call, call->flags & ~(O_CREAT | O_EXCL | O_TRUNC));
    int error = probe || errno == ENOENT ? judge(call, probe, true, &before) : 0;
    if (error) return refused(probe, error);
    errno = saved;
    struct glfs_fd *fd = call->invoke(call, call->flags);
    int result = errno;
    if (fd) {
        call->flags &= ~O_TRUNC;
        call->known = before; /* it is empty now, and an image all the same */
        error = judge(call, fd, false, &file);
        if (error) {
            fd = refused(fd, error);
            result = error;
        }
    }
    if (before) retire(known_get(), before);
    if (probe) GLUSTER(glfs_close)(probe);
    if (before) drop(before);
    errno = result;
    return fd;
}

static struct glfs_fd *run(struct call *call)
{
    if (settings_get()->off) return call->invoke(call, call->flags);
    const bool creates = call->flags & (O_CREAT | O_TRUNC), exclusive = call->flags & O_EXCL && call->flags & O_CREAT;
    return creates && !exclusive ? open_ahead(call) : open_and_judge(call);
}

/* ---- what the program calls ------------------------------------------------------------------------------ */

static struct glfs_fd *not_there(void)
{
    errno = ENOSYS;
    return NULL;
}

static struct glfs_fd *invoke_open(const struct call *call, int flags)
{
    __typeof__(&glfs_open) real = GLUSTER(glfs_open);
    return real ? real(call->fs, call->path, flags) : not_there();
}

static struct glfs_fd *invoke_creat(const struct call *call, int flags)
{
    __typeof__(&glfs_creat) real = GLUSTER(glfs_creat);
    /* It creates whatever the flags say. */
    if (flags != call->flags) return invoke_open(call, flags);
    return real ? real(call->fs, call->path, flags, call->mode) : not_there();
}

static struct glfs_fd *invoke_openat(const struct call *call, int flags)
{
    __typeof__(&glfs_openat) real = GLUSTER(glfs_openat);
    return real ? real(call->directory, call->path, flags, call->mode) : not_there();
}

static struct glfs_fd *invoke_h_open(const struct call *call, int flags)
{
    __typeof__(&glfs_h_open) real = GLUSTER(glfs_h_open);
    return real ? real(call->fs, call->object, flags) : not_there();
}

struct glfs_fd *glfs_open(struct glfs *fs, const char *path, int flags)
{
    struct call call = {.invoke = invoke_open, .fs = fs, .path = path, .flags = flags};
    return run(&call);
}

struct glfs_fd *glfs_creat(struct glfs *fs, const char *path, int flags, mode_t mode)
{
    struct call call = {.invoke = invoke_creat, .fs = fs, .path = path, .flags = flags | O_CREAT, .mode = mode};
    return run(&call);
}

struct glfs_fd *glfs_openat(struct glfs_fd *directory, const char *path, int flags, mode_t mode)
{
    __typeof__(&glfs_from_glfd) from = GLUSTER(glfs_from_glfd);
    struct call call = {.invoke = invoke_openat,
                        .fs = from ? from(directory) : NULL,
                        .directory = directory,
                        .path = path,
                        .flags = flags,
                        .mode = mode};
    return run(&call);
}

struct glfs_fd *glfs_h_open(struct glfs *fs, struct glfs_object *object, int flags)
{
    struct call call = {.invoke = invoke_h_open, .fs = fs, .object = object, .flags = flags};
    return run(&call);
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
    struct call call = {.invoke = invoke_h_open, .fs = fs, .object = object, .path = path, .flags = flags};
    struct file *file;
    if (!object || !fd || !*fd || off) return object;
    const int error = judge(&call, *fd, false, &file);
    __typeof__(&glfs_ftruncate) cut = GLUSTER(glfs_ftruncate);
    if (!error && flags & O_TRUNC && cut) cut(*fd, 0, NULL, NULL);
    errno = saved;
    if (!error) return object;
    __typeof__(&glfs_h_close) close = GLUSTER(glfs_h_close);
    if (close) close(object);
    *fd = refused(*fd, error);
    return NULL;
}

/* The same open file on the server, which each has to keep locked by itself. */
struct glfs_fd *glfs_dup(struct glfs_fd *fd)
{
    __typeof__(&glfs_dup) real = GLUSTER(glfs_dup);
    struct glfs_fd *copy = real ? real(fd) : not_there();
    const struct file *file = copy ? file_of(fd) : NULL;
    struct file *entry = file ? file_new() : NULL;
    if (!entry) return copy;
    const int saved = errno;
    *entry = (struct file){.fd = (struct glfs_fd *)OPENING,
                           .fs = file->fs,
                           .device = file->device,
                           .inode = file->inode,
                           .asked = file->asked,
                           .mode = file->mode,
                           .access = file->access,
                           .by_itself = file->by_itself};
    track_copy_hold(&file->hold, &entry->hold);
    begin_marking(known_get());
    if (!entry->by_itself && set_owner(copy)) mark_set_by(&by_gluster, copy, entry->mode, entry->access);
    atomic_store(&entry->fd, copy);
    end_marking(known_get());
    errno = saved;
    return copy;
}

/* The lock goes after it. */
int glfs_close(struct glfs_fd *fd)
{
    __typeof__(&glfs_close) real = GLUSTER(glfs_close);
    struct file *file = file_of(fd);
    const int saved = errno;
    if (file) retire(known_get(), file);
    errno = saved;
    const int result = real ? real(fd) : (not_there(), -1);
    const int error = errno;
    if (file) drop(file);
    errno = error;
    return result;
}

int glfs_posix_lock(struct glfs_fd *fd, int command, struct flock *range)
{
    __typeof__(&glfs_posix_lock) real = GLUSTER(glfs_posix_lock);
    locks_itself(fd);
    return real ? real(fd, command, range) : (not_there(), -1);
}

int glfs_file_lock(struct glfs_fd *fd, int command, struct flock *range, int mode)
{
    __typeof__(&glfs_file_lock) real = GLUSTER(glfs_file_lock);
    locks_itself(fd);
    return real ? real(fd, command, range, mode) : (not_there(), -1);
}

int glfs_fd_set_lkowner(struct glfs_fd *fd, void *owner, int length)
{
    __typeof__(&glfs_fd_set_lkowner) real = GLUSTER(glfs_fd_set_lkowner);
    locks_itself(fd);
    return real ? real(fd, owner, length) : (not_there(), -1);
}

/* ---- volumes --------------------------------------------------------------------------------------------- */

struct glfs *glfs_new(const char *name)
{
    __typeof__(&glfs_new) real = GLUSTER(glfs_new);
    struct glfs *fs = real ? real(name) : (struct glfs *)not_there();
    struct known *all = fs && name && !settings_get()->off ? known_get() : NULL;
    for (int i = 0; all && i < VOLUMES; i++) {
        struct volume *volume = &all->names[i];
        struct glfs *none = NULL;
        if (!atomic_compare_exchange_strong(&all->volumes[i], &none, fs)) continue;
        struct text text = text_in(volume->name, sizeof volume->name);
        text_append(&text, *name == '/' ? name + 1 : name);
        volume->host[0] = '\0';
        break;
    }
    return fs;
}

/* The first of several servers of one volume names it. */
int glfs_set_volfile_server(struct glfs *fs, const char *transport, const char *host, int port)
{
    __typeof__(&glfs_set_volfile_server) real = GLUSTER(glfs_set_volfile_server);
    struct volume *volume = fs ? volume_of(fs) : NULL;
    if (volume && host && !volume->host[0]) {
        struct text text = text_in(volume->host, sizeof volume->host);
        text_append(&text, host);
    }
    return real ? real(fs, transport, host, port) : (not_there(), -1);
}

/* All that it had open is closed with it; what a new one of the same address opens meanwhile is not. */
int glfs_fini(struct glfs *fs)
{
    __typeof__(&glfs_fini) real = GLUSTER(glfs_fini);
    struct known *all = fs ? atomic_load_explicit(&known, memory_order_acquire) : NULL;
    const uint64_t ends = all ? ++all->ends : 0;
    const int saved = errno;
    for (int i = 0; all && i < VOLUMES; i++)
        if (all->volumes[i] == fs) atomic_store(&all->volumes[i], NULL);
    for (int i = 0; all && i < FILES; i++) {
        if ((uintptr_t)all->files[i].fd <= CLOSING || all->files[i].fs != fs) continue;
        all->files[i].ends = ends;
        retire(all, &all->files[i]);
    }
    errno = saved;
    const int result = real ? real(fs) : (not_there(), -1);
    const int error = errno;
    for (int i = 0; all && i < FILES; i++)
        if (all->files[i].ends == ends) drop(&all->files[i]);
    errno = error;
    return result;
}
