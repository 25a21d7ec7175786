/* children.h: which open file descriptions may a child of this process have as well?
 *
 * A child gets a copy of every descriptor there is at the moment of its making, and nobody tells which moment that is,
 * nor when the child has closed what it got.  So children are counted: those that were made, and those that are being
 * made, from before the kernel makes them until after it.  A description that was opened while none was being made, and
 * since when none was made, is this process's alone.  All others may be a child's, too: they are never changed any
 * more.
 *
 * The counts are for any thread, signal handler and vfork child; what is remembered of descriptions is for the section.
 * errno is left alone. */
#ifndef IMGLOCK_CHILDREN_H
#define IMGLOCK_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>

#include "lock.h"

/* The counts at a moment, to be taken before a description is opened. */
typedef uint64_t children_moment;
children_moment children_now(void);

/* May a child have what was opened after that moment? */
bool children_may_have(children_moment before);

/* Around a call that makes a child.  A begin that is never followed by its end, since a handler has jumped out in
 * between, makes children_may_have say yes from then on. */
void children_begin(void);
void children_end(void);

/* A child was made, or was made by vfork and is about to become another program. */
void children_note(void);

/* In a fork child: those that its parent made, and what it remembered, are the parent's.  The moments of before mean
 * nothing then; what was opened before is inherited. */
void children_forget(void);

/* This process is about to close, or to move, a descriptor of that lock file whose description a child may keep.  Sets
 * a token on it, by which it is known again; without one it is forgotten. */
void children_keep(const struct lock_name *name, int number);

/* Those of that lock file, the latest first. */
void children_given(const struct lock_name *name, struct relatives_known *known);

#endif
