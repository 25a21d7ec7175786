/* open_count.h: does anybody have this file open?  The kernel's own count, of all processes of this host. */
#ifndef IMGLOCK_OPEN_COUNT_H
#define IMGLOCK_OPEN_COUNT_H

enum open_count {
    OPEN_BY_NOBODY,
    OPEN_BY_SOMEBODY,
    OPEN_UNKNOWN, /* neither the owner nor root; a block device; a file system that does not count */
};

/* Asks for a lease and gives it back, fcntl(2): one for writing is granted only where nobody else has the file open,
 * mapped or behind a loop device.  Opens the file for reading. */
enum open_count open_count_ask(const char *path);

#endif
