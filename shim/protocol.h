/* protocol.h: the contract between all who lock images, as code: modes, operations, the lock file's name, its bytes.
 *
 * libimglock(7) says the same in words.  Whatever another program has to know to live beside us stands here and nowhere
 * else.  Nothing here makes a system call. */
#ifndef IMGLOCK_PROTOCOL_H
#define IMGLOCK_PROTOCOL_H

#include <stdbool.h>
#include <string.h>

/* In order of strength.  Those below LOCK_SHARED lock nothing and are but recorded: an image that was let through
 * (IMGLOCK_ON_CONFLICT=warn), that is read beside a writer, that is open at the passive end of a migration. */
enum lock_mode { LOCK_NONE, LOCK_FORCE_SHARE, LOCK_INACTIVE, LOCK_SHARED, LOCK_EXCLUSIVE };

/* What a holder may forbid others meanwhile (IMGLOCK_BLOCK), in the order of the lock file's bytes. */
enum operation {
    OPERATION_WRITE,    /* open for writing */
    OPERATION_TRUNCATE, /* O_TRUNC and what is made of it */
    OPERATION_RESIZE,   /* truncate, ftruncate, fallocate */
    OPERATION_RENAME,
    OPERATION_UNLINK,
    OPERATIONS
};

/* ---- the lock file's bytes ------------------------------------------------------------------------------ */

enum {
    LOCK_BYTE = 0, /* bytes 0 and 1: the lock */
    LOCK_BYTES = 2,
    GATE_BYTE = 2,       /* a waiting writer holds it; readers that may wait queue behind */
    TRANSFER_BYTE = 3,   /* held by the command while it passes the lock on */
    CLAIM_BYTE = 4,      /* held while a relative of the holders chooses a byte below and looks who else is there */
    OPERATION_BYTE = 16, /* the byte of OPERATION_WRITE; the others follow */
    SLOT_BYTE = 1024,    /* the byte of slot 0: whoever holds it has written the record of that slot */
    SLOTS = 4096,
    /* One byte for each who was let past the lock of a relative: F_RDLCK or F_WRLCK says its mode.  As many as Linux
     * has pids. */
    RELATIVES_BYTE = 1 << 20,
    RELATIVES = 1 << 22
};

/* A description that a process closes while a child of it has it gets a byte of its own there first, chosen by chance
 * and locked shared, which excludes nobody: by it that process knows the description again.  A slot would not do: once
 * it is free it may be anybody's. */
#define TOKEN_BYTE (INT64_C(1) << 40)
#define TOKENS (INT64_C(1) << 44)

/* ---- the image's own bytes ------------------------------------------------------------------------------ */

/* Those of QEMU 2.10 and later, block/file-posix.c: a byte of the first ten says what a description does with the
 * image, one of the second what it does not share with others.  Byte 0 is virtlockd's; byte 200 is left free, or nobody
 * could so much as look at a raw image. */
enum {
    USED_BYTE = 100, /* reads; then writes, writes what is there, resizes */
    MARK_READS = 1,
    MARK_WRITES = 4,
    UNSHARED_BYTE = 201, /* others do not write, write what is there, resize */
    MARK_UNSHARED = 3,
    /* Those of imglock hold, which no QEMU asks about: its command may be one. */
    HELD_BYTE = 150,        /* exclusively */
    HELD_SHARED_BYTE = 210, /* in the way of who may have nobody beside him */
    MARKS_END               /* behind the last of all these */
};

/* ---- the lock file's text ------------------------------------------------------------------------------- */

enum {
    RECORD_SIZE = 256,
    RECORD_OFFSET = 4096 /* the record of slot 0; before it the header, which names the image */
};

/* ---- the lock file's name ------------------------------------------------------------------------------- */

/* What a program opens by libgfapi has no path.  Its name begins with this; HOST/VOLUME/PATH follow. */
#define LOCK_GLUSTER "gluster://"

/* The SHA-1 of what is locked, in hexadecimal. */
struct lock_name {
    char hex[41]; /* 40 lower-case digits, NUL */
};

#define LOCK_FILE_PREFIX ".qemu-"
#define LOCK_FILE_SUFFIX ".lock"
enum { LOCK_FILE_LENGTH = sizeof LOCK_FILE_PREFIX LOCK_FILE_SUFFIX - 1 + sizeof(struct lock_name) - 1 };

/* Writes the name of a lock file within its directory, LOCK_FILE_LENGTH bytes and a NUL. */
static inline void lock_file_name(const struct lock_name *name, char *file)
{
    enum { PREFIX = sizeof LOCK_FILE_PREFIX - 1, DIGITS = sizeof name->hex - 1 };
    memcpy(file, LOCK_FILE_PREFIX, PREFIX);
    memcpy(file + PREFIX, name->hex, DIGITS);
    memcpy(file + PREFIX + DIGITS, LOCK_FILE_SUFFIX, sizeof LOCK_FILE_SUFFIX);
}

/* Is this the name of a lock file, without its directory?  Then *name is what it locks. */
static inline bool lock_file_parse(const char *file, struct lock_name *name)
{
    enum { PREFIX = sizeof LOCK_FILE_PREFIX - 1, DIGITS = sizeof name->hex - 1 };
    if (strlen(file) != LOCK_FILE_LENGTH || memcmp(file, LOCK_FILE_PREFIX, PREFIX) != 0 ||
        strcmp(file + PREFIX + DIGITS, LOCK_FILE_SUFFIX) != 0 ||
        strspn(file + PREFIX, "0123456789abcdef") != (size_t)DIGITS)
        return false;
    memcpy(name->hex, file + PREFIX, DIGITS);
    name->hex[DIGITS] = '\0';
    return true;
}

#endif
