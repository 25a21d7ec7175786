/* track_process.h: whose the descriptor table is: what a fork child adopts, and what is done around calls that make
 * one.
 *
 * Whoever changes the table enters the section by track_enter, which lets a fork child adopt first what it finds. */
#ifndef IMGLOCK_TRACK_PROCESS_H
#define IMGLOCK_TRACK_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "images.h"
#include "section.h"
#include "sys.h"

/* ---- entering ------------------------------------------------------------------------------------------- */

/* In the section.  This process is a fork child: what it finds is its parent's. */
void track_adopt(void);

/* Enters the section.  False: this is a vfork child, and the table is another process's. */
static inline bool track_enter_as(pid_t thread, sys_signals *before)
{
    enum section_entry entry = section_enter(thread, before);
    if (__builtin_expect(entry == SECTION_NEW_PROCESS, 0)) track_adopt();
    return entry != SECTION_FOREIGN;
}

static inline bool track_enter(sys_signals *before)
{
    return track_enter_as(sys_gettid(), before);
}

static inline void track_leave(const sys_signals *before)
{
    images_drop_displaced();
    section_leave(before);
}

/* A fork child that comes here for the first time. */
void track_adopt_if_new(void);

/* ---- children ------------------------------------------------------------------------------------------- */

/* What a call makes that is no thread. */
enum track_child {
    TRACK_PROGRAM, /* another program: posix_spawn, system, popen */
    TRACK_COPY,    /* what runs on in our code, and comes from no fork(3), which has its handlers: _Fork, clone */
    TRACK_SHARER,  /* the same, which shares our memory and our descriptors, or may do so */
};

/* Around such a call: the child may get every lock that is there or comes meanwhile.  track_end_child in the parent
 * alone. Safe in signal handlers and vfork children. */
void track_begin_child(enum track_child child);
void track_end_child(void);

/* Before vfork, and in its child before exec: the child keeps what it has got. */
void track_note_child(void);

/* Registers what has to happen around fork.  Once, from the constructor. */
void track_start(void);

#endif
