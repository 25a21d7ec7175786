/* lock_owner.h: who holds an image's lock, reached where that is possible.  The records name candidates, the kernel
 * decides. */
#ifndef IMGLOCK_LOCK_OWNER_H
#define IMGLOCK_LOCK_OWNER_H

#include <stdbool.h>
#include <stddef.h>

#include "party.h"

enum holding {
    HOLDING_NOBODY,
    HOLDING_SHARED,     /* several do */
    HOLDING_BESIDE,     /* a descendant alone */
    HOLDING_FOUND,      /* and reached */
    HOLDING_UNREACHABLE /* somebody holds it, *why tells */
};

struct lock_owner {
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

/* Who holds the lock by path, apart from this party, which may be nobody. */
void lock_owner_find(const struct lock_files *files, const struct party *apart, struct lock_owner *found);

/* "NAME holds the lock", for a message.  Everything of others must have been given back before: a duplicate keeps a
 * lock alive. */
void lock_owner_describe(const struct lock_files *files, char *text, size_t size);

#endif
