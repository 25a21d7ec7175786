/* lock_pass.c: the lock passed from one process to another, byte by byte, and back where that fails. */
#include "lock_pass.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "complain.h"
#include "held_image.h"
#include "holders.h"
#include "mark_transfer.h"
#include "owned.h"
#include "process_scan.h"

/* ---- moving bytes ------------------------------------------------------------------------------------------- */

static bool set_bytes(int descriptor, short type, off_t start, off_t length)
{
    const int result = bytes_lock(descriptor, type, start, length);
    if (result < 0) errno = -result;
    return result == 0;
}

static bool do_step(struct transfer *transfer, const struct share *share, short type, off_t start, off_t length)
{
    short before = type != F_UNLCK ? F_UNLCK : owned_by(share->descriptor).shared ? F_RDLCK : F_WRLCK;
    if (!set_bytes(share->descriptor, type, start, length)) return false;
    transfer->done[transfer->done_count++] = (struct step){share->descriptor, before, start, length};
    return true;
}

/* In reverse, so that on the way back, too, one of the bytes is held at every moment. */
static void undo_steps(struct transfer *transfer)
{
    while (transfer->done_count) {
        const struct step *step = &transfer->done[--transfer->done_count];
        set_bytes(step->descriptor, step->before, step->start, step->length);
    }
}

enum { TRIES = 20 };

/* Brings one byte to the target. */
static bool pass_byte(struct transfer *transfer, size_t lock, int byte)
{
    unsigned wanted = 1u << byte;
    if (party_bytes(&transfer->target, lock) & wanted) return true;
    for (int try = 1;; try++) {
        size_t before = transfer->done_count;
        if (party_bytes(&transfer->source, lock) & wanted &&
            !do_step(transfer, &transfer->source.shares[lock], F_UNLCK, byte, 1))
            return false;
        if (do_step(transfer, &transfer->target.shares[lock], F_WRLCK, byte, 1)) return true;
        int error = errno;
        /* A source that opens the image anew locks once more what it has, and takes the byte back. */
        if (try == TRIES || error != EAGAIN || !(party_bytes(&transfer->source, lock) & wanted)) {
            errno = error;
            return false;
        }
        transfer->done_count = before;
    }
}

/* The byte that goes last: byte 0, unless the source has byte 1 alone. */
static int last_byte(const struct transfer *transfer, size_t lock)
{
    return party_bytes(&transfer->source, lock) == SECOND_BYTE ? 1 : 0;
}

/* What nobody has is taken in one go, as every opener does. */
static bool take_free(struct transfer *transfer, size_t lock)
{
    if (party_bytes(&transfer->source, lock) || party_bytes(&transfer->target, lock)) return true;
    return do_step(transfer, &transfer->target.shares[lock], F_WRLCK, LOCK_BYTE, LOCK_BYTES);
}

/* -1: all is done, else the lock at which it failed, with errno. */
static int pass_all(struct transfer *transfer)
{
    int last[TRANSFER_LOCKS] = {0};
    for (size_t i = 0; i < transfer->files.count; i++) {
        if (transfer->target.shares[i].descriptor < 0) continue;
        if (!take_free(transfer, i)) return (int)i;
    }
    for (size_t i = 0; i < transfer->files.count; i++) {
        if (transfer->target.shares[i].descriptor < 0) continue;
        last[i] = last_byte(transfer, i);
        if (!pass_byte(transfer, i, 1 - last[i])) return (int)i;
    }
    for (size_t i = 0; i < transfer->files.count; i++) {
        if (transfer->target.shares[i].descriptor < 0) continue;
        if (!pass_byte(transfer, i, last[i])) return (int)i;
    }
    return -1;
}

/* ---- records ------------------------------------------------------------------------------------------------ */

/* Has the share say so in a new record, and gives its old slots back. */
static void say(struct share *share, enum lock_mode mode)
{
    const struct owned owned = owned_by(share->descriptor);
    if (share->descriptor < 0 || !share->holder.recorded) return;
    if (share->holder.mode == mode && owned.slot_count == 1 && !owned.writing) return;
    struct holder changed = share->holder;
    changed.mode = mode;
    changed.since_ms = record_now();
    changed.slot = holders_claim_for(share->descriptor, &changed);
    if (changed.slot < 0) return;
    for (size_t i = 0; i < owned.slot_count; i++)
        if (owned.slots[i] != changed.slot) holders_leave(share->descriptor, owned.slots[i]);
    share->holder = changed;
}

static void say_all(struct party *party, enum lock_mode mode)
{
    for (size_t i = 0; i < TRANSFER_LOCKS; i++) say(&party->shares[i], mode);
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

enum { LOOKS = 50, PAUSE_NS = 200 * 1000 };

/* Has another process than the source its very open file description, as a fork child has?  It would go on by a lock
 * that is the destination's. */
static bool is_inherited(const struct transfer *transfer)
{
    struct process_scan scan = {0};
    struct file_identity identity;
    const struct party *source = &transfer->source;
    const int slot = source->shares[0].holder.slot;
    size_t count = 0;
    bool inherited = false;
    if (!party_is_there(source) || slot < 0 || !identify_file(transfer->files.open[0].descriptor, "", &identity))
        return false;
    size_t file = scan_add(&scan, &identity, true);
    scan_run(&scan);
    const struct finding *findings = scan_findings(&scan, file, &count);
    for (size_t i = 0; i < count; i++)
        inherited |= findings[i].slot == slot && findings[i].pid != source->pid && findings[i].pid != getpid();
    scan_free(&scan);
    return inherited;
}

/* Does a descendant of the source stay on the bytes that are for descendants?  One that comes while the records change
 * finds out by itself that they are no relative's any more, and gives its bytes back. */
static bool descendants_stay(const struct transfer *transfer)
{
    const struct timespec moment = {.tv_nsec = PAUSE_NS};
    for (int look = 0; look < LOOKS; look++) {
        bool held = false;
        for (size_t i = 0; i < transfer->files.count; i++)
            if (transfer->target.shares[i].descriptor >= 0)
                held |= owned_by_descendants(transfer->target.shares[i].descriptor);
        if (!held && !is_inherited(transfer)) return false;
        nanosleep(&moment, NULL);
    }
    return true;
}

/* Undoes everything.  error: errno of a step that failed, or 0. */
static int go_back(struct transfer *transfer, int status, const char *why, int error)
{
    undo_steps(transfer);
    say_all(&transfer->target, transfer->target_was);
    say_all(&transfer->source, transfer->source_was);
    return error ? transfer_refuse(transfer, status, "%s: %s", why, strerror(error))
                 : transfer_refuse(transfer, status, "%s", why);
}

static int conflict(struct transfer *transfer, size_t lock)
{
    char action[128];
    snprintf(action, sizeof action, "%s to %s", transfer->action, transfer->target.name);
    undo_steps(transfer);
    say_all(&transfer->target, transfer->target_was);
    say_all(&transfer->source, transfer->source_was);
    party_leave(&transfer->source);
    party_leave(&transfer->target);
    message_conflict(&transfer->settings, transfer->path, action, transfer->files.open[lock].descriptor, LOCK_EXCLUSIVE,
                     0, NULL, NULL);
    transfer_end(transfer);
    return EXIT_FAILURE;
}

static const char descendant_is_there[] =
    "a descendant of the holder was let past the lock and uses the image; let it end";

/* The marks go where the lock has gone. */
static void move_marks(const struct transfer *transfer)
{
    const struct party *source = &transfer->source, *target = &transfer->target;
    if (!transfer->image.st_ino) return;
    /* With its marks left a source keeps others out by what it has not any more; the lock has gone all the same. */
    if (party_is_there(source) && !mark_transfer(source->process, source->pid, &transfer->image, false))
        complain("%s: cannot take the source's marks off the image: %s", transfer->path, strerror(errno));
    if (party_is_there(target) && !mark_transfer(target->process, target->pid, &transfer->image, true))
        complain("%s: cannot mark the image for the destination: %s", transfer->path, strerror(errno));
}

/* While nobody held the lock, has anybody come by another name, by QEMU's own lock, or outside imglock?  The
 * destination gets it as if it opened the image now.  A source has kept out whoever looks.  0, or the exit status. */
static int look_at_image(struct transfer *transfer)
{
    char action[128];
    const struct settings *settings = &transfer->settings;
    struct lock_problem problem;
    struct held_image image = {
        .settings = settings, .path = transfer->path, .mode = LOCK_EXCLUSIVE, .recorded = true, .descriptor = -1};
    if (party_is_there(&transfer->source) || party_bytes(&transfer->target, 0) || !S_ISREG(transfer->image.st_mode))
        return 0;
    const enum lock_result result =
        held_image_take(&image, &(struct lock){.descriptor = transfer->files.open[0].descriptor}, &problem);
    if (image.descriptor >= 0) close(image.descriptor);
    if (result == LOCK_TAKEN || (result == LOCK_FAILED && settings->allow_on_error)) return 0;
    if (result == LOCK_FAILED)
        return transfer_refuse(transfer, STATUS_FAILED, "%s: %s", problem.what, strerror(problem.error));
    snprintf(action, sizeof action, "%s to %s", transfer->action, transfer->target.name);
    stranger_tell(settings, transfer->path, action, -1, &image.stranger, NULL);
    transfer_end(transfer);
    return EXIT_FAILURE;
}

/* What forbids it before anything is done.  0, or the exit status. */
static int look_ahead(struct transfer *transfer)
{
    const struct party *source = &transfer->source, *target = &transfer->target;
    for (size_t i = 0; i < transfer->files.count; i++) {
        if (target->shares[i].descriptor < 0 && party_is_there(source) && party_bytes(source, i))
            return transfer_refuse(
                transfer, EXIT_FAILURE,
                "the lock is held by the image's inode as well, and the destination has none of that "
                "kind: it has to be started with IMGLOCK_KEY=inode");
        if (party_is_there(source) && source->shares[i].holder.recorded && source->shares[i].holder.beside)
            return transfer_refuse(transfer, EXIT_FAILURE, "a lock beside an ancestor's is not passed on");
        if (party_is_there(source) && target->shares[i].descriptor >= 0 &&
            owned_by_descendants(target->shares[i].descriptor))
            return transfer_refuse(transfer, EXIT_FAILURE, "%s", descendant_is_there);
    }
    /* Also the children that have not run their program yet, which is over in a moment. */
    if (is_inherited(transfer) && descendants_stay(transfer))
        return transfer_refuse(transfer, EXIT_FAILURE, "%s", descendant_is_there);
    return look_at_image(transfer);
}

int lock_pass_move(struct transfer *transfer)
{
    sigset_t all, before;
    int status = look_ahead(transfer);
    if (status) return status;
    const bool from_source = party_is_there(&transfer->source);
    transfer->source_was = transfer->source.shares[0].holder.mode;
    transfer->target_was = transfer->target.shares[0].holder.mode;
    /* Not to be interrupted in the middle. */
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    /* Before the target holds anything: whatever is killed in between, nobody reads of two owners. */
    say_all(&transfer->source, LOCK_INACTIVE);
    int failed = pass_all(transfer);
    int error = errno;
    if (failed >= 0 && error == EBADF)
        return go_back(transfer, STATUS_FAILED, "the lock file is read-only for the destination's user", 0);
    if (failed >= 0 && error == EAGAIN) return conflict(transfer, (size_t)failed);
    if (failed >= 0) return go_back(transfer, STATUS_FAILED, "the kernel refused a step", error);
    say_all(&transfer->target, LOCK_EXCLUSIVE);
    if (descendants_stay(transfer)) {
        if (!from_source) return conflict(transfer, 0);
        return go_back(transfer, EXIT_FAILURE, descendant_is_there, 0);
    }
    if (!party_keeps_all(&transfer->files, &transfer->target))
        return go_back(transfer, EXIT_FAILURE, "the destination has ended or closed the image meanwhile", 0);
    move_marks(transfer);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return 0;
}

int lock_pass_give_up(struct transfer *transfer)
{
    sigset_t all, before;
    struct party *source = &transfer->source;
    for (size_t i = 0; i < transfer->files.count; i++)
        if (source->shares[i].descriptor >= 0 && party_bytes(source, i) != BOTH_BYTES &&
            owned_by_others(source->shares[i].descriptor, LOCK_BYTE, LOCK_BYTES) != F_UNLCK)
            return transfer_refuse(transfer, EXIT_FAILURE,
                                   "a hand-over was cut short and has to be completed: imglock handoff");
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    transfer->source_was = source->shares[0].holder.mode;
    say_all(source, LOCK_INACTIVE);
    for (size_t i = 0; i < transfer->files.count; i++) {
        if (source->shares[i].descriptor < 0 || do_step(transfer, &source->shares[i], F_UNLCK, LOCK_BYTE, LOCK_BYTES))
            continue;
        int error = errno;
        return go_back(transfer, STATUS_FAILED, "the kernel refused a step", error);
    }
    move_marks(transfer);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return 0;
}
