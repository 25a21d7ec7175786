#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <sys/sysmacros.h>

#include "blocker.h"
#include "bytes.h"
#include "descriptor.h"
#include "distant.h"
#include "fdinfo.h"
#include "holders.h"
#include "memo.h"
#include "sys.h"
#include "text.h"

/* ---- bytes ---------------------------------------------------------------------------------------------- */

static int length_at(int start)
{
    return start == LOCK_BYTE ? LOCK_BYTES : 1;
}

int lock_in_the_way(int lock_descriptor, enum lock_mode mode)
{
    int held = bytes_held(lock_descriptor, bytes_type(mode), LOCK_BYTE, LOCK_BYTES, NULL);
    return held ? held : bytes_held(lock_descriptor, bytes_type(mode), RELATIVES_BYTE, RELATIVES, NULL);
}

static struct relatives_question question_of(int descriptor, const struct lock_request *request)
{
    return (struct relatives_question){.lock_descriptor = descriptor,
                                       .mode = request->mode,
                                       .ancestors = request->relatives,
                                       .waits = request->repeats,
                                       .known = request->known};
}

/* Takes a moment where strangers seem to be there: nothing may be locked meanwhile that is given back afterwards, which
 * others would take for a stranger's in their turn. */
static enum relatives_answer ask_relatives(int descriptor, const struct lock_request *request)
{
    const struct relatives_question question = question_of(descriptor, request);
    return relatives_in_the_way(&question);
}

/* With the bytes in hand that the request asks for: may they be kept? */
static bool may_keep(int descriptor, const struct lock_request *request)
{
    struct relatives_question question = question_of(descriptor, request);
    question.once = true;
    return relatives_in_the_way(&question) != RELATIVES_STRANGERS;
}

/* Until when one try may last, of a request that may wait for longer. */
static int64_t end_of_try(const struct lock_request *request)
{
    const int64_t end = sys_monotonic() + LOCK_GRACE_NS;
    return end < request->deadline ? end : request->deadline;
}

/* Until when a relative tries to get a byte: all it has to wait for is other relatives that do the same.  At a load of
 * 40 one try may take half a second. */
#define CLAIM_NS (INT64_C(5) * 1000 * 1000 * 1000)

/* A byte of the relatives' range that nobody has.  Exclusively first, since two who have one byte shared would be taken
 * for one; a lock file that is read-only for this user gives shared ones alone.  The byte, or -errno. */
static int take_free_byte(int descriptor, enum lock_mode mode, int64_t deadline)
{
    unsigned at = (unsigned)sys_getpid();
    for (;; at++) {
        const int byte = RELATIVES_BYTE + (int)(at % RELATIVES);
        int result = bytes_lock(descriptor, F_WRLCK, byte, 1);
        if (result == -EBADF && mode != LOCK_EXCLUSIVE)
            result = bytes_held(descriptor, F_WRLCK, byte, 1, NULL) ? -EAGAIN : 0;
        if (result == 0 && mode != LOCK_EXCLUSIVE) result = bytes_lock(descriptor, F_RDLCK, byte, 1);
        if (result != -EAGAIN) return result < 0 ? result : byte;
        if (sys_monotonic() >= deadline) return -EAGAIN;
    }
}

/* Takes bytes 0-1, or a byte beside while relatives have those: nobody keeps a byte beside nobody, since scripts ask
 * for bytes 0-1 alone.  Only with a byte in hand is it certain who else is there: a stranger who comes from now on sees
 * it, one who came before is found by the second look.  Two who do so at once would each see the other, so they do it
 * one after the other: CLAIM_BYTE is held meanwhile.  -EAGAIN: somebody is in the way, and nothing is locked. */
static int claim_once(int descriptor, const struct lock_request *request, int *start, int64_t deadline)
{
    const short type = bytes_type(request->mode);
    int claimed;
    while ((claimed = bytes_lock(descriptor, F_WRLCK, CLAIM_BYTE, 1)) == -EAGAIN)
        if (!sys_pause(deadline)) return -EAGAIN;
    if (claimed < 0 && claimed != -EBADF) return claimed;
    int byte = bytes_lock(descriptor, type, LOCK_BYTE, LOCK_BYTES);
    if (byte == 0) byte = LOCK_BYTE;
    if (byte == -EAGAIN) byte = take_free_byte(descriptor, request->mode, deadline);
    if (byte >= 0 && (!may_keep(descriptor, request) ||
                      (byte != LOCK_BYTE && bytes_held(descriptor, type, LOCK_BYTE, LOCK_BYTES, NULL) == 0))) {
        bytes_unlock(descriptor, byte, length_at(byte));
        byte = -EAGAIN;
    }
    if (claimed == 0) bytes_unlock(descriptor, CLAIM_BYTE, 1);
    if (byte < 0) return byte;
    *start = byte;
    return 0;
}

/* Beside the locks of relatives, if nobody else is there.  -EAGAIN: somebody is, and nothing is locked. */
static int claim_beside(int descriptor, const struct lock_request *request, int *start)
{
    const int64_t deadline = sys_monotonic() + CLAIM_NS;
    int result;
    do {
        if (ask_relatives(descriptor, request) != RELATIVES_ALL) return -EAGAIN;
        result = claim_once(descriptor, request, start, deadline);
    } while (result == -EAGAIN && sys_pause(deadline));
    return result;
}

/* Locks bytes 0-1; or, where relatives hold those, a byte beside.  -EAGAIN: somebody is in the way, and nothing is
 * locked.  Of *operations those remain that others may block. */
static int take_bytes(int descriptor, const struct lock_request *request, int *start, unsigned *operations)
{
    const short type = bytes_type(request->mode);
    int result = bytes_lock(descriptor, type, LOCK_BYTE, LOCK_BYTES);
    if (result == -EAGAIN) return claim_beside(descriptor, request, start);
    if (result < 0) return result;
    *start = LOCK_BYTE;
    /* With bytes 0-1 in hand, nobody else has them.  One question for all that others may have else, while nobody has
     * anything: for an exclusive lock alone, since it sees shared ones in the way. */
    if (request->mode == LOCK_EXCLUSIVE && bytes_held(descriptor, F_WRLCK, CLAIM_BYTE, 0, NULL) == 0) {
        *operations = 0;
        return 0;
    }
    int others = bytes_held(descriptor, type, RELATIVES_BYTE, RELATIVES, NULL);
    if (others == 0) return 0;
    if (others > 0 && may_keep(descriptor, request)) return 0;
    bytes_unlock(descriptor, LOCK_BYTE, LOCK_BYTES);
    return others > 0 ? claim_beside(descriptor, request, start) : others;
}

static enum lock_result lock_error(int result, struct lock_problem *problem)
{
    if (result == -EAGAIN) return LOCK_BUSY;
    if (result == -EBADF)
        lock_problem_set(problem, -EACCES, "cannot lock exclusively: the lock file is read-only for this user");
    else
        lock_problem_set(problem, result, "the lock directory's file system gives no lock");
    return LOCK_FAILED;
}

/* ---- records -------------------------------------------------------------------------------------------- */

static struct holder_note note_of(const struct lock *lock)
{
    return (struct holder_note){
        .mode = lock->mode, .beside = lock_is_beside(lock), .block = lock->block, .reason = lock->reason};
}

/* Says what the lock has become.  A record is never written twice, which would make its owner nobody to whoever reads
 * it at that moment: the new one has a slot of its own. */
static void record_change(struct lock *lock)
{
    const struct holder_note note = note_of(lock);
    const int slot = holders_claim(lock->descriptor, lock->slot, &note);
    if (slot < 0) return;
    holders_leave(lock->descriptor, lock->slot);
    lock->slot = slot;
}

enum { FRESH_SECONDS = 3600 };

/* The lock file whose header was looked at last.  Programs open one image again and again, and what was a lock file of
 * ours stays one. */
static _Atomic uint64_t known_file;

/* Says in the lock file who holds it. */
static void record(struct lock *lock, const struct lock_request *request, const struct stat *status)
{
    const uint64_t file = memo_file(status);
    struct holder_note note = note_of(lock);
    note.section = request->section;
    note.since_ms = record_now();
    if (status->st_size == 0) {
        record_write_header(lock->descriptor, request->image_path);
    } else if (!memo_is(&known_file, file)) {
        /* To read it for the first time since it was written to would move its access time, which takes ten times as
         * long as to read it.  Refused to those who do not own the file. */
        sys_fcntl(lock->descriptor, F_SETFL, O_NONBLOCK | O_NOATIME);
        if (!record_has_header(lock->descriptor)) return; /* somebody else's file under this name: not written to */
    }
    memo_note(&known_file, file);
    lock->slot = holders_claim(lock->descriptor, -1, &note);
    /* systemd-tmpfiles deletes a file all of whose time stamps are older than 30 days, others go by the time of the
     * last access alone.  The record has renewed those of change. */
    if (lock->slot < 0 || note.since_ms / 1000 - status->st_atim.tv_sec > FRESH_SECONDS) sys_touch(lock->descriptor);
}

/* ---- where it lies -------------------------------------------------------------------------------------- */

static int find_own(int descriptor, off_t start, off_t length, struct bytes_found *found);

/* Of a lock that was just taken.  One device has all of a process's lock files, mostly: to ask where it lies takes a
 * call, on a distant one of the server, and is remembered. */
static enum lock_place place_of(int descriptor, dev_t device, int start)
{
    static _Atomic uint64_t known[LOCK_HIDDEN + 1];
    struct bytes_found found;
    /* On a disk of this host. */
    if (major(device) != 0) return LOCK_HERE;
    for (int place = LOCK_HERE; place <= LOCK_HIDDEN; place++)
        if (known[place] == device) return (enum lock_place)place;
    const enum lock_place place = !distant_is(descriptor)                                      ? LOCK_HERE
                                  : find_own(descriptor, start, length_at(start), &found) == 0 ? LOCK_HIDDEN
                                                                                               : LOCK_SHOWN;
    known[place] = device;
    return place;
}

/* ---- taking --------------------------------------------------------------------------------------------- */

/* The bytes that the request asks for, its own blockers among them.  0, or -EAGAIN and nothing is locked, or -errno. */
static int take_requested(int descriptor, const struct lock_request *request, int *start, struct lock_problem *problem)
{
    problem->blocked = 0;
    *start = LOCK_BYTE;
    unsigned operations = request->operations;
    int result = request->mode < LOCK_SHARED ? 0 : take_bytes(descriptor, request, start, &operations);
    if (result < 0) return result;
    problem->blocked = blocker_find(descriptor, operations);
    /* What this process blocks itself by a description that it has, it may do. */
    if (problem->blocked && request->known && request->known->descriptor >= 0)
        problem->blocked = blocker_find(request->known->descriptor, operations);
    if (!problem->blocked && request->block) {
        result = blocker_set(descriptor, request->block, end_of_try(request));
        if (result > 0) problem->blocked = result;
    }
    if (!problem->blocked && result == 0) return 0;
    if (request->mode >= LOCK_SHARED) bytes_unlock(descriptor, *start, length_at(*start));
    return problem->blocked ? -EAGAIN : result;
}

/* Does one exclusive lock cover the file from its first byte to its end? */
static bool is_locked_whole(int descriptor)
{
    struct bytes_found found;
    return bytes_held(descriptor, F_RDLCK, LOCK_BYTE, LOCK_BYTES, &found) > 0 && found.type == F_WRLCK &&
           found.start == 0 && found.length == 0;
}

/* Is a writer waiting, behind whom this reader has to queue?  Not the helper of a holder: the writer waits for the
 * holder, who may wait for its helper. */
static bool has_to_queue(int descriptor, const struct lock_request *request)
{
    if (!request->patient || request->mode != LOCK_SHARED || bytes_held(descriptor, F_RDLCK, GATE_BYTE, 1, NULL) <= 0)
        return false;
    const struct relatives_question question = question_of(descriptor, request);
    return !relatives_hold_any(&question);
}

enum attempt { ATTEMPT_TAKEN, ATTEMPT_BUSY, ATTEMPT_FAILED, ATTEMPT_AGAIN, ATTEMPT_AGAIN_LATER };

/* One try, with the lock file open. */
static enum attempt attempt(const struct lock_request *request, const char *path, int *opened, struct stat *status,
                            int *start, struct lock_problem *problem)
{
    const bool queue = has_to_queue(*opened, request);
    int result = queue ? -EAGAIN : take_requested(*opened, request, start, problem);
    const int fit = lock_file_check(*opened, path, status, problem);
    if (fit > 0 && result == 0) return ATTEMPT_TAKEN;
    if (fit > 0 && result == -EAGAIN) {
        if (problem->blocked || queue) return ATTEMPT_BUSY;
        /* Who was in the way may be gone by now: a child that ended, a helper. */
        if (lock_in_the_way(*opened, request->mode) == 0) return ATTEMPT_AGAIN;
        problem->given = request->known && request->known->given_count;
        /* imglock gc locks the whole file for a moment, to see that nobody else does. */
        return is_locked_whole(*opened) ? ATTEMPT_AGAIN_LATER : ATTEMPT_BUSY;
    }
    sys_close(*opened);
    *opened = -1;
    if (fit == 0) return ATTEMPT_AGAIN;
    if (fit > 0) lock_error(result, problem);
    return ATTEMPT_FAILED;
}

enum lock_result lock_take(const struct lock_request *request, struct lock *lock, int *opened,
                           struct lock_problem *problem)
{
    char path[LOCK_PATH_SIZE(request->directory)];
    struct stat status;
    int start;
    int64_t deadline = 0, changing = 0; /* of this try; asked for when they are needed */
    enum attempt result;
    lock_path(request->directory, request->name, path);
    *lock = (struct lock){.descriptor = -1, .slot = -1};
    problem->blocked = 0;
    problem->given = false;
    for (;;) {
        if (*opened < 0) *opened = lock_file_open(path, true, request->deadline, problem);
        if (*opened < 0) return LOCK_FAILED;
        result = attempt(request, path, opened, &status, &start, problem);
        if (result < ATTEMPT_AGAIN) break;
        if (!deadline) {
            deadline = end_of_try(request);
            changing = request->repeats ? deadline : sys_monotonic() + LOCK_FILE_CHANGING_NS;
        }
        if (result == ATTEMPT_AGAIN_LATER ? !sys_pause(deadline) : sys_monotonic() >= changing) break;
    }
    if (result == ATTEMPT_FAILED) return LOCK_FAILED;
    if (*opened < 0 && !request->repeats) {
        lock_problem_set(problem, -EAGAIN, "the lock file keeps changing");
        return LOCK_FAILED;
    }
    if (result != ATTEMPT_TAKEN) return LOCK_BUSY;
    const enum lock_place place = request->mode < LOCK_SHARED ? LOCK_HERE : place_of(*opened, status.st_dev, start);
    *lock = (struct lock){.descriptor = descriptor_move_high(*opened, request->through_exec),
                          .device = status.st_dev,
                          .inode = status.st_ino,
                          .slot = -1,
                          .mode = request->mode,
                          .place = place,
                          .start = start,
                          .block = request->block,
                          .reason = request->reason};
    *opened = -1;
    record(lock, request, &status);
    return LOCK_TAKEN;
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
    lock->slot = holders_claim(lock->descriptor, -1, &note);
}

/* ---- a lock that this process has ----------------------------------------------------------------------- */

bool lock_is_open(const struct lock *lock)
{
    struct stat status;
    int result = lock->descriptor < 0 ? -EBADF : sys_fstat(lock->descriptor, &status);
    /* An error of another kind says nothing of whose number it is. */
    if (result < 0) return result != -EBADF;
    return status.st_dev == lock->device && status.st_ino == lock->inode;
}

/* What a description has locked within a range, before Linux 6.6. */
struct own_search {
    off_t start, end;
    struct bytes_found *found;
    bool any;
};

static bool note_own(const struct fdinfo_lock *lock, void *argument)
{
    struct own_search *search = argument;
    if (lock->owner != FDINFO_DESCRIPTION || lock->start > search->end || lock->end < search->start) return true;
    *search->found = (struct bytes_found){.type = lock->exclusive ? F_WRLCK : F_RDLCK, .start = lock->start};
    search->any = true;
    return false;
}

/* What has this very description in the range?  1: *found is one of its locks; 0: nothing; or -errno: not told. */
static int find_own(int descriptor, off_t start, off_t length, struct bytes_found *found)
{
    int result = bytes_own(descriptor, start, length, found);
    if (result != -EINVAL) return result;
    char name[FDINFO_OWN_SIZE];
    struct own_search search = {.start = start, .end = start + length - 1, .found = found};
    fdinfo_own(name, descriptor);
    result = fdinfo_each_lock(AT_FDCWD, name, note_own, &search);
    return result < 0 ? result : search.any;
}

bool lock_is_held(const struct lock *lock)
{
    struct bytes_found found;
    return lock->mode < LOCK_SHARED || lock->place == LOCK_HIDDEN ||
           find_own(lock->descriptor, lock->start, length_at(lock->start), &found) != 0;
}

static bool is_own_record(const struct lock *lock)
{
    struct holder holder;
    const struct process_identity *self = process_self();
    return holders_read(lock->descriptor, lock->slot, &holder) && holder.process.pid == self->pid &&
           holder.process.start == self->start && holder.process.boot == self->boot &&
           holder.process.pid_space == self->pid_space;
}

int lock_ask_again(struct lock *lock, enum lock_again what)
{
    int result = bytes_lock(lock->descriptor, bytes_type(lock->mode), lock->start, length_at(lock->start));
    if (result < 0) return result;
    if (lock->block) blocker_set(lock->descriptor, lock->block, 0);
    if (lock->slot < 0 || what == LOCK_AGAIN_ALONE) return 0;
    result = bytes_lock(lock->descriptor, F_RDLCK, SLOT_BYTE + lock->slot, 1);
    if (what != LOCK_AGAIN_RECORD || (result < 0 && result != -EAGAIN) || (result == 0 && is_own_record(lock)))
        return 0;
    record_change(lock);
    return 1;
}

/* From a record alone to a lock: nothing is held yet, so it is taken as a new one is. */
static enum lock_result lock_recorded(struct lock *lock, const struct lock_request *request,
                                      struct lock_problem *problem)
{
    int start;
    int result = take_requested(lock->descriptor, request, &start, problem);
    if (result < 0) return problem->blocked ? LOCK_BUSY : lock_error(result, problem);
    lock->start = start;
    lock->block = request->block;
    lock->mode = request->mode;
    lock->place = place_of(lock->descriptor, lock->device, start);
    record_change(lock);
    return LOCK_TAKEN;
}

/* Locks the same bytes in the other mode.  0; -EAGAIN: somebody is in the way, and the old mode is there still; or
 * -errno. */
static int convert_bytes(const struct lock *lock, const struct lock_request *request)
{
    const int length = length_at(lock->start);
    const int64_t deadline = sys_monotonic() + CLAIM_NS;
    struct relatives_question question = question_of(lock->descriptor, request);
    question.reads = lock->mode == LOCK_SHARED && !lock_is_beside(lock);
    int result;
    while ((result = bytes_lock(lock->descriptor, bytes_type(request->mode), lock->start, length)) == 0) {
        /* Up: those on other bytes have not seen this mode yet. */
        if (request->mode < lock->mode || lock_in_the_way(lock->descriptor, request->mode) == 0 ||
            may_keep(lock->descriptor, request))
            return 0;
        bytes_lock(lock->descriptor, bytes_type(lock->mode), lock->start, length);
        if (relatives_in_the_way(&question) == RELATIVES_STRANGERS || !sys_pause(deadline)) return -EAGAIN;
    }
    return result;
}

enum lock_result lock_convert(struct lock *lock, const struct lock_request *request, struct lock_problem *problem)
{
    if (lock->mode < LOCK_SHARED && request->mode >= LOCK_SHARED) return lock_recorded(lock, request, problem);
    problem->blocked = blocker_find(lock->descriptor, request->operations);
    if (problem->blocked) return LOCK_BUSY;
    const int result = convert_bytes(lock, request);
    if (result < 0) return lock_error(result, problem);
    lock->mode = request->mode;
    record_change(lock);
    return LOCK_TAKEN;
}

void lock_come_forward(struct lock *lock)
{
    if (bytes_lock(lock->descriptor, bytes_type(lock->mode), LOCK_BYTE, LOCK_BYTES) < 0) return;
    bytes_unlock(lock->descriptor, lock->start, 1);
    lock->start = LOCK_BYTE;
    record_change(lock);
}

void lock_adopt(struct lock *lock, int descriptor, const char *reason)
{
    struct bytes_found found;
    struct stat status = {0};
    sys_fstat(descriptor, &status);
    *lock = (struct lock){.descriptor = descriptor,
                          .device = status.st_dev,
                          .inode = status.st_ino,
                          .slot = -1,
                          .mode = LOCK_NONE,
                          .reason = reason};
    if (find_own(descriptor, LOCK_BYTE, LOCK_BYTES, &found) > 0)
        lock->mode = found.type == F_WRLCK ? LOCK_EXCLUSIVE : LOCK_SHARED;
    else if (find_own(descriptor, RELATIVES_BYTE, RELATIVES, &found) > 0) {
        lock->mode = found.type == F_WRLCK ? LOCK_EXCLUSIVE : LOCK_SHARED;
        lock->start = (int)found.start;
    }
    for (int i = 0; i < OPERATIONS; i++)
        if (find_own(descriptor, OPERATION_BYTE + i, 1, &found) > 0) lock->block |= 1u << i;
    if (find_own(descriptor, SLOT_BYTE, SLOTS, &found) > 0) lock->slot = (int)found.start - SLOT_BYTE;
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
    int descriptor = lock_file_open(path, false, sys_monotonic() + LOCK_GRACE_NS, problem);
    if (descriptor < 0) return descriptor;
    int fit = lock_file_check(descriptor, path, &status, problem);
    if (fit > 0) return descriptor;
    sys_close(descriptor);
    if (fit < 0) return problem->error ? -problem->error : -EIO;
    return -ENOENT;
}
