/* lock_transfer.c: a hand-over begun and ended: its lock files, the processes between which it is, and what is said
 * where it is refused. */
#include "lock_transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "complain.h"
#include "fdinfo.h"
#include "lock.h"
#include "lock_owner.h"
#include "message.h"
#include "message_line.h"
#include "name.h"
#include "owned.h"
#include "process_scan.h"
#include "setting.h"

/* ---- refused ------------------------------------------------------------------------------------------------ */

int transfer_refuse(struct transfer *transfer, int status, const char *format, ...)
{
    char *why = NULL;
    char owner[300];
    va_list list;
    va_start(list, format);
    int length = vasprintf(&why, format, list);
    va_end(list);
    party_leave(&transfer->source);
    party_leave(&transfer->target);
    lock_owner_describe(&transfer->files, owner, sizeof owner);
    complain("%s: %s: %s; %s", transfer->path, transfer->action, length < 0 ? strerror(ENOMEM) : why, owner);
    free(why);
    transfer_end(transfer);
    return status;
}

/* ---- beginning ---------------------------------------------------------------------------------------------- */

static int open_lock(struct transfer *transfer, const struct lock_name *name)
{
    struct lock_problem problem = {.owner = (uid_t)-1};
    int descriptor = lock_open_existing(transfer->settings.directory, name, &problem);
    if (descriptor == -ENOENT) return 0;
    if (descriptor < 0) {
        message_problem(&transfer->settings, transfer->path, transfer->action, name, &problem);
        return STATUS_FAILED;
    }
    transfer->files.open[transfer->files.count].descriptor = descriptor;
    fstat(descriptor, &transfer->files.open[transfer->files.count].status);
    transfer->files.count++;
    return 0;
}

static bool note_transfer_byte(const struct fdinfo_lock *lock, void *argument)
{
    bool *holds = argument;
    *holds |= lock->start <= TRANSFER_BYTE && lock->end >= TRANSFER_BYTE;
    return !*holds;
}

static bool holds_transfer_byte(const struct finding *finding)
{
    char name[48];
    bool holds = false;
    snprintf(name, sizeof name, "/proc/%d/fdinfo/%d", finding->pid, finding->descriptor);
    fdinfo_each_lock(AT_FDCWD, name, note_transfer_byte, &holds);
    return holds;
}

/* Who holds byte 3, as far as this user may look. */
static void name_transferring(const struct transfer *transfer, char *who, size_t size)
{
    struct process_scan scan = {0};
    struct file_identity identity;
    struct process_facts process;
    size_t count = 0;
    snprintf(who, size, "another imglock");
    if (!identify_file(transfer->files.open[0].descriptor, "", &identity)) return;
    size_t file = scan_add(&scan, &identity, true);
    scan_run(&scan);
    const struct finding *findings = scan_findings(&scan, file, &count);
    for (size_t i = 0; i < count; i++) {
        if (!holds_transfer_byte(&findings[i]) || !process_look_up(findings[i].pid, &process)) continue;
        const struct passwd *user = getpwuid(process.uid);
        if (user)
            snprintf(who, size, "%s (pid %d, user %s)", process.command, process.pid, user->pw_name);
        else
            snprintf(who, size, "%s (pid %d, user %u)", process.command, process.pid, process.uid);
    }
    scan_free(&scan);
}

int transfer_open(struct transfer *transfer, const char *image, const char *action)
{
    bool exists;
    struct stat status;
    struct lock_name name;
    *transfer = (struct transfer){.action = action, .source = party_nobody, .target = party_nobody};
    if (!settings_read(&transfer->settings)) return STATUS_FAILED;
    transfer->files.directory = transfer->settings.directory;
    int error = name_real_path(image, transfer->path, &exists, &status);
    if (error) return complain("%s: %s: cannot tell its lock's path: %s", word_shown(image), action, strerror(error));
    message_line_remember_stderr();
    lock_name_of_image(transfer->path, exists ? &status : NULL, &name);
    int failed = open_lock(transfer, &name);
    if (failed) return failed;
    if (!transfer->files.count && access(transfer->settings.directory, F_OK) < 0 && errno == ENOENT)
        return complain("%s: %s: the lock directory %s does not exist", transfer->path, action,
                        transfer->settings.directory);
    if (!transfer->files.count && !exists) return complain("%s: %s: the image does not exist", transfer->path, action);
    if (!transfer->files.count) {
        complain("%s: %s: in the lock directory %s nobody has ever locked it; nobody holds the lock", transfer->path,
                 action, transfer->settings.directory);
        return EXIT_FAILURE;
    }
    if (exists) transfer->image = status;
    if (exists && !S_ISBLK(status.st_mode)) {
        lock_name_of_inode(&status, &name);
        failed = open_lock(transfer, &name);
        if (failed) return failed;
    }
    /* Two at once would undo each other's steps. */
    int result = bytes_lock(transfer->files.open[0].descriptor, F_WRLCK, TRANSFER_BYTE, 1);
    if (result == 0) return 0;
    if (result == -EAGAIN) {
        char who[96];
        name_transferring(transfer, who, sizeof who);
        return transfer_refuse(transfer, EXIT_FAILURE, "%s is passing this lock on just now", who);
    }
    return transfer_refuse(transfer, STATUS_FAILED, "cannot lock the lock file: %s",
                           result == -EBADF ? "it is read-only for this user" : strerror(-result));
}

void transfer_end(struct transfer *transfer)
{
    party_leave(&transfer->source);
    party_leave(&transfer->target);
    for (size_t i = 0; i < transfer->files.count; i++) close(transfer->files.open[i].descriptor);
    transfer->files.count = 0;
}

int transfer_reach_target(struct transfer *transfer, pid_t pid)
{
    struct party *target = &transfer->target;
    char why[400];
    int error = party_reach(&transfer->files, pid, -1, target);
    if (error < 0) {
        int status = party_explain(&transfer->files, target, error, why, sizeof why);
        return transfer_refuse(transfer, status, "%s", why);
    }
    struct owned owned = owned_by(target->shares[0].descriptor);
    const struct holder *holder = &target->shares[0].holder;
    snprintf(why, sizeof why, "%s", target->name);
    if (owned.bytes && !owned.shared) return 0;
    if (!owned.slot_count || !holder->recorded)
        return transfer_refuse(transfer, EXIT_FAILURE, "%s has no record that says it is inactive", why);
    /* One that says exclusive, and holds nothing, has given the lock away just now: it may have it back. */
    if (holder->mode == LOCK_INACTIVE || (holder->mode == LOCK_EXCLUSIVE && !holder->beside)) return 0;
    return transfer_refuse(transfer, EXIT_FAILURE,
                           "%s is not inactive on this image, its record says %s; it has to be started with "
                           "IMGLOCK_MODE=inactive, or a rule in IMGLOCK_RULES",
                           why, policy_mode_name(holder->mode));
}

int transfer_reach_source(struct transfer *transfer, pid_t pid, bool needed)
{
    struct lock_owner found = {.party = party_nobody};
    if (pid) {
        int error = party_reach(&transfer->files, pid, -1, &found.party);
        struct owned owned = owned_by(found.party.shares[0].descriptor);
        if (error < 0) {
            found.status = party_explain(&transfer->files, &found.party, error, found.why, sizeof found.why);
            return transfer_refuse(transfer, found.status, "%s", found.why);
        }
        transfer->source = found.party;
        snprintf(found.why, sizeof found.why, "%s", found.party.name);
        if (owned.bytes) return 0;
        if (owned.beside)
            return transfer_refuse(transfer, EXIT_FAILURE,
                                   "%s was let past the lock of its ancestor, and has none of its own to give away",
                                   found.why);
        return transfer_refuse(transfer, EXIT_FAILURE, "%s does not hold the lock", found.why);
    }
    lock_owner_find(&transfer->files, &transfer->target, &found);
    transfer->source = found.party;
    switch (found.holding) {
    case HOLDING_FOUND:
        return 0;
    case HOLDING_NOBODY:
        if (!needed) return 0;
        return transfer_refuse(transfer, EXIT_FAILURE, "there is no lock to pass on");
    case HOLDING_SHARED:
        return transfer_refuse(transfer, EXIT_FAILURE, "several programs hold it shared");
    case HOLDING_BESIDE:
        return transfer_refuse(transfer, EXIT_FAILURE, "a lock beside an ancestor's is not passed on");
    case HOLDING_UNREACHABLE:
        break;
    }
    return transfer_refuse(transfer, found.status, "%s", found.why);
}

bool transfer_is_complete(const struct transfer *transfer)
{
    const struct party *target = &transfer->target;
    for (size_t i = 0; i < transfer->files.count; i++) {
        const struct share *share = &target->shares[i];
        if (share->descriptor < 0) continue;
        struct owned owned = owned_by(share->descriptor);
        if (owned.bytes != BOTH_BYTES || owned.writing) return false;
        if (share->holder.recorded && share->holder.mode != LOCK_EXCLUSIVE) return false;
    }
    return true;
}
