/* mark_transfer.h: the marks on an image (mark.h) in the hands of a third, beside its lock (lock_pass.h): each of a
 * process's descriptors of the image is reached through a duplicate, pidfd_getfd(2).
 *
 * They go last.  What is cut short before leaves marks of a process that has no lock any more: those keep out more than
 * they should, and the same command again takes them off. */
#ifndef IMGLOCK_MARK_TRANSFER_H
#define IMGLOCK_MARK_TRANSFER_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Sets, or takes off, the marks of a process that has, or has no more, the exclusive lock.  process: its pidfd. Nothing
 * is done to a process that has locks of its own on the image, as QEMU has: they may lie on the same bytes.  False:
 * some of its descriptors could not be reached, errno says why. */
bool mark_transfer(int process, pid_t pid, const struct stat *image, bool set);

#endif
