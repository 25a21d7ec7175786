/* memo.h: remembering what was seen last, in one word.
 *
 * A cache of this library is a hash in one atomic word: two threads or a signal handler never read half of one thing
 * and half of another, and a fork child has what its parent had.  Nothing else is remembered, so being wrong by a
 * collision, one in 2^64, may cost a line or a look, never a lock.  No system call; async-signal-safe. */
#ifndef IMGLOCK_MEMO_H
#define IMGLOCK_MEMO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define MEMO_START UINT64_C(14695981039346656037)

/* FNV-1a, a byte a time, and a word a time where speed is asked for. */
static inline uint64_t memo_text(uint64_t hash, const char *text)
{
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
    return hash;
}

static inline uint64_t memo_number(uint64_t hash, uint64_t number)
{
    hash = (hash ^ number) * UINT64_C(1099511628211);
    return hash ^ hash >> 32;
}

static inline uint64_t memo_file(const struct stat *status)
{
    return memo_number(memo_number(MEMO_START, (uint64_t)status->st_dev), (uint64_t)status->st_ino);
}

/* Is it what was noted last? */
static inline bool memo_is(const _Atomic uint64_t *memo, uint64_t hash)
{
    return atomic_load_explicit(memo, memory_order_relaxed) == hash;
}

static inline void memo_note(_Atomic uint64_t *memo, uint64_t hash)
{
    atomic_store_explicit(memo, hash, memory_order_relaxed);
}

#endif
