#include "track_process.h"

#include "entries.h"
#include "fork.h"
#include "process.h"
#include "record.h"
#include "watcher.h"

/* ---- a fork child --------------------------------------------------------------------------------------- */

void track_adopt(void)
{
    images_inherit_all();
    children_forget();
    process_forget_self();
    record_forget();
    entries_end_closing();
    watcher_abandon();
}

void track_adopt_if_new(void)
{
    sys_signals before;
    if (section_process() != 0) return;
    track_enter(&before);
    track_leave(&before);
}

/* ---- around what makes a child -------------------------------------------------------------------------- */

static void before_fork(void)
{
    if (section_before_fork() == SECTION_NEW_PROCESS) track_adopt();
}

static void after_fork_in_parent(void)
{
    /* No section, no lock; and to write here is to copy a page after each fork of a shell. */
    if (section_exists()) children_note();
    section_after_fork_in_parent();
}

static void after_fork_in_child(void)
{
    sys_signals before;
    process_forget_self();
    record_forget();
    if (section_after_fork_in_child(&before)) {
        track_adopt();
        track_leave(&before);
    } else {
        children_forget();
    }
}

void track_start(void)
{
    section_start();
    fork_handlers(before_fork, after_fork_in_parent, after_fork_in_child);
}

void track_begin_child(enum track_child child)
{
    if (child != TRACK_PROGRAM) section_prepare();
    if (child == TRACK_SHARER) section_expect_sharers();
    /* What its parent was making is the parent's. */
    if (section_exists()) track_adopt_if_new();
    children_begin();
}

void track_end_child(void)
{
    children_end();
}

void track_note_child(void)
{
    if (section_exists()) children_note();
}
