/* lock_owner.c: who holds an image's lock: the records name candidates, the kernel decides. */
#include "lock_owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holders.h"
#include "owned.h"
#include "process.h"
#include "process_scan.h"

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
static void note_party(struct lock_owner *found, struct party *party)
{
    struct owned owned = owned_by(party->shares[0].descriptor);
    /* Without a slot it is a lock of another program's. */
    unsigned bytes = owned.slot_count ? owned.bytes : 0;
    if (found->holding == HOLDING_FOUND && bytes && owned.shared) found->several = true;
    bool better =
        found->holding != HOLDING_FOUND || (bytes & FIRST_BYTE && !(party_bytes(&found->party, 0) & FIRST_BYTE));
    if (!bytes || !better) {
        party_leave(party);
        return;
    }
    party_leave(&found->party);
    found->holding = HOLDING_FOUND;
    found->party = *party;
}

static void look_at_record(const struct lock_files *files, const struct holder *holder, struct lock_owner *found)
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
    int error = party_reach(files, holder->process.pid, holder->descriptor, &party);
    if (error == 0) {
        note_party(found, &party);
        return;
    }
    if (error == -ESRCH || error == -ENOENT)
        found->apart += claims;
    else
        found->denied += claims;
    if (first) found->status = party_explain(files, &party, error, found->why, sizeof found->why);
}

static bool has_slot(const struct owned *owned, int slot)
{
    for (size_t i = 0; i < owned->slot_count; i++)
        if (owned->slots[i] == slot) return true;
    return false;
}

/* Among all processes: one that inherited the lock, lives in another PID namespace, or has no record. */
static void look_at_processes(const struct lock_files *files, const struct owned *apart, struct lock_owner *found)
{
    struct process_scan scan = {0};
    struct file_identity identity;
    size_t count;
    if (!identify_file(files->open[0].descriptor, "", &identity)) return;
    size_t file = scan_add(&scan, &identity, true);
    scan_run(&scan);
    const struct finding *findings = scan_findings(&scan, file, &count);
    for (size_t i = 0; i < count; i++) {
        struct party party;
        if (findings[i].loop < 0 && !has_slot(apart, findings[i].slot) &&
            party_reach(files, findings[i].pid, findings[i].descriptor, &party) == 0)
            note_party(found, &party);
    }
    scan_free(&scan);
}

void lock_owner_find(const struct lock_files *files, const struct party *apart, struct lock_owner *found)
{
    struct holder holder;
    int through = files->open[0].descriptor;
    const struct owned own = owned_by(party_is_there(apart) ? apart->shares[0].descriptor : -1);
    short held = owned_by_others(party_is_there(apart) ? apart->shares[0].descriptor : through, LOCK_BYTE, LOCK_BYTES);
    *found = (struct lock_owner){.party = party_nobody, .shared = held == F_RDLCK};
    for (int slot = 0; holders_next(through, slot, &holder); slot = holder.slot + 1)
        if (holder.recorded && !has_slot(&own, holder.slot)) look_at_record(files, &holder, found);
    bool recorded = found->holding == HOLDING_FOUND;
    if (!recorded && held != F_UNLCK) look_at_processes(files, &own, found);
    if (found->shared) {
        /* Among the processes that one was found whose record's process is not there: it inherited the lock. */
        int others = found->denied + (recorded || found->holding != HOLDING_FOUND ? found->apart : 0);
        found->several |= others > (found->holding == HOLDING_FOUND ? 0 : 1);
    }
    if (found->several) {
        if (found->holding == HOLDING_FOUND) snprintf(found->name, sizeof found->name, "%s", found->party.name);
        party_leave(&found->party);
        found->holding = HOLDING_SHARED;
        return;
    }
    if (found->holding == HOLDING_FOUND) return;
    if (held == F_UNLCK) {
        found->holding = owned_by_descendants(through) ? HOLDING_BESIDE : HOLDING_NOBODY;
    } else {
        found->holding = HOLDING_UNREACHABLE;
        if (found->status) return;
        found->status = EXIT_FAILURE;
        strcpy(found->name, "a program that left no record of itself");
        snprintf(found->why, sizeof found->why, "%s holds the lock", found->name);
    }
}

/* ---- in words ----------------------------------------------------------------------------------------------- */

static bool holds_shared(const struct party *party)
{
    return owned_by(party->shares[0].descriptor).shared;
}

void lock_owner_describe(const struct lock_files *files, char *text, size_t size)
{
    struct lock_owner found;
    lock_owner_find(files, &party_nobody, &found);
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
                 holds_shared(&found.party) ? " shared"
                 : party_bytes(&found.party, 0) == BOTH_BYTES
                     ? ""
                     : ", one byte of it; the same command again completes it");
        break;
    case HOLDING_UNREACHABLE:
        snprintf(text, size, "%s holds the lock%s", found.name, found.shared ? " shared" : "");
        break;
    }
    party_leave(&found.party);
}
