/* block_device.h: what the kernel says of a block device: /sys/dev/block, /proc/self/mountinfo, and an open for
 * oneself.
 *
 * A device is its number, by whatever node it was opened.  Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_BLOCK_DEVICE_H
#define IMGLOCK_BLOCK_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Is it a drive without a medium, a loop device without its file?  False also where /sys does not say. */
bool block_device_is_empty(dev_t device);

/* Calls act with each device that lies on the same storage: the whole disk of a partition, the partitions of a whole
 * disk; until it says false.  Partitions of one disk do not overlap, and are not told each other. */
void block_device_each_related(dev_t device, bool (*act)(dev_t related, void *context), void *context);

/* Has somebody the device for himself (O_EXCL), or its whole disk, or a partition of it: a mount, swap, md, device
 * mapper, a program?  Asked by an open of what the descriptor is open on, for the microseconds that it takes nobody
 * else gets it so; its close drops the record locks (fcntl) that the process has on that node.  Without the right to
 * read it, no.  A descriptor that was itself opened with O_EXCL counts as somebody. */
bool block_device_is_claimed(int descriptor);

/* Where the device, its whole disk or a partition of it is mounted, as far as this mount namespace shows: the mount
 * point, escaped as in /proc/self/mountinfo, cut to size.  False: nowhere. */
bool block_device_mount_point(dev_t device, char *point, size_t size);

/* Has this process the device, its whole disk or a partition of it open by another descriptor? */
bool block_device_is_open_here(dev_t device, int descriptor);

#endif
