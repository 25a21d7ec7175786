#include "lock.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "blocker.h"
#include "bytes.h"
#include "descriptor.h"
#include "family.h"
#include "holders.h"
#include "sys.h"
#include "text.h"

/* ---- names ---------------------------------------------------------------------------------------------- */

static void hash_name(const char *bytes, size_t length, struct lock_name *name)
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA_CTX context;
    /* The three calls of old: SHA1() goes through OpenSSL's provider machinery, which allocates. */
    SHA1_Init(&context);
    SHA1_Update(&context, bytes, length);
    SHA1_Final(digest, &context);
    for (unsigned i = 0; i < sizeof digest; i++) {
        name->hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        name->hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    name->hex[2 * sizeof digest] = '\0';
}

/* The name that this thread asked for last: programs open one image again and again, and the hash is a tenth of what
 * such an open costs us.  generation is odd while the entry changes, so that a signal handler that comes in between
 * leaves it alone, and who was interrupted while reading finds out. */
static _Thread_local struct {
    volatile unsigned generation;
    size_t length; /* of the path; 0: empty */
    char path[192];
    struct lock_name name;
} last_name;

static bool remembered(const char *path, size_t length, struct lock_name *name)
{
    unsigned generation = last_name.generation;
    atomic_signal_fence(memory_order_seq_cst);
    if (generation % 2 || last_name.length != length || memcmp(last_name.path, path, length) != 0) return false;
    *name = last_name.name;
    atomic_signal_fence(memory_order_seq_cst);
    return last_name.generation == generation;
}

static void remember(const char *path, size_t length, const struct lock_name *name)
{
    if (length > sizeof last_name.path || last_name.generation % 2) return;
    last_name.generation++;
    atomic_signal_fence(memory_order_seq_cst);
    last_name.length = length;
    memcpy(last_name.path, path, length);
    last_name.name = *name;
    atomic_signal_fence(memory_order_seq_cst);
    last_name.generation++;
}

void lock_name_of_path(const char *real_path, struct lock_name *name)
{
    size_t length = strlen(real_path);
    if (length && remembered(real_path, length, name)) return;
    hash_name(real_path, length, name);
    if (length) remember(real_path, length, name);
}

void lock_name_of_inode(const struct stat *status, struct lock_name *name)
{
    char identity[80];
    struct text text = text_in(identity, sizeof identity);
    const bool block = S_ISBLK(status->st_mode);
    const dev_t device = block ? status->st_rdev : status->st_dev;
    text_append(&text, block ? "device:" : "inode:");
    text_append_number(&text, major(device));
    text_append(&text, ":");
    text_append_number(&text, minor(device));
    if (!block) {
        text_append(&text, ":");
        text_append_number(&text, (long long)status->st_ino);
    }
    hash_name(text.bytes, text.length, name);
}

void lock_path(const char *directory, const struct lock_name *name, char *path)
{
    size_t length = strlen(directory);
    while (length > 0 && directory[length - 1] == '/') length--;
    memcpy(path, directory, length);
    path[length] = '/';
    lock_file_name(name, path + length + 1);
}

/* ---- the lock file -------------------------------------------------------------------------------------- */

static int fail(struct lock_problem *problem, int error, const char *what)
{
    *problem = (struct lock_problem){.error = error < 0 ? -error : 0, .what = what, .owner = (uid_t)-1};
    return LOCK_FAILED;
}

/* O_NOFOLLOW, O_NONBLOCK, O_NOCTTY: the directory is world-writable, and at the name may lie a symbolic link, a
 * FIFO or a terminal that somebody planted. */
enum { SAFE_FLAGS = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC };

/* Without O_CREAT first: fs.protected_regular answers EACCES, to root as well, when O_CREAT meets another
 * user's file in a sticky directory (may_create_in_sticky() in fs/namei.c). */
static int open_or_create(const char *path, bool create, struct lock_problem *problem)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        int descriptor = sys_openat(AT_FDCWD, path, O_RDWR | SAFE_FLAGS, 0);
        if (descriptor == -EACCES || descriptor == -EROFS) {
            /* A shared lock needs no more than a readable file. */
            int readable = sys_openat(AT_FDCWD, path, O_RDONLY | SAFE_FLAGS, 0);
            if (readable >= 0) descriptor = readable;
        }
        if (descriptor >= 0) return descriptor;
        if (descriptor == -EINTR) continue;
        if (descriptor == -ENOENT && !create) return descriptor;
        if (descriptor != -ENOENT) {
            struct stat status;
            if (descriptor == -ELOOP)
                fail(problem, 0, "the lock file is a symbolic link");
            else
                fail(problem, descriptor, "cannot open the lock file");
            if (descriptor == -EACCES && sys_fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0)
                problem->owner = status.st_uid;
            return descriptor;
        }
        /* Sticky: systemd-tmpfiles spares files with that bit, whatever their age. */
        descriptor = sys_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | SAFE_FLAGS, 01666);
        if (descriptor >= 0) {
            sys_fchmod(descriptor, 01666); /* past the umask */
            return descriptor;
        }
        if (descriptor != -EEXIST && descriptor != -EINTR) {
            fail(problem, descriptor, "cannot create the lock file");
            return descriptor;
        }
    }
    fail(problem, -EAGAIN, "the lock file keeps changing");
    return -EAGAIN;
}

/* Is the open file what the name stands for, and fit to be a lock file?  1 yes, 0 no longer: open it anew, -1
 * it is not fit.  Without this look a file that was unlinked and made anew between open and lock gives two
 * owners (measured: 5,988 of 6,000 acquisitions). */
static int check_identity(int descriptor, const char *path, struct stat *status, struct lock_problem *problem)
{
    struct stat named;
    int result = sys_fstat(descriptor, status);
    if (result < 0) return fail(problem, result, "cannot look at the lock file");
    if (!S_ISREG(status->st_mode)) return fail(problem, 0, "the lock file is no regular file");
    result = sys_fstatat(AT_FDCWD, path, &named, AT_SYMLINK_NOFOLLOW);
    if (result < 0 || named.st_dev != status->st_dev || named.st_ino != status->st_ino || status->st_nlink == 0)
        return 0;
    if (status->st_nlink != 1) return fail(problem, 0, "the lock file has a second hard link");
    return 1;
}

/* ---- bytes ---------------------------------------------------------------------------------------------- */

static int try_lock(int descriptor, enum lock_mode mode, int start)
{
    return bytes_lock(descriptor, bytes_type(mode), start, LOCK_BYTES);
}

/* 1: somebody else holds one of these bytes in a way that excludes mode, 0: nobody, -errno. */
static int held_by_others(int descriptor, enum lock_mode mode, int start, int length)
{
    return bytes_held(descriptor, bytes_type(mode), start, length, NULL);
}

int lock_in_the_way(int lock_descriptor, enum lock_mode mode)
{
    int held = held_by_others(lock_descriptor, mode, LOCK_BYTE, LOCK_BYTES);
    return held ? held : held_by_others(lock_descriptor, mode, FAMILY_BYTE, FAMILY_PAIRS * LOCK_BYTES);
}

/* Does a writer wait for this lock? */
static bool gate_is_closed(int descriptor)
{
    return bytes_held(descriptor, F_RDLCK, GATE_BYTE, 1, NULL) > 0;
}

/* Gives bytes back without closing.  Allowed only where no other process can share the open file description:
 * it was opened in this very call. */
static void unlock_fresh(int descriptor, int start)
{
    bytes_unlock(descriptor, start, LOCK_BYTES);
}

static int pair_start(int family)
{
    return family ? FAMILY_BYTE + (family - 1) * LOCK_BYTES : LOCK_BYTE;
}

bool lock_is_elsewhere(int lock_descriptor, int family)
{
    return held_by_others(lock_descriptor, LOCK_EXCLUSIVE, pair_start(family), LOCK_BYTES) > 0;
}

/* Are all in the way relatives, or nobody but who has the description that this process has, too?  own: where its own
 * new lock is among them, or -1. */
static bool is_let_past(int descriptor, const struct lock_request *request, int own)
{
    const int known = request->known ? request->known->descriptor : -1;
    if (known >= 0) {
        int others = 0;
        for (int pair = 0; pair <= FAMILY_PAIRS && others == 0; pair++)
            if (pair_start(pair) != own) others = held_by_others(known, request->mode, pair_start(pair), LOCK_BYTES);
        if (others == 0) return true;
    }
    return family_holds(descriptor, request->mode, request->family, own >= 0);
}

/* Locks bytes 0-1; or, where relatives hold those, the first pair of the descendants' bytes that is free.  Only with
 * that in hand is it certain who else is there: a stranger who comes from now on sees our bytes, one who came before is
 * found by the second look.  -EAGAIN: somebody is in the way, and nothing is locked.  Of *operations those remain that
 * others may block. */
static int take_bytes(int descriptor, const struct lock_request *request, int *family, unsigned *operations)
{
    const enum lock_mode mode = request->mode;
    /* The bytes of the first operations lie behind the descendants'.  One question for all of them, while nobody has
     * any: for an exclusive lock alone, since it sees shared ones in the way. */
    unsigned asked = mode == LOCK_EXCLUSIVE ? *operations : 0;
    int length = FAMILY_PAIRS * LOCK_BYTES + (asked ? 32 - __builtin_clz(asked) : 0);
    _Static_assert(FAMILY_BYTE + FAMILY_PAIRS * LOCK_BYTES == OPERATION_BYTE, "the bytes lie side by side");

    for (*family = 0; *family <= FAMILY_PAIRS; ++*family) {
        if (*family == 1 && !is_let_past(descriptor, request, -1)) return -EAGAIN;
        int result = try_lock(descriptor, mode, pair_start(*family));
        if (result == -EAGAIN) continue;
        if (result < 0) return result;
        /* With bytes 0-1 in hand, nobody else has them. */
        int others =
            *family ? lock_in_the_way(descriptor, mode) : held_by_others(descriptor, mode, FAMILY_BYTE, length);
        if (others == 0 && *family == 0) *operations &= ~asked;
        if (others > 0 && *family == 0 && asked)
            others = held_by_others(descriptor, mode, FAMILY_BYTE, FAMILY_PAIRS * LOCK_BYTES);
        if (others == 0 || (others > 0 && is_let_past(descriptor, request, pair_start(*family)))) return 0;
        unlock_fresh(descriptor, pair_start(*family));
        return others > 0 ? -EAGAIN : others;
    }
    return -EAGAIN;
}

static enum lock_result lock_error(int result, struct lock_problem *problem)
{
    if (result == -EAGAIN) return LOCK_BUSY;
    return result == -EBADF
               ? fail(problem, -EACCES, "cannot lock exclusively: the lock file is read-only for this user")
               : fail(problem, result, "the lock directory's file system gives no lock");
}

/* ---- taking, converting, giving back -------------------------------------------------------------------- */

static struct holder_note note_of(const struct lock *lock)
{
    return (struct holder_note){
        .mode = lock->mode, .family = lock->family, .block = lock->block, .reason = lock->reason};
}

/* The bytes that the request asks for, its own blockers among them.  0, or -EAGAIN and nothing is locked, or -errno. */
static int take_requested(int descriptor, const struct lock_request *request, int *family, struct lock_problem *problem)
{
    problem->blocked = 0;
    *family = 0;
    unsigned operations = request->operations;
    int result = request->mode < LOCK_SHARED ? 0 : take_bytes(descriptor, request, family, &operations);
    if (result < 0) return result;
    problem->blocked = blocker_find(descriptor, operations);
    if (!problem->blocked && request->block) {
        result = blocker_set(descriptor, request->block);
        if (result > 0) problem->blocked = result;
    }
    if (!problem->blocked && result == 0) return 0;
    if (request->mode >= LOCK_SHARED) unlock_fresh(descriptor, pair_start(*family));
    return problem->blocked ? -EAGAIN : result;
}

enum { ATTEMPTS = 100, YIELDS_TO_CLEANER = 100, FRESH_SECONDS = 3600 };

/* The lock file whose header was looked at last.  Programs open one image again and again, and what was a lock file of
 * ours stays one. */
static _Atomic uint64_t known_device, known_inode;

static bool is_known(const struct stat *status)
{
    return known_device == status->st_dev && known_inode == status->st_ino;
}

static void know(const struct stat *status)
{
    if (is_known(status)) return;
    known_device = status->st_dev;
    known_inode = status->st_ino;
}

/* Does one exclusive lock cover the file from its first byte to its end? */
static bool is_locked_whole(int descriptor)
{
    struct bytes_found found;
    return bytes_held(descriptor, F_RDLCK, LOCK_BYTE, LOCK_BYTES, &found) > 0 && found.type == F_WRLCK &&
           found.start == 0 && found.length == 0;
}

/* Says in the lock file who holds it. */
static void record(struct lock *lock, const struct lock_request *request, const struct stat *status)
{
    struct holder_note note = note_of(lock);
    note.process = request->process;
    note.since_ms = holders_now();
    if (status->st_size == 0) {
        holders_write_header(lock->descriptor, request->image_path);
    } else if (!is_known(status)) {
        /* To read it for the first time since it was written to would move its access time, which takes ten times as
         * long as to read it.  Refused to those who do not own the file. */
        sys_fcntl(lock->descriptor, F_SETFL, O_NONBLOCK | O_NOATIME);
        if (!holders_has_header(lock->descriptor)) return; /* somebody else's file under this name: not written to */
    }
    know(status);
    lock->slot = holders_claim(lock->descriptor, &note);
    /* systemd-tmpfiles deletes a file all of whose time stamps are older than 30 days, others go by the time of the
     * last access alone.  The record has renewed those of change. */
    if (lock->slot < 0 || note.since_ms / 1000 - status->st_atim.tv_sec > FRESH_SECONDS) sys_touch(lock->descriptor);
}

enum lock_result lock_take(const struct lock_request *request, struct lock *lock, int *opened,
                           struct lock_problem *problem)
{
    char path[LOCK_PATH_SIZE(request->directory)];
    lock_path(request->directory, request->name, path);
    *lock = (struct lock){.descriptor = -1, .slot = -1};
    problem->blocked = 0;
    int yields = 0;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (*opened < 0) *opened = open_or_create(path, true, problem);
        if (*opened < 0) return LOCK_FAILED;
        int family = 0;
        bool queue = request->patient && request->mode == LOCK_SHARED && gate_is_closed(*opened);
        int result = queue ? -EAGAIN : take_requested(*opened, request, &family, problem);
        struct stat status;
        int fit = check_identity(*opened, path, &status, problem);
        if (fit > 0 && result == -EAGAIN) {
            if (problem->blocked) return LOCK_BUSY;
            /* Who was in the way may be gone by now: a child that ended, a helper. */
            if (!queue && lock_in_the_way(*opened, request->mode) == 0) continue;
            problem->own = family_is_self(*opened, request->mode);
            if (!problem->own && !queue && lock_in_the_way(*opened, request->mode) == 0) continue;
            /* imglock gc locks the whole file for a moment, to see that nobody else does. */
            if (!queue && yields < YIELDS_TO_CLEANER && is_locked_whole(*opened)) {
                yields++;
                attempt--;
                sys_yield();
                continue;
            }
            return LOCK_BUSY;
        }
        if (fit > 0 && result == 0) {
            *lock = (struct lock){.descriptor = descriptor_move_high(*opened, request->through_exec),
                                  .device = status.st_dev,
                                  .inode = status.st_ino,
                                  .slot = -1,
                                  .mode = request->mode,
                                  .family = family,
                                  .block = request->block,
                                  .reason = request->reason};
            *opened = -1;
            record(lock, request, &status);
            return LOCK_TAKEN;
        }
        sys_close(*opened);
        *opened = -1;
        if (fit < 0) return LOCK_FAILED;
        if (fit > 0) return lock_error(result, problem);
    }
    return fail(problem, -EAGAIN, "the lock file keeps changing");
}

void lock_watch(struct lock *lock, const struct lock_request *request, int *opened)
{
    struct stat status = {0};
    sys_fstat(*opened, &status);
    *lock = (struct lock){.descriptor = descriptor_move_high(*opened, request->through_exec),
                          .device = status.st_dev,
                          .inode = status.st_ino,
                          .slot = -1,
                          .mode = LOCK_NONE,
                          .reason = request->reason};
    *opened = -1;
    const struct holder_note note = note_of(lock);
    lock->slot = holders_claim(lock->descriptor, &note);
}

bool lock_is_open(const struct lock *lock)
{
    struct stat status;
    int result = lock->descriptor < 0 ? -EBADF : sys_fstat(lock->descriptor, &status);
    /* An error of another kind says nothing of whose number it is. */
    if (result < 0) return result != -EBADF;
    return status.st_dev == lock->device && status.st_ino == lock->inode;
}

bool lock_confirm(const struct lock *lock)
{
    /* A shared lock is not passed on.  And locking shared once more might weaken it: a process that has the open file
     * description, too, may have raised it meanwhile. */
    return lock->mode != LOCK_EXCLUSIVE || try_lock(lock->descriptor, lock->mode, pair_start(lock->family)) != -EAGAIN;
}

bool lock_says_inactive(const struct lock *lock)
{
    struct holder holder;
    return lock->slot >= 0 && holders_read(lock->descriptor, lock->slot, &holder) && holder.mode == LOCK_INACTIVE;
}

/* From a record alone to a lock: nothing is held yet, so it is taken as a new one is. */
static enum lock_result lock_recorded(struct lock *lock, const struct lock_request *request,
                                      struct lock_problem *problem)
{
    int family;
    int result = take_requested(lock->descriptor, request, &family, problem);
    if (result < 0) return problem->blocked ? LOCK_BUSY : lock_error(result, problem);
    lock->family = family;
    lock->block = request->block;
    lock->mode = request->mode;
    const struct holder_note note = note_of(lock);
    holders_rewrite(lock->descriptor, lock->slot, &note);
    return LOCK_TAKEN;
}

/* Is anybody but relatives in the way of a lock that is held already? */
static bool is_barred(const struct lock *lock, const struct lock_request *request)
{
    return lock_in_the_way(lock->descriptor, request->mode) != 0 &&
           !family_holds(lock->descriptor, request->mode, request->family, 1);
}

enum lock_result lock_convert(struct lock *lock, const struct lock_request *request, struct lock_problem *problem)
{
    if (lock->mode < LOCK_SHARED && request->mode >= LOCK_SHARED) return lock_recorded(lock, request, problem);
    problem->blocked = blocker_find(lock->descriptor, request->operations);
    if (problem->blocked) return LOCK_BUSY;
    /* Up: those on the other pairs of bytes have not seen this mode yet. */
    bool up = request->mode > lock->mode;
    int result = try_lock(lock->descriptor, request->mode, pair_start(lock->family));
    if (result < 0) return lock_error(result, problem);
    if (up && is_barred(lock, request)) {
        try_lock(lock->descriptor, lock->mode, pair_start(lock->family));
        return LOCK_BUSY;
    }
    lock->mode = request->mode;
    const struct holder_note note = note_of(lock);
    holders_rewrite(lock->descriptor, lock->slot, &note);
    return LOCK_TAKEN;
}

void lock_adopt(struct lock *lock, int descriptor, const char *reason)
{
    struct holder holder;
    struct stat status = {0};
    sys_fstat(descriptor, &status);
    *lock =
        (struct lock){.descriptor = descriptor,
                      .device = status.st_dev,
                      .inode = status.st_ino,
                      .slot = -1,
                      .mode = bytes_own(descriptor, LOCK_BYTE, LOCK_BYTES) == F_WRLCK ? LOCK_EXCLUSIVE : LOCK_SHARED,
                      .reason = reason};
    if (!holders_find_own(descriptor, &holder)) return;
    lock->slot = holder.slot;
    lock->mode = holder.mode;
    lock->family = holder.family;
    lock->block = holder.block;
    const struct holder *self = holders_self();
    const struct holder_note note = note_of(lock);
    /* From before the exec: the command is another now. */
    if (holder.pid == self->pid && holder.start == self->start) holders_rewrite(descriptor, lock->slot, &note);
}

void lock_end_guard(int lock_descriptor)
{
    bytes_unlock(lock_descriptor, 0, 0);
    sys_close(lock_descriptor);
}

void lock_release(struct lock *lock)
{
    if (lock->descriptor >= 0) sys_close(lock->descriptor);
    lock->descriptor = -1;
}

int lock_open_existing(const char *directory, const struct lock_name *name, struct lock_problem *problem)
{
    char path[LOCK_PATH_SIZE(directory)];
    struct stat status;
    lock_path(directory, name, path);
    int descriptor = open_or_create(path, false, problem);
    if (descriptor < 0) return descriptor;
    int fit = check_identity(descriptor, path, &status, problem);
    if (fit > 0) return descriptor;
    sys_close(descriptor);
    if (fit < 0) return problem->error ? -problem->error : -EIO;
    return -ENOENT;
}
