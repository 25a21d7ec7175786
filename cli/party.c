/* party.c: a process in a hand-over: how it is reached, and what it has of the lock. */
#include "party.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "complain.h"
#include "holders.h"
#include "owned.h"
#include "process_scan.h"
#include "sys.h"

const struct party party_nobody = {.process = -1, .shares = {{.descriptor = -1}, {.descriptor = -1}}};

bool party_is_there(const struct party *party)
{
    return party->process >= 0;
}

unsigned party_bytes(const struct party *party, size_t lock)
{
    return owned_by(party->shares[lock].descriptor).bytes;
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

void party_leave(struct party *party)
{
    for (size_t i = 0; i < TRANSFER_LOCKS; i++)
        if (party->shares[i].descriptor >= 0) close(party->shares[i].descriptor);
    if (party_is_there(party)) close(party->process);
    *party = party_nobody;
}

static bool has_ended(const struct party *party)
{
    struct pollfd poll_request = {.fd = party->process, .events = POLLIN};
    return poll(&poll_request, 1, 0) > 0;
}

int party_reach(const struct lock_files *files, pid_t pid, int hint, struct party *party)
{
    struct process_facts process = {.pid = pid};
    *party = party_nobody;
    party->pid = pid;
    snprintf(party->name, sizeof party->name, "process %d", pid);
    int descriptor = (int)sys_call(SYS_pidfd_open, pid, 0, 0, 0, 0, 0);
    /* Newer kernels say ENOENT of a thread. */
    if (descriptor < 0) return descriptor == -ENOENT ? -EINVAL : descriptor;
    party->process = descriptor;
    if (process_look_up(pid, &process)) snprintf(party->name, sizeof party->name, "%s (pid %d)", process.command, pid);
    int result = reach_share(party, &files->open[0].status, hint, &party->shares[0]);
    for (size_t i = 1; i < files->count && result == 0; i++)
        if (reach_share(party, &files->open[i].status, -1, &party->shares[i]) == -EPERM) result = -EPERM;
    /* Whatever was read by its number was read of this process, if it is there still. */
    if (has_ended(party)) result = -ESRCH;
    if (result < 0) {
        struct party gone = *party;
        party_leave(&gone);
        party->process = -1;
        for (size_t i = 0; i < TRANSFER_LOCKS; i++) party->shares[i].descriptor = -1;
    }
    return result;
}

bool party_keeps_all(const struct lock_files *files, const struct party *party)
{
    for (size_t i = 0; i < files->count; i++) {
        const struct share *share = &party->shares[i];
        struct share now;
        if (share->descriptor < 0) continue;
        if (reach_share(party, &files->open[i].status, share->number, &now) < 0) return false;
        struct owned owned = owned_by(now.descriptor);
        const bool same = now.holder.slot == share->holder.slot;
        close(now.descriptor);
        if (owned.bytes != BOTH_BYTES || !same) return false;
    }
    return !has_ended(party);
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

int party_explain(const struct lock_files *files, const struct party *party, int error, char *why, size_t size)
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
                 files->directory);
        return EXIT_FAILURE;
    case -ENOSYS:
        snprintf(why, size, "pidfd_getfd(2) is not to be had: this needs Linux 5.6, and a sandbox that allows it");
        return STATUS_FAILED;
    default:
        snprintf(why, size, "cannot reach %s: %s", party->name, strerror(-error));
        return STATUS_FAILED;
    }
}
