/* look.h: image_by_content in parts, for the opens that pass through it to have inlined what every file goes through.
 *
 * A function that returns after a system call of its own costs more than its instructions: the processor remembers the
 * last sixteen calls to predict where they return to, and the kernel has made more of its own meanwhile.  With two
 * functions less around them, fstat and pread took 11 ns less an open, a hundredth of it; to leave out a tenth of the
 * instructions instead made no difference.  Three calls less behind them, and a fifth of the instructions, took another
 * hundredth. */
#ifndef IMGLOCK_LOOK_H
#define IMGLOCK_LOOK_H

#include <endian.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "sys.h"

enum { HEAD_SIZE = 2048, SECTOR = 512 };

/* What the checks look at: the first bytes, with zeros behind the end of a small file, and the size. */
struct probe {
    unsigned char *head;
    size_t length; /* of what was read */
    int error;     /* of a read that failed; 0: none has */
    int descriptor;
    int flags; /* the descriptor's status flags, as they are now */
    off_t size;
    off_t window; /* the offset that head was read from: 0, until FAR and TAIL rows move it */
};

/* The time of day to within some hundred looks: asking the kernel each time would be a call more. */
extern _Atomic time_t look_time;
extern _Atomic unsigned look_count;
void look_at_clock(void);

/* The rule of relatime to the nanosecond, but for the day. */
bool look_has_been_read(const struct stat *status);

/* Would a read of this file move its access time?  relatime_need_update() in fs/inode.c.  With noatime or strictatime
 * mounts the answer is wrong; it then costs two calls, or a time stamp that every reader moves. */
static inline bool look_moves_access_time(const struct stat *status)
{
    const time_t read = status->st_atim.tv_sec;
    if ((read <= status->st_mtim.tv_sec || read <= status->st_ctim.tv_sec) && !look_has_been_read(status)) return true;
    unsigned look = atomic_load_explicit(&look_count, memory_order_relaxed);
    atomic_store_explicit(&look_count, look + 1, memory_order_relaxed);
    if (__builtin_expect(look % 256 == 255 || !look_time, 0)) look_at_clock();
    return atomic_load_explicit(&look_time, memory_order_relaxed) - read >= 24 * 3600;
}

/* For each first byte the second ones of the formats, by their last six bits, as bits; for each byte the offsets at
 * which a format has it, likewise. */
extern const uint64_t look_beginnings[256];
extern const uint32_t look_offsets[256];
#include "look_index.h"

/* All SIZED rows look for sizes within these bounds. */
static inline bool look_is_floppy_size(off_t size)
{
    return size >= 143360 && size <= 822400;
}

/* Is it certainly of no format: what nearly every file is told by.  Asks for something that look_match needs, of each
 * row of the table but those behind zeros, with which others begin. */
static inline bool look_shows_nothing(const struct probe *probe)
{
    const unsigned char *head = probe->head;
    uint32_t size; /* as D88 has it */
    memcpy(&size, head + 28, sizeof size);
    return probe->length == HEAD_SIZE && !(look_beginnings[head[0]] >> head[1] % 64 & 1) && !look_further_in(head) &&
           (off_t)le32toh(size) != probe->size && !look_is_floppy_size(probe->size);
}

/* The format of what has been read from offset 0, or NULL; may read more. */
const char *look_match(const char *path, struct probe *probe);

static inline bool look_set_flags(struct probe *probe, int flags)
{
    if (sys_fcntl(probe->descriptor, F_SETFL, flags) < 0) return false;
    probe->flags = flags;
    return true;
}

static inline __attribute__((always_inline)) void look_read(struct probe *probe, off_t offset)
{
    ssize_t got;
    for (;;) {
        got = sys_pread(probe->descriptor, probe->head, HEAD_SIZE, offset);
        /* No local file system interrupts a read; network ones and FUSE may. */
        if (got == -EINTR) continue;
        /* O_DIRECT wants aligned memory, which the stack is not, at least not on the next page as well; but over a hole
         * in the file it does not look.  So this can be the first read or a later one. */
        if (got == -EINVAL && (probe->flags & O_DIRECT) && look_set_flags(probe, probe->flags & ~O_DIRECT)) continue;
        break;
    }
    probe->window = offset;
    probe->length = got > 0 ? (size_t)got : 0;
    if (__builtin_expect(got < 0, 0)) probe->error = (int)-got;
}

/* As image_by_content.  head: room for HEAD_SIZE bytes. */
static inline __attribute__((always_inline)) const char *
look_at_content(const char *path, int descriptor, const struct stat *status, int flags, unsigned char *head, int *error)
{
    struct probe probe;
    const int flags_before = flags & ~O_ACCMODE;
    probe.head = head;
    probe.descriptor = descriptor;
    probe.flags = flags_before;
    probe.size = status->st_size;
    probe.error = 0;
    *error = 0;
    /* A refused open must not move a time stamp, and this look comes before the refusal.  O_NOATIME is for
     * the owner and for root; for others the read counts as what it is. */
    if (!(flags & O_NOATIME) && look_moves_access_time(status)) look_set_flags(&probe, flags_before | O_NOATIME);
    look_read(&probe, 0);
    const char *name = look_shows_nothing(&probe) ? NULL : look_match(path, &probe);
    if (probe.flags != flags_before) look_set_flags(&probe, flags_before);
    /* A file that cannot be read may be one. */
    *error = name ? 0 : probe.error;
    return name;
}

#endif
