/* lock_exists.c: is there a lock file of this name?
 *
 * Whoever deletes or renames is asked that for each name, and mostly there is none: the kernel looks through the
 * directory, and makes an entry of its own for a name that nobody asks for again.  That was two thirds of what the
 * guard cost in an rm -r of 20,000 files.  So after the first few, the directory is listed into a filter, a bit for the
 * first three digits of each name.  What the filter has not is not there, as long as the directory's time of change
 * stays: each new name moves it.
 *
 * A name can come in the same tick of the clock as the one before, and leave the time as it was.  So the listing counts
 * only where the directory had not changed for seconds when it was begun, and on the file systems of which we know that
 * they keep the time themselves, not a server, and in less than seconds. */
#include <linux/magic.h>
#include <sys/statfs.h>

#include "lock.h"
#include "sys.h"

enum {
    DIGITS = 3,
    FILTER_BITS = 1 << 4 * DIGITS,
    ASK_FIRST = 16,    /* names one by one, before a listing */
    ASK_AGAIN = 64,    /* where the directory has just changed */
    SECONDS_QUIET = 3, /* more than a tick of any clock */
    XFS_MAGIC = 0x58465342,
    ZFS_MAGIC = 0x2fc12fc1
};

/* Of this thread.  generation is another after each listing, which a signal handler may make while we read the last;
 * and odd while one is made, for the parent of a vfork child that was killed. */
static _Thread_local struct {
    volatile unsigned generation;
    unsigned asked;   /* names, since it counted last */
    unsigned patient; /* how many to ask first: a listing takes as long as a fourth of its names */
    bool counts;
    struct stat directory;
    uint64_t filter[FILTER_BITS / 64];
} listing;

static unsigned bit_of(const char *hex)
{
    unsigned bit = 0;
    for (int i = 0; i < DIGITS; i++) bit = bit << 4 | (unsigned)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10) % 16;
    return bit;
}

static bool keeps_time_itself(int directory)
{
    struct statfs about;
    if (sys_call(SYS_fstatfs, directory, (long)&about, 0, 0, 0, 0) < 0) return false;
    switch (about.f_type) {
    case EXT4_SUPER_MAGIC: /* and ext2 and ext3 */
    case XFS_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case ZFS_MAGIC:
        return true;
    default:
        return false;
    }
}

static bool is_unchanged(const struct stat *now, const struct stat *before)
{
    return now->st_ino == before->st_ino && now->st_dev == before->st_dev &&
           now->st_mtim.tv_sec == before->st_mtim.tv_sec && now->st_mtim.tv_nsec == before->st_mtim.tv_nsec &&
           now->st_ctim.tv_sec == before->st_ctim.tv_sec && now->st_ctim.tv_nsec == before->st_ctim.tv_nsec;
}

/* Fills the filter.  The number of names that were read, or -1. */
static long read_names(int directory)
{
    static const char prefix[] = LOCK_FILE_PREFIX;
    _Alignas(8) char bytes[2048];
    long count = 0, size;
    memset(listing.filter, 0, sizeof listing.filter);
    while ((size = sys_getdents(directory, bytes, sizeof bytes)) > 0) {
        const struct sys_entry *entry;
        for (long at = 0; at < size; at += entry->length) {
            entry = (const struct sys_entry *)(bytes + at);
            count++;
            if (strncmp(entry->name, prefix, sizeof prefix - 1) != 0) continue;
            const char *hex = entry->name + sizeof prefix - 1;
            if (strnlen(hex, DIGITS) < DIGITS) continue;
            unsigned bit = bit_of(hex);
            listing.filter[bit / 64] |= UINT64_C(1) << bit % 64;
        }
    }
    return size < 0 ? -1 : count;
}

/* On ext2 and its kin with inodes of 128 bytes both are whole seconds. */
static bool is_in_seconds(const struct stat *status)
{
    return status->st_mtim.tv_nsec == 0 && status->st_ctim.tv_nsec == 0;
}

/* listing.counts afterwards, if it can be. */
static void list(const char *path)
{
    struct timespec now;
    struct stat status;
    long count = -1;
    listing.counts = false;
    listing.patient = FILTER_BITS;
    /* The clock before the open: btrfs lists no name that came after it, and we may be held up in between. */
    if (sys_clock(CLOCK_REALTIME_COARSE, &now) < 0) return;
    int directory = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0) return;
    if (keeps_time_itself(directory) && sys_fstat(directory, &status) == 0 && !is_in_seconds(&status)) {
        if (now.tv_sec - status.st_mtim.tv_sec < SECONDS_QUIET)
            listing.patient = ASK_AGAIN;
        else
            count = read_names(directory);
    }
    sys_close(directory);
    /* A filter of more names has most bits set: the look at the directory would come on top. */
    if (count < 0 || count > FILTER_BITS / 2) return;
    listing.patient = ASK_FIRST + (unsigned)count / 4;
    listing.directory = status;
    listing.counts = true;
}

/* With all signals blocked: a handler that jumps out would leave a descriptor behind. */
static void list_undisturbed(const char *path)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_signals before;
    sys_sigmask(SIG_BLOCK, &all, &before);
    listing.generation++;
    atomic_signal_fence(memory_order_seq_cst);
    listing.asked = 0;
    list(path);
    atomic_signal_fence(memory_order_seq_cst);
    listing.generation++;
    sys_sigmask(SIG_SETMASK, &before, NULL);
}

/* Does the listing say that there is no such name? */
static bool is_missing(const char *directory, const struct lock_name *name)
{
    struct stat status;
    const unsigned generation = listing.generation;
    if (generation % 2) return false;
    if (!listing.counts && ++listing.asked <= (listing.patient ? listing.patient : ASK_FIRST)) return false;
    atomic_signal_fence(memory_order_seq_cst);
    if (!listing.counts) {
        list_undisturbed(directory);
        return false;
    }
    if (sys_fstatat(AT_FDCWD, directory, &status, 0) < 0 || !is_unchanged(&status, &listing.directory)) {
        listing.counts = false;
        return false;
    }
    const unsigned bit = bit_of(name->hex);
    const bool missing = !(listing.filter[bit / 64] >> bit % 64 & 1);
    atomic_signal_fence(memory_order_seq_cst);
    return missing && listing.generation == generation;
}

bool lock_exists(const char *directory, const struct lock_name *name)
{
    if (is_missing(directory, name)) return false;
    char path[LOCK_PATH_SIZE(directory)];
    lock_path(directory, name, path);
    return sys_call(SYS_faccessat, AT_FDCWD, (long)path, F_OK, 0, 0, 0) != -ENOENT;
}
