/* mappings.h: has a process a file mapped?  /proc/PID/maps.
 *
 * A mapping keeps the open file description that it was made of, with its locks, when the descriptor is closed; nothing
 * in /proc shows these locks then, nor what the description was open for.
 *
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_MAPPINGS_H
#define IMGLOCK_MAPPINGS_H

#include <stddef.h>
#include <sys/types.h>

struct mapped_file {
    dev_t device;
    ino_t inode;
    const char *path; /* its real path: mappings show a number of the device that may be another; NULL: not known */
};

/* How many mappings of the file the process has whose directory in /proc this is, counted up to a number of them;
 * -errno: that cannot be read.  line[size] is room for a line, PROC_LINE_SIZE bytes. */
int mappings_of(int process, const struct mapped_file *file, int most, char *line, size_t size);

#endif
