#include "gluster_mark.h"

#include <errno.h>
#include <fcntl.h>

#include "../mark.h"
#include "../sys.h"

/* What is marked, or asked about, and in whose turn; NULL: in nobody's. */
struct subject {
    struct glfs_fd *fd;
    const struct gluster_file *turn;
};

static int control(const struct subject *subject, int command, struct flock *range)
{
    enum { ADVISORY = 0 };
    __typeof__(&glfs_file_lock) lock = GLUSTER(glfs_file_lock);
    if (!lock) return -ENOSYS;
    if (subject->turn) gluster_renew_turn(subject->turn);
    if (lock(subject->fd, command, range, ADVISORY) == 0) return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

static int lock_bytes(void *subject, short type, off_t start, off_t length)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return control(subject, F_SETLK, &range);
}

static int find_held(void *subject, short type, off_t start, off_t length, struct bytes_found *found)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    const int result = control(subject, F_GETLK, &range);
    if (result < 0 || range.l_type == F_UNLCK) return result;
    *found = (struct bytes_found){range.l_type, range.l_start, range.l_len, -1};
    return 1;
}

static const struct mark_means by_gluster = {lock_bytes, find_held};

/* Else two of one process would be one owner, and whichever is closed first would end the locks of both. */
static bool set_owner(struct glfs_fd *fd)
{
    __typeof__(&glfs_fd_set_lkowner) set = GLUSTER(glfs_fd_set_lkowner);
    uint64_t owner[2] = {(uint64_t)sys_getpid(), gluster_new_owner()};
    return set && set(fd, owner, sizeof owner) == 0;
}

static void clear(struct gluster_file *file, const struct gluster_file *turn)
{
    struct subject subject = {file->fd, turn};
    if (!file->by_itself) mark_clear_by(&by_gluster, &subject);
}

static void mark(struct gluster_file *file, const struct gluster_file *turn)
{
    struct subject subject = {file->fd, turn};
    if (!file->by_itself) mark_set_by(&by_gluster, &subject, file->mode, file->access);
}

/* The program locks the image itself, or asks who has: no mark of ours is to be met, and its glfs_fd have one owner, as
 * they have without us. */
static void give_up(struct gluster_file *file, const struct gluster_file *turn)
{
    uint64_t owner = (uint64_t)sys_getpid();
    __typeof__(&glfs_fd_set_lkowner) set = GLUSTER(glfs_fd_set_lkowner);
    if (file->by_itself) return;
    clear(file, turn);
    file->by_itself = true;
    if (set) set(file->fd, &owner, sizeof owner);
}

void gluster_mark_give_up(struct glfs_fd *fd)
{
    const struct gluster_file *file = gluster_file_of(fd);
    const int saved = errno;
    if (file && !file->by_itself) gluster_file_each(file, give_up, NULL);
    errno = saved;
}

/* ---- one open -------------------------------------------------------------------------------------------- */

/* Announces, and asks whether anybody is in the way; what this process has itself is taken off meanwhile. */
static bool ask_once(struct gluster_file *file, struct subject *subject, bool warn)
{
    /* The new one first: at no time is nothing of this process there. */
    const bool excluded = !warn && mark_set_by(&by_gluster, subject, file->mode, file->access) < 0;
    gluster_file_each(file, clear, file);
    const bool taken = mark_is_in_the_way_by(&by_gluster, subject, file->mode, file->access) || excluded;
    gluster_file_each(file, mark, file);
    if (taken && !warn) mark_clear_by(&by_gluster, subject);
    return taken;
}

/* The same; but what another thread is just closing is found by nobody any more, and has its marks until the server has
 * closed it: then it is asked again. */
static bool is_taken(struct gluster_file *file, struct subject *subject, bool warn)
{
    const int64_t end = sys_monotonic() + GLUSTER_ANSWER_NS;
    for (;;) {
        const uint64_t closes = gluster_files_closed();
        const bool closing = gluster_file_is_closing(file);
        if (!ask_once(file, subject, warn)) return false;
        if ((!closing && gluster_files_closed() == closes) || !sys_pause(end)) return true;
    }
}

bool gluster_mark_is_taken(struct gluster_file *file, struct glfs_fd *fd, bool warn)
{
    if (!set_owner(fd)) return false;
    struct subject subject = {fd, file};
    const uint64_t number = gluster_begin_turn(file);
    const bool asks = !file->hold.family && gluster_file_asked(file) < file->mode;
    const bool taken = asks && is_taken(file, &subject, warn);
    if (!asks && !warn) mark_set_by(&by_gluster, &subject, file->mode, file->access);
    if (!taken) {
        file->asked = file->mode;
        /* Marked, so it has to be found. */
        gluster_file_show(file, fd);
    }
    gluster_end_turn(file, number);
    return taken;
}

void gluster_mark_copy(struct gluster_file *file, struct glfs_fd *copy)
{
    struct subject subject = {copy, file};
    const uint64_t number = gluster_begin_turn(file);
    if (!file->by_itself && set_owner(copy)) mark_set_by(&by_gluster, &subject, file->mode, file->access);
    gluster_file_show(file, copy);
    gluster_end_turn(file, number);
}
