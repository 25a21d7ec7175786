/* record_locks.h: the files on which the program may have record locks (F_SETLK, lockf).
 *
 * The kernel drops all record locks that a process has on a file as soon as the process closes any descriptor of that
 * file, fcntl(2).  So on such a file nothing is opened that we would have to close again: whether the program may have
 * it is decided through an O_PATH descriptor, which has no part in this (filp_close() in fs/open.c), and its content is
 * read through a descriptor that the program has, or in a child, whose closing is its own affair.
 *
 * Everything here is async-signal-safe and leaves errno alone. */
#ifndef IMGLOCK_RECORD_LOCKS_H
#define IMGLOCK_RECORD_LOCKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

/* How many files are known to have had such locks. */
extern _Atomic unsigned record_lock_files;

/* The program is about to lock the file of this descriptor. */
void record_locks_note(int descriptor);

/* Notes the locks that came through exec, as /proc/self/fdinfo shows them, if this descriptor's file has any lock at
 * all. Looks at the descriptors once. */
void record_locks_note_inherited(int descriptor);

/* May the program have record locks on this file?  True for every file once there are too many to remember. */
bool record_locks_on(const struct stat *status);

/* The same of what a path leads to, symbolic links at its end followed; false where it leads nowhere. */
bool record_locks_on_path(int directory, const char *path);

static inline bool record_locks_exist(void)
{
    return __builtin_expect(atomic_load_explicit(&record_lock_files, memory_order_relaxed) != 0, 0);
}

/* The descriptor by which the program locked the file, if it is open for reading; else -1. */
int record_locks_reader(const struct stat *status);

/* Does the content of the file behind this descriptor, which cannot be read from, show an image?  Looked at by a child
 * with a descriptor table of its own.  path as for image_by_content.  1, 0, or -errno: it could not be looked at. */
int record_locks_look(const char *path, int descriptor, const struct stat *status);

#endif
