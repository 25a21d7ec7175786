#include "lock_transfer.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocker.h"
#include "bytes.h"
#include "complain.h"
#include "fdinfo.h"
#include "held_image.h"
#include "mark_transfer.h"
#include "message.h"
#include "name.h"
#include "process_scan.h"
#include "setting.h"
#include "sys.h"

enum { FIRST_BYTE = 1 << 0, SECOND_BYTE = 1 << 1, BOTH_BYTES = FIRST_BYTE | SECOND_BYTE };

static const struct party nobody = {.process = -1, .shares = {{.descriptor = -1}, {.descriptor = -1}}};

static bool is_there(const struct party *party)
{
    return party->process >= 0;
}

/* ---- what an open file description holds -------------------------------------------------------------------- */

struct owned {
    unsigned bytes; /* FIRST_BYTE and SECOND_BYTE, held in whatever way */
    bool shared;    /* holds them shared */
    bool beside;    /* holds a byte of the relatives' range */
    int slots[8];   /* more than one: what changed its record was cut short */
    size_t slot_count;
    bool writing; /* holds a slot exclusively: its record was being written when that was cut short */
};

static bool note_lock(const struct fdinfo_lock *lock, void *argument)
{
    struct owned *owned = argument;
    if (lock->owner != FDINFO_DESCRIPTION) return true;
    for (unsigned byte = 0; byte < LOCK_BYTES; byte++) {
        if (lock->start > LOCK_BYTE + byte || lock->end < LOCK_BYTE + byte) continue;
        owned->bytes |= 1u << byte;
        owned->shared |= !lock->exclusive;
    }
    if (lock->start < RELATIVES_BYTE + RELATIVES && lock->end >= RELATIVES_BYTE) owned->beside = true;
    if (lock->start == lock->end && lock->start >= SLOT_BYTE && lock->start < SLOT_BYTE + SLOTS) {
        const size_t count = sizeof owned->slots / sizeof *owned->slots;
        if (owned->slot_count < count) owned->slots[owned->slot_count++] = (int)(lock->start - SLOT_BYTE);
        owned->writing |= lock->exclusive;
    }
    return true;
}

/* The kernel's own word on a duplicate is its word on the process's descriptor: both are one open file description. */
static struct owned owned_by(int descriptor)
{
    struct owned owned = {0};
    char name[48];
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", descriptor);
    if (descriptor >= 0) fdinfo_each_lock(AT_FDCWD, name, note_lock, &owned);
    return owned;
}

static bool holds_shared(const struct party *party)
{
    return owned_by(party->shares[0].descriptor).shared;
}

static unsigned bytes_of(const struct party *party, size_t lock)
{
    return owned_by(party->shares[lock].descriptor).bytes;
}

/* What others than this open file description lock in a range: F_UNLCK, F_RDLCK or F_WRLCK. */
static short held_by_others(int descriptor, off_t start, off_t length)
{
    struct bytes_found found = {.type = F_WRLCK};
    return bytes_held(descriptor, F_WRLCK, start, length, &found) == 0 ? F_UNLCK : found.type;
}

static bool descendants_hold(int descriptor)
{
    return held_by_others(descriptor, RELATIVES_BYTE, RELATIVES) != F_UNLCK;
}

/* ---- reaching a process ------------------------------------------------------------------------------------- */

static bool is_file(const struct stat *status, const struct stat *file)
{
    return status->st_dev == file->st_dev && status->st_ino == file->st_ino;
}

/* A duplicate of the process's descriptor of this number, if it is open on the lock file; or -errno. */
static int duplicate(int process, int number, const struct stat *file)
{
    struct stat status;
    int descriptor = (int)sys_call(SYS_pidfd_getfd, process, number, 0, 0, 0, 0);
    if (descriptor < 0) return descriptor;
    if (fstat(descriptor, &status) == 0 && is_file(&status, file) && !(fcntl(descriptor, F_GETFL) & O_PATH))
        return descriptor;
    close(descriptor);
    return -ENOENT;
}

/* How well a share serves: one that holds the lock, one that only has a record, one without either. */
static int worth(const struct share *share)
{
    if (share->descriptor < 0) return -1;
    struct owned owned = owned_by(share->descriptor);
    return owned.bytes || owned.beside ? 2 : owned.slot_count ? 1 : 0;
}

static void keep_better(struct share *best, int descriptor, int number)
{
    struct share other = {.descriptor = descriptor, .number = number, .holder = {.slot = -1}};
    if (worth(&other) > worth(best)) {
        if (best->descriptor >= 0) close(best->descriptor);
        *best = other;
    } else {
        close(descriptor);
    }
}

/* Looks through all descriptors of the process.  0, or -errno: nothing can be looked into. */
static int search_share(const struct party *party, const struct stat *file, struct share *share)
{
    char name[32];
    snprintf(name, sizeof name, "/proc/%d/fd", party->pid);
    DIR *stream = opendir(name);
    if (!stream) return errno == ENOENT ? -ESRCH : errno == EACCES ? -EPERM : -errno;
    int result = 0;
    for (const struct dirent *entry; (entry = readdir(stream));) {
        struct stat status;
        if (!isdigit((unsigned char)entry->d_name[0]) || fstatat(dirfd(stream), entry->d_name, &status, 0) < 0 ||
            !is_file(&status, file))
            continue;
        int descriptor = duplicate(party->process, atoi(entry->d_name), file);
        if (descriptor >= 0)
            keep_better(share, descriptor, atoi(entry->d_name));
        else if (descriptor != -ENOENT && descriptor != -EBADF)
            result = descriptor;
    }
    closedir(stream);
    return result;
}

enum { PASSES = 3 }; /* a private descriptor may be moved to another number meanwhile */

/* What the description says of itself: the newest of its records. */
static void read_newest(int descriptor, struct holder *newest)
{
    const struct owned owned = owned_by(descriptor);
    for (size_t i = 0; i < owned.slot_count; i++) {
        struct holder holder;
        holders_read(descriptor, owned.slots[i], &holder);
        if (i == 0 || (holder.recorded && (!newest->recorded || holder.since_ms > newest->since_ms))) *newest = holder;
    }
}

/* hint: the number that a record tells, or -1.  0, -ENOENT: the process has no such descriptor, or -errno. */
static int reach_share(const struct party *party, const struct stat *file, int hint, struct share *share)
{
    *share = (struct share){.descriptor = -1, .holder = {.slot = -1}};
    int descriptor = hint < 0 ? -ENOENT : duplicate(party->process, hint, file);
    if (descriptor >= 0) keep_better(share, descriptor, hint);
    for (int pass = 0; pass < PASSES && worth(share) < 1; pass++) {
        int result = search_share(party, file, share);
        if (result < 0 && share->descriptor < 0) return result;
    }
    if (share->descriptor < 0) return -ENOENT;
    read_newest(share->descriptor, &share->holder);
    return 0;
}

static void leave_party(struct party *party)
{
    for (size_t i = 0; i < TRANSFER_LOCKS; i++)
        if (party->shares[i].descriptor >= 0) close(party->shares[i].descriptor);
    if (is_there(party)) close(party->process);
    *party = nobody;
}

static bool has_ended(const struct party *party)
{
    struct pollfd poll_request = {.fd = party->process, .events = POLLIN};
    return poll(&poll_request, 1, 0) > 0;
}

/* Duplicates of the process's private descriptors.  0; -ENOENT: it does not have the image open under imglock; or
 * -errno, and then the party is nobody but for its name. */
static int reach_party(const struct transfer *transfer, pid_t pid, int hint, struct party *party)
{
    struct process_facts process = {.pid = pid};
    *party = nobody;
    party->pid = pid;
    snprintf(party->name, sizeof party->name, "process %d", pid);
    int descriptor = (int)sys_call(SYS_pidfd_open, pid, 0, 0, 0, 0, 0);
    /* Newer kernels say ENOENT of a thread. */
    if (descriptor < 0) return descriptor == -ENOENT ? -EINVAL : descriptor;
    party->process = descriptor;
    if (process_look_up(pid, &process)) snprintf(party->name, sizeof party->name, "%s (pid %d)", process.command, pid);
    int result = reach_share(party, &transfer->locks[0].status, hint, &party->shares[0]);
    for (size_t i = 1; i < transfer->count && result == 0; i++)
        if (reach_share(party, &transfer->locks[i].status, -1, &party->shares[i]) == -EPERM) result = -EPERM;
    /* Whatever was read by its number was read of this process, if it is there still. */
    if (has_ended(party)) result = -ESRCH;
    if (result < 0) {
        struct party gone = *party;
        leave_party(&gone);
        party->process = -1;
        for (size_t i = 0; i < TRANSFER_LOCKS; i++) party->shares[i].descriptor = -1;
    }
    return result;
}

/* ---- why a process cannot be reached ------------------------------------------------------------------------ */

static int read_trace_scope(void)
{
    int scope = 0;
    FILE *stream = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    if (!stream) return 0;
    if (fscanf(stream, "%d", &scope) != 1) scope = 0;
    fclose(stream);
    return scope;
}

/* pidfd_getfd(2) asks what ptrace(2) asks for. */
static void explain_permission(const struct party *party, char *why, size_t size)
{
    struct process_facts process;
    int scope = read_trace_scope();
    if (geteuid() == 0)
        snprintf(why, size, "%s does not let its descriptors be reached: this needs CAP_SYS_PTRACE", party->name);
    else if (process_look_up(party->pid, &process) && process.uid != geteuid())
        snprintf(why, size, "%s runs as another user: this needs root or the same user", party->name);
    else if (scope > 0)
        snprintf(
            why, size,
            "the kernel does not let the descriptors of %s be reached (kernel.yama.ptrace_scope is %d): this needs "
            "CAP_SYS_PTRACE%s",
            party->name, scope, scope == 1 ? ", or PR_SET_PTRACER in that process" : "");
    else
        snprintf(why, size,
                 "%s does not let itself be traced (PR_SET_DUMPABLE, a setuid program, or a security module): this "
                 "needs root with CAP_SYS_PTRACE",
                 party->name);
}

/* The exit status, and the reason, for an error of reach_party. */
static int explain_error(const struct transfer *transfer, const struct party *party, int error, char *why, size_t size)
{
    switch (error) {
    case -EPERM:
    case -EACCES:
        explain_permission(party, why, size);
        return STATUS_FAILED;
    case -ESRCH:
        snprintf(why, size, "there is no process %d, or it has just ended", party->pid);
        return EXIT_FAILURE;
    case -EINVAL:
        snprintf(why, size, "%d is no process but one of its threads; give the process", party->pid);
        return EXIT_FAILURE;
    case -ENOENT:
        snprintf(why, size, "%s does not have this image open under imglock with the lock directory %s", party->name,
                 transfer->settings.directory);
        return EXIT_FAILURE;
    case -ENOSYS:
        snprintf(why, size, "pidfd_getfd(2) is not to be had: this needs Linux 5.6, and a sandbox that allows it");
        return STATUS_FAILED;
    default:
        snprintf(why, size, "cannot reach %s: %s", party->name, strerror(-error));
        return STATUS_FAILED;
    }
}

/* ---- who holds the lock ------------------------------------------------------------------------------------- */

enum holding {
    HOLDING_NOBODY,
    HOLDING_SHARED,     /* several do */
    HOLDING_BESIDE,     /* a descendant alone */
    HOLDING_FOUND,      /* and reached */
    HOLDING_UNREACHABLE /* somebody holds it, *why tells */
};

struct found {
    enum holding holding;
    struct party party;
    bool shared;   /* it is a shared lock */
    bool several;  /* hold it shared */
    int denied;    /* how many processes claim it in their records, and do not let themselves be reached */
    int apart;     /* how many records claim it whose process is not there */
    int status;    /* of HOLDING_UNREACHABLE */
    char why[400]; /* of HOLDING_UNREACHABLE, HOLDING_SHARED, HOLDING_BESIDE */
    char name[96]; /* of who holds it, by the record */
};

/* The pid in a record is one of this host, this boot, this PID namespace, and still the same process's. */
static bool is_local(const struct holder *holder, const char **why)
{
    const struct process_identity *self = process_self();
    uint64_t start;
    pid_t parent;
    if (holder->process.boot != self->boot || process_is_of_another_host(&holder->process))
        *why = "was recorded on another host or before the last boot";
    else if (holder->process.pid_space != self->pid_space)
        *why = "was recorded in another PID namespace: run this command there, or as root";
    else if (!process_read_stat(holder->process.pid, &start, &parent, NULL) || start != holder->process.start)
        *why = "has ended, and a process that inherited the lock from it holds it, out of this user's sight";
    else
        return true;
    return false;
}

/* Notes the process, if it holds the lock, or more of it than the one that is noted already. */
static void note_party(struct found *found, struct party *party)
{
    struct owned owned = owned_by(party->shares[0].descriptor);
    /* Without a slot it is a lock of another program's. */
    unsigned bytes = owned.slot_count ? owned.bytes : 0;
    if (found->holding == HOLDING_FOUND && bytes && owned.shared) found->several = true;
    bool better = found->holding != HOLDING_FOUND || (bytes & FIRST_BYTE && !(bytes_of(&found->party, 0) & FIRST_BYTE));
    if (!bytes || !better) {
        leave_party(party);
        return;
    }
    leave_party(&found->party);
    found->holding = HOLDING_FOUND;
    found->party = *party;
}

static void look_at_record(const struct transfer *transfer, const struct holder *holder, struct found *found)
{
    const char *why;
    struct party party;
    bool claims = holder->mode == (found->shared ? LOCK_SHARED : LOCK_EXCLUSIVE) && !holder->beside;
    bool first = claims && !found->status;
    if (first || (holder->beside && !found->status))
        snprintf(found->name, sizeof found->name, "%s (pid %d)", holder->process.command, holder->process.pid);
    if (!is_local(holder, &why)) {
        found->apart += claims;
        if (!first) return;
        found->status = EXIT_FAILURE;
        snprintf(found->why, sizeof found->why, "%s %s", found->name, why);
        return;
    }
    int error = reach_party(transfer, holder->process.pid, holder->descriptor, &party);
    if (error == 0) {
        note_party(found, &party);
        return;
    }
    if (error == -ESRCH || error == -ENOENT)
        found->apart += claims;
    else
        found->denied += claims;
    if (first) found->status = explain_error(transfer, &party, error, found->why, sizeof found->why);
}

static bool has_slot(const struct owned *owned, int slot)
{
    for (size_t i = 0; i < owned->slot_count; i++)
        if (owned->slots[i] == slot) return true;
    return false;
}

/* Among all processes: one that inherited the lock, lives in another PID namespace, or has no record. */
static void look_at_processes(const struct transfer *transfer, const struct owned *apart, struct found *found)
{
    struct process_scan scan = {0};
    struct file_identity identity;
    size_t count;
    if (!identify_file(transfer->locks[0].descriptor, "", &identity)) return;
    size_t file = scan_add(&scan, &identity, true);
    scan_run(&scan);
    const struct finding *findings = scan_findings(&scan, file, &count);
    for (size_t i = 0; i < count; i++) {
        struct party party;
        if (findings[i].loop < 0 && !has_slot(apart, findings[i].slot) &&
            reach_party(transfer, findings[i].pid, findings[i].descriptor, &party) == 0)
            note_party(found, &party);
    }
    scan_free(&scan);
}

/* Who holds the lock by path, apart from this one.  The records name candidates, the kernel decides. */
static void find_holder(const struct transfer *transfer, const struct party *apart, struct found *found)
{
    struct holder holder;
    int through = transfer->locks[0].descriptor;
    const struct owned own = owned_by(is_there(apart) ? apart->shares[0].descriptor : -1);
    short held = held_by_others(is_there(apart) ? apart->shares[0].descriptor : through, LOCK_BYTE, LOCK_BYTES);
    *found = (struct found){.party = nobody, .shared = held == F_RDLCK};
    for (int slot = 0; holders_next(through, slot, &holder); slot = holder.slot + 1)
        if (holder.recorded && !has_slot(&own, holder.slot)) look_at_record(transfer, &holder, found);
    bool recorded = found->holding == HOLDING_FOUND;
    if (!recorded && held != F_UNLCK) look_at_processes(transfer, &own, found);
    if (found->shared) {
        /* Among the processes that one was found whose record's process is not there: it inherited the lock. */
        int others = found->denied + (recorded || found->holding != HOLDING_FOUND ? found->apart : 0);
        found->several |= others > (found->holding == HOLDING_FOUND ? 0 : 1);
    }
    if (found->several) {
        if (found->holding == HOLDING_FOUND) snprintf(found->name, sizeof found->name, "%s", found->party.name);
        leave_party(&found->party);
        found->holding = HOLDING_SHARED;
        return;
    }
    if (found->holding == HOLDING_FOUND) return;
    if (held == F_UNLCK) {
        found->holding = descendants_hold(through) ? HOLDING_BESIDE : HOLDING_NOBODY;
    } else {
        found->holding = HOLDING_UNREACHABLE;
        if (found->status) return;
        found->status = EXIT_FAILURE;
        strcpy(found->name, "a program that left no record of itself");
        snprintf(found->why, sizeof found->why, "%s holds the lock", found->name);
    }
}

/* ---- messages ----------------------------------------------------------------------------------------------- */

/* Who owns the lock now.  Everything of others must have been given back before: a duplicate keeps a lock alive. */
static void describe_owner(const struct transfer *transfer, char *text, size_t size)
{
    struct found found;
    find_holder(transfer, &nobody, &found);
    switch (found.holding) {
    case HOLDING_NOBODY:
        snprintf(text, size, "nobody holds the lock");
        break;
    case HOLDING_SHARED:
    case HOLDING_BESIDE:
        snprintf(text, size, "%s holds %s", *found.name ? found.name : "a program that left no record of itself",
                 found.holding == HOLDING_SHARED ? "the lock shared"
                                                 : "a lock beside the one of its ancestor, who is gone");
        break;
    case HOLDING_FOUND:
        snprintf(text, size, "%s holds the lock%s", found.party.name,
                 holds_shared(&found.party)                ? " shared"
                 : bytes_of(&found.party, 0) == BOTH_BYTES ? ""
                                                           : ", one byte of it; the same command again completes it");
        break;
    case HOLDING_UNREACHABLE:
        snprintf(text, size, "%s holds the lock%s", found.name, found.shared ? " shared" : "");
        break;
    }
    leave_party(&found.party);
}

int transfer_refuse(struct transfer *transfer, int status, const char *format, ...)
{
    char *why = NULL;
    char owner[300];
    va_list list;
    va_start(list, format);
    int length = vasprintf(&why, format, list);
    va_end(list);
    leave_party(&transfer->source);
    leave_party(&transfer->target);
    describe_owner(transfer, owner, sizeof owner);
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
    transfer->locks[transfer->count].name = *name;
    transfer->locks[transfer->count].descriptor = descriptor;
    fstat(descriptor, &transfer->locks[transfer->count].status);
    transfer->count++;
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
    if (!identify_file(transfer->locks[0].descriptor, "", &identity)) return;
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
    *transfer = (struct transfer){.action = action, .source = nobody, .target = nobody};
    if (!settings_read(&transfer->settings)) return STATUS_FAILED;
    int error = name_real_path(image, transfer->path, &exists, &status);
    if (error) return complain("%s: %s: cannot tell its lock's path: %s", word_shown(image), action, strerror(error));
    message_start();
    lock_name_of_image(transfer->path, exists ? &status : NULL, &name);
    int failed = open_lock(transfer, &name);
    if (failed) return failed;
    if (!transfer->count && access(transfer->settings.directory, F_OK) < 0 && errno == ENOENT)
        return complain("%s: %s: the lock directory %s does not exist", transfer->path, action,
                        transfer->settings.directory);
    if (!transfer->count && !exists) return complain("%s: %s: the image does not exist", transfer->path, action);
    if (!transfer->count) {
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
    int result = bytes_lock(transfer->locks[0].descriptor, F_WRLCK, TRANSFER_BYTE, 1);
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
    leave_party(&transfer->source);
    leave_party(&transfer->target);
    for (size_t i = 0; i < transfer->count; i++) close(transfer->locks[i].descriptor);
    transfer->count = 0;
}

int transfer_reach_target(struct transfer *transfer, pid_t pid)
{
    struct party *target = &transfer->target;
    char why[400];
    int error = reach_party(transfer, pid, -1, target);
    if (error < 0) {
        int status = explain_error(transfer, target, error, why, sizeof why);
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
    struct found found = {.party = nobody};
    if (pid) {
        int error = reach_party(transfer, pid, -1, &found.party);
        struct owned owned = owned_by(found.party.shares[0].descriptor);
        if (error < 0) {
            found.status = explain_error(transfer, &found.party, error, found.why, sizeof found.why);
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
    find_holder(transfer, &transfer->target, &found);
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
    if (bytes_of(&transfer->target, lock) & wanted) return true;
    for (int try = 1;; try++) {
        size_t before = transfer->done_count;
        if (bytes_of(&transfer->source, lock) & wanted &&
            !do_step(transfer, &transfer->source.shares[lock], F_UNLCK, byte, 1))
            return false;
        if (do_step(transfer, &transfer->target.shares[lock], F_WRLCK, byte, 1)) return true;
        int error = errno;
        /* A source that opens the image anew locks once more what it has, and takes the byte back. */
        if (try == TRIES || error != EAGAIN || !(bytes_of(&transfer->source, lock) & wanted)) {
            errno = error;
            return false;
        }
        transfer->done_count = before;
    }
}

/* The byte that goes last: byte 0, unless the source has byte 1 alone. */
static int last_byte(const struct transfer *transfer, size_t lock)
{
    return bytes_of(&transfer->source, lock) == SECOND_BYTE ? 1 : 0;
}

/* What nobody has is taken in one go, as every opener does. */
static bool take_free(struct transfer *transfer, size_t lock)
{
    if (bytes_of(&transfer->source, lock) || bytes_of(&transfer->target, lock)) return true;
    return do_step(transfer, &transfer->target.shares[lock], F_WRLCK, LOCK_BYTE, LOCK_BYTES);
}

/* -1: all is done, else the lock at which it failed, with errno. */
static int pass_all(struct transfer *transfer)
{
    int last[TRANSFER_LOCKS] = {0};
    for (size_t i = 0; i < transfer->count; i++) {
        if (transfer->target.shares[i].descriptor < 0) continue;
        if (!take_free(transfer, i)) return (int)i;
    }
    for (size_t i = 0; i < transfer->count; i++) {
        if (transfer->target.shares[i].descriptor < 0) continue;
        last[i] = last_byte(transfer, i);
        if (!pass_byte(transfer, i, 1 - last[i])) return (int)i;
    }
    for (size_t i = 0; i < transfer->count; i++) {
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

bool transfer_is_complete(const struct transfer *transfer)
{
    const struct party *target = &transfer->target;
    for (size_t i = 0; i < transfer->count; i++) {
        const struct share *share = &target->shares[i];
        if (share->descriptor < 0) continue;
        struct owned owned = owned_by(share->descriptor);
        if (owned.bytes != BOTH_BYTES || owned.writing) return false;
        if (share->holder.recorded && share->holder.mode != LOCK_EXCLUSIVE) return false;
    }
    return true;
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

/* Is the process still there, with the image open?  What its duplicates here hold alone ends with this program. */
static bool keeps_all(const struct transfer *transfer, const struct party *party)
{
    for (size_t i = 0; i < transfer->count; i++) {
        const struct share *share = &party->shares[i];
        struct share now;
        if (share->descriptor < 0) continue;
        if (reach_share(party, &transfer->locks[i].status, share->number, &now) < 0) return false;
        struct owned owned = owned_by(now.descriptor);
        const bool same = now.holder.slot == share->holder.slot;
        close(now.descriptor);
        if (owned.bytes != BOTH_BYTES || !same) return false;
    }
    return !has_ended(party);
}

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
    if (!is_there(source) || slot < 0 || !identify_file(transfer->locks[0].descriptor, "", &identity)) return false;
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
        for (size_t i = 0; i < transfer->count; i++)
            if (transfer->target.shares[i].descriptor >= 0)
                held |= descendants_hold(transfer->target.shares[i].descriptor);
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
    leave_party(&transfer->source);
    leave_party(&transfer->target);
    message_conflict(&transfer->settings, transfer->path, action, transfer->locks[lock].descriptor, LOCK_EXCLUSIVE, 0,
                     NULL, NULL);
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
    if (is_there(source) && !mark_transfer(source->process, source->pid, &transfer->image, false))
        complain("%s: cannot take the source's marks off the image: %s", transfer->path, strerror(errno));
    if (is_there(target) && !mark_transfer(target->process, target->pid, &transfer->image, true))
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
    if (is_there(&transfer->source) || bytes_of(&transfer->target, 0) || !S_ISREG(transfer->image.st_mode)) return 0;
    const enum lock_result result =
        held_image_take(&image, &(struct lock){.descriptor = transfer->locks[0].descriptor}, &problem);
    if (image.descriptor >= 0) close(image.descriptor);
    if (result == LOCK_TAKEN || (result == LOCK_FAILED && settings->allow_on_error)) return 0;
    if (result == LOCK_FAILED)
        return transfer_refuse(transfer, STATUS_FAILED, "%s: %s", problem.what, strerror(problem.error));
    snprintf(action, sizeof action, "%s to %s", transfer->action, transfer->target.name);
    if (image.marked)
        message_conflict(settings, transfer->path, action, -1, LOCK_EXCLUSIVE, 0, &image.marker, NULL);
    else
        message_outsider(settings, transfer->path, action, &image.outsider);
    transfer_end(transfer);
    return EXIT_FAILURE;
}

/* What forbids it before anything is done.  0, or the exit status. */
static int look_ahead(struct transfer *transfer)
{
    const struct party *source = &transfer->source, *target = &transfer->target;
    for (size_t i = 0; i < transfer->count; i++) {
        if (target->shares[i].descriptor < 0 && is_there(source) && bytes_of(source, i))
            return transfer_refuse(
                transfer, EXIT_FAILURE,
                "the lock is held by the image's inode as well, and the destination has none of that "
                "kind: it has to be started with IMGLOCK_KEY=inode");
        if (is_there(source) && source->shares[i].holder.recorded && source->shares[i].holder.beside)
            return transfer_refuse(transfer, EXIT_FAILURE, "a lock beside an ancestor's is not passed on");
        if (is_there(source) && target->shares[i].descriptor >= 0 && descendants_hold(target->shares[i].descriptor))
            return transfer_refuse(transfer, EXIT_FAILURE, "%s", descendant_is_there);
    }
    /* Also the children that have not run their program yet, which is over in a moment. */
    if (is_inherited(transfer) && descendants_stay(transfer))
        return transfer_refuse(transfer, EXIT_FAILURE, "%s", descendant_is_there);
    return look_at_image(transfer);
}

int transfer_move(struct transfer *transfer)
{
    sigset_t all, before;
    int status = look_ahead(transfer);
    if (status) return status;
    const bool from_source = is_there(&transfer->source);
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
    if (!keeps_all(transfer, &transfer->target))
        return go_back(transfer, EXIT_FAILURE, "the destination has ended or closed the image meanwhile", 0);
    move_marks(transfer);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return 0;
}

int transfer_give_up(struct transfer *transfer)
{
    sigset_t all, before;
    struct party *source = &transfer->source;
    for (size_t i = 0; i < transfer->count; i++)
        if (source->shares[i].descriptor >= 0 && bytes_of(source, i) != BOTH_BYTES &&
            held_by_others(source->shares[i].descriptor, LOCK_BYTE, LOCK_BYTES) != F_UNLCK)
            return transfer_refuse(transfer, EXIT_FAILURE,
                                   "a hand-over was cut short and has to be completed: imglock handoff");
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    transfer->source_was = source->shares[0].holder.mode;
    say_all(source, LOCK_INACTIVE);
    for (size_t i = 0; i < transfer->count; i++) {
        if (source->shares[i].descriptor < 0 || do_step(transfer, &source->shares[i], F_UNLCK, LOCK_BYTE, LOCK_BYTES))
            continue;
        int error = errno;
        return go_back(transfer, STATUS_FAILED, "the kernel refused a step", error);
    }
    move_marks(transfer);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return 0;
}
