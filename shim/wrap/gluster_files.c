#include "gluster_files.h"

#include <string.h>

#include "../pause.h"
#include "../sys.h"
#include "../text.h"

enum { VOLUMES = 1024, FILES = 1024 };

/* What an entry has in place of a glfs_fd while that is about to be there, or to go; each is more than NULL, and less
 * than any address. */
enum { OPENING = 1, CLOSING = 2 };

/* Mapped by the first glfs that a program makes. */
struct known {
    _Atomic(struct glfs *) volumes[VOLUMES];
    struct gluster_volume names[VOLUMES]; /* pages that no volume has come to cost nothing */
    struct gluster_file files[FILES];
    _Atomic unsigned users[FILES]; /* who is at work on the file's glfs_fd, which is not closed meanwhile */
    _Atomic uint64_t owners, ends, closes, numbers;
    _Atomic uint64_t turns[FILES]; /* the number of the file's turn, the lowest of an image first; 0: it wants none */
    _Atomic int64_t heard[FILES];  /* when who has the turn, or waits for it, was last at work */
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

/* ---- files ----------------------------------------------------------------------------------------------- */

struct gluster_file *gluster_file_of(const struct glfs_fd *fd)
{
    struct known *all = atomic_load_explicit(&known, memory_order_acquire);
    for (int i = 0; all && fd && i < FILES; i++)
        if (all->files[i].fd == fd) return &all->files[i];
    return NULL;
}

struct gluster_file *gluster_file_new(void)
{
    struct known *all = known_get();
    for (int i = 0; all && i < FILES; i++) {
        struct glfs_fd *none = NULL;
        if (atomic_compare_exchange_strong(&all->files[i].fd, &none, (struct glfs_fd *)OPENING)) return &all->files[i];
    }
    return NULL;
}

void gluster_file_show(struct gluster_file *file, struct glfs_fd *fd)
{
    atomic_store(&file->fd, fd);
}

static bool is_shown(const struct gluster_file *file)
{
    return (uintptr_t)file->fd > CLOSING;
}

static bool is_of_same(const struct gluster_file *file, const struct gluster_file *like)
{
    return file->device == like->device && file->inode == like->inode;
}

/* Whoever closes one either sees that it is in use, or has said before that it is about to go. */
void gluster_file_each(const struct gluster_file *like, gluster_visit *visit, const struct gluster_file *turn)
{
    struct known *all = atomic_load_explicit(&known, memory_order_acquire);
    for (int i = 0; all && i < FILES; i++) {
        if (!is_shown(&all->files[i]) || !is_of_same(&all->files[i], like)) continue;
        atomic_fetch_add(&all->users[i], 1);
        if (is_shown(&all->files[i]) && is_of_same(&all->files[i], like)) visit(&all->files[i], turn);
        atomic_fetch_sub(&all->users[i], 1);
    }
}

void gluster_file_retire(struct gluster_file *file)
{
    struct known *all = known_get();
    const int64_t end = sys_monotonic() + GLUSTER_ANSWER_NS;
    atomic_store(&file->fd, (struct glfs_fd *)CLOSING);
    ++all->closes; /* behind it: who reads the old number and does not see it closing reads another one afterwards */
    while (atomic_load(&all->users[file - all->files]) && sys_pause(end)) continue;
}

void gluster_file_drop(struct gluster_file *file)
{
    struct track_hold hold = file->hold;
    file->hold = (struct track_hold){0};
    file->asked = file->mode = LOCK_NONE;
    file->by_itself = false;
    file->ends = 0;
    atomic_store(&file->fd, NULL);
    track_drop(&hold);
}

enum lock_mode gluster_file_asked(const struct gluster_file *like)
{
    struct known *all = known_get();
    enum lock_mode most = LOCK_NONE;
    for (int i = 0; i < FILES; i++)
        if (is_shown(&all->files[i]) && is_of_same(&all->files[i], like) && all->files[i].asked > most)
            most = all->files[i].asked;
    return most;
}

bool gluster_file_is_closing(const struct gluster_file *like)
{
    const struct known *all = known_get();
    for (int i = 0; i < FILES; i++)
        if ((uintptr_t)all->files[i].fd == CLOSING && is_of_same(&all->files[i], like)) return true;
    return false;
}

uint64_t gluster_files_closed(void)
{
    return known_get()->closes;
}

uint64_t gluster_new_owner(void)
{
    return ++known_get()->owners;
}

/* ---- whose turn it is ------------------------------------------------------------------------------------ */

/* A number that is about to be drawn; less than any. */
enum { DRAWING = 1 };

/* Is the turn of another entry of the image before this number?  One of which nothing was heard for long is over. */
static bool is_another_before(struct known *all, const struct gluster_file *file, uint64_t number)
{
    for (int i = 0; i < FILES; i++) {
        uint64_t other = atomic_load(&all->turns[i]);
        if (!other || other >= number || !is_of_same(&all->files[i], file)) continue;
        if (sys_monotonic() - atomic_load(&all->heard[i]) < GLUSTER_ANSWER_NS) return true;
        atomic_compare_exchange_strong(&all->turns[i], &other, 0);
    }
    return false;
}

/* Who sees nothing in an entry, and not that a number is being drawn for it, has the lower number of the two. */
uint64_t gluster_begin_turn(const struct gluster_file *file)
{
    enum { FIRST_PAUSE_NS = 200 * 1000 };
    struct known *all = known_get();
    const size_t own = (size_t)(file - all->files);
    struct pause pause = pause_begin(FIRST_PAUSE_NS, INT64_MAX);
    gluster_renew_turn(file);
    atomic_store(&all->turns[own], DRAWING);
    const uint64_t number = DRAWING + ++all->numbers;
    atomic_store(&all->turns[own], number);
    while (is_another_before(all, file, number)) {
        pause_sleep(&pause);
        gluster_renew_turn(file);
    }
    return number;
}

void gluster_renew_turn(const struct gluster_file *file)
{
    struct known *all = known_get();
    atomic_store(&all->heard[file - all->files], sys_monotonic());
}

void gluster_end_turn(const struct gluster_file *file, uint64_t number)
{
    struct known *all = known_get();
    atomic_compare_exchange_strong(&all->turns[file - all->files], &number, 0);
}

/* ---- volumes --------------------------------------------------------------------------------------------- */

struct gluster_volume *gluster_volume_of(const struct glfs *fs)
{
    struct known *all = atomic_load_explicit(&known, memory_order_acquire);
    for (int i = 0; all && fs && i < VOLUMES; i++)
        if (all->volumes[i] == fs) return &all->names[i];
    return NULL;
}

void gluster_volume_add(struct glfs *fs, const char *name)
{
    struct known *all = known_get();
    for (int i = 0; all && i < VOLUMES; i++) {
        struct gluster_volume *volume = &all->names[i];
        struct glfs *none = NULL;
        if (!atomic_compare_exchange_strong(&all->volumes[i], &none, fs)) continue;
        struct text text = text_in(volume->name, sizeof volume->name);
        text_append(&text, *name == '/' ? name + 1 : name);
        volume->host[0] = '\0';
        return;
    }
}

void gluster_volume_add_host(struct glfs *fs, const char *host)
{
    struct gluster_volume *volume = gluster_volume_of(fs);
    if (!volume || volume->host[0]) return;
    struct text text = text_in(volume->host, sizeof volume->host);
    text_append(&text, host);
}

uint64_t gluster_volume_ends(const struct glfs *fs)
{
    struct known *all = atomic_load_explicit(&known, memory_order_acquire);
    if (!all || !fs) return 0;
    const uint64_t number = ++all->ends;
    for (int i = 0; i < VOLUMES; i++)
        if (all->volumes[i] == fs) atomic_store(&all->volumes[i], NULL);
    for (int i = 0; i < FILES; i++) {
        if (!is_shown(&all->files[i]) || all->files[i].fs != fs) continue;
        all->files[i].ends = number;
        gluster_file_retire(&all->files[i]);
    }
    return number;
}

void gluster_volume_ended(uint64_t number)
{
    struct known *all = atomic_load_explicit(&known, memory_order_acquire);
    for (int i = 0; number && all && i < FILES; i++)
        if (all->files[i].ends == number) gluster_file_drop(&all->files[i]);
}
