/* section.h: the critical section, in which the descriptor table and the tracked images are changed.
 *
 * One thread at a time, with all signals blocked: nothing inside can be interrupted by a handler that comes here too,
 * nor be cancelled.  No call of the program is made inside but one (track_private.h).  A thread may enter again what it
 * is in already: a handler of fork(3) that runs between ours does.
 *
 * Whose table is it?  After fork the child has one of its own, which begins as its parent's.  A vfork child has the
 * parent's memory and descriptors of its own: the table is the parent's and says nothing of them.  A task that shares
 * both (CLONE_VM|CLONE_FILES) is as good as a thread.  Entering tells which of these we are; what follows from it is
 * the caller's business.
 *
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_SECTION_H
#define IMGLOCK_SECTION_H

#include <stdbool.h>
#include <sys/types.h>

#include "sys.h"

enum section_entry {
    SECTION_FOREIGN,     /* a vfork child: the table is another process's; the section is entered all the same */
    SECTION_OURS,        /* the table is this process's */
    SECTION_NEW_PROCESS, /* from now on it is: a fork child enters for the first time, and has to adopt what is there */
};

/* thread: the calling one's number.  *before: for section_leave. */
enum section_entry section_enter(pid_t thread, sys_signals *before);
void section_leave(const sys_signals *before);

/* The process whose table it is; 0: this is a fork child that has not entered yet.  The number tells nothing before the
 * section exists. */
pid_t section_process(void);

/* The thread that is inside, which is the caller. */
pid_t section_thread(void);

/* Is the table this thread's process's?  Without entering. */
bool section_is_ours(pid_t thread);

/* Has anybody entered yet?  Most processes never open an image. */
bool section_exists(void);

/* Makes the page that tells a fork child from its parent.  Before a call that makes a child and runs no handlers. */
void section_prepare(void);

/* From now on there may be tasks that share our memory and our descriptors, and are no threads. */
void section_expect_sharers(void);

/* From the constructor. */
void section_start(void);

/* Around fork(3) the section is held, so that the child's copy of the table is whole.  Before: as section_enter, and
 * SECTION_OURS where there is nothing to hold.  In the child: true when the section is entered, as SECTION_NEW_PROCESS,
 * and has to be left with *before. */
enum section_entry section_before_fork(void);
void section_after_fork_in_parent(void);
bool section_after_fork_in_child(sys_signals *before);

/* In the library that the tests build, what must be called in the section says so. */
#ifdef IMGLOCK_FAULTS
void section_assert(const char *function);
#define SECTION_ASSERT() section_assert(__func__)
#else
#define SECTION_ASSERT() ((void)0)
#endif

#endif
