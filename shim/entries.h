/* entries.h: what becomes of an entry of the descriptor table (table.h) that keeps an image alive: it is dropped, with
 * the hold that goes with it, or kept.
 *
 * Everything here is for the section.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_ENTRIES_H
#define IMGLOCK_ENTRIES_H

#include <stdbool.h>
#include <stdint.h>

#include "images.h"
#include "section.h"
#include "table.h"

/* Is the descriptor still open on that image? */
static inline bool entries_is_open(int descriptor, uint32_t number)
{
    const struct tracked_image *image = images_at(number);
    return images_is_open_on(descriptor, image->device, image->inode);
}

/* Takes the entry out, and the hold with it. */
void entries_drop(int descriptor, uint64_t entry);

/* Takes TABLE_CLOSING back.  What the call, or another, has made of FD_CLOEXEC meanwhile was not counted. */
void entries_keep(int descriptor, uint64_t entry);

/* The one or the other: is the descriptor still open on its image? */
void entries_keep_or_drop(int descriptor, uint64_t entry);

/* In a fork child: the thread that was closing these is not here.  A handler's, which was copied in the midst of its
 * own close, goes on and knows its entry by the number. */
void entries_end_closing(void);

/* The number is another file's now. */
void entries_forget(int descriptor, uint64_t entry);

/* A call of the program has just got this number: what the table says of it is out of date. */
static inline void entries_forget_stale(int descriptor)
{
    SECTION_ASSERT();
    const uint64_t entry = table_entry(descriptor);
    if (__builtin_expect(entry != 0, 0)) entries_forget(descriptor, entry);
}

#endif
