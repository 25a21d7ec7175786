#include "track_close.h"

#include <stdatomic.h>

#include "asking.h"
#include "entries.h"
#include "section.h"
#include "sys.h"
#include "table.h"
#include "track_process.h"

/* The entry that the call began with, whether or not it is still marked, or 0. */
static uint64_t entry_of(const struct track_closing *closing)
{
    SECTION_ASSERT();
    const uint64_t flags = TABLE_CLOSING | TABLE_CLOSE_ON_EXEC;
    uint64_t entry = table_entry(closing->descriptor);
    return (entry | flags) == (closing->entry | flags) ? entry : 0;
}

void track_begin_close(struct track_closing *closing, int descriptor)
{
    *closing = (struct track_closing){.descriptor = descriptor};
    if (!table_is_hold(table_entry(descriptor))) return;
    closing->thread = sys_gettid();
    track_adopt_if_new();
    /* In a vfork child the descriptor goes and the parent's entry stays. */
    if (!section_is_ours(closing->thread)) return;
    _Atomic uint64_t *slot = table_slot((unsigned)descriptor);
    uint64_t entry = atomic_load_explicit(slot, memory_order_relaxed);
    do {
        if (!table_is_hold(entry)) {
            closing->entry = 0;
            return;
        }
        /* Before it stands in the table, so that it is found whoever jumps away when.  Where another call is closing
         * the descriptor already, the first that comes back drops the hold: for both it is gone then. */
        closing->mode = table_mode(entry);
        closing->entry = entry | TABLE_CLOSING;
        atomic_signal_fence(memory_order_seq_cst);
    } while (!atomic_compare_exchange_weak(slot, &entry, closing->entry));
    asking_let_replace();
}

static inline void finish_close(struct track_closing *closing, void (*act)(int descriptor, uint64_t entry))
{
    sys_signals before;
    if (!closing->entry) return;
    if (track_enter_as(closing->thread, &before)) {
        uint64_t entry = entry_of(closing);
        if (entry) act(closing->descriptor, entry);
    }
    closing->entry = 0; /* inside, as in track_drop */
    track_leave(&before);
}

void track_end_close(struct track_closing *closing)
{
    finish_close(closing, entries_drop);
}

bool track_closed_nothing(const struct track_closing *closing)
{
    sys_signals before;
    if (!closing->entry) return false;
    bool open =
        track_enter(&before) && entry_of(closing) && entries_is_open(closing->descriptor, table_image(closing->entry));
    track_leave(&before);
    return open;
}

void track_cancel_close(struct track_closing *closing)
{
    finish_close(closing, entries_keep_or_drop);
}

void track_undo_close(struct track_closing *closing)
{
    finish_close(closing, entries_keep);
}
