/* descriptor.h: imglock's own descriptors, kept where programs do not look.
 *
 * Programs count on the kernel's promise that a new descriptor gets the lowest free number.  A lock's
 * descriptor therefore lives at a high number, below the soft limit. */
#ifndef IMGLOCK_DESCRIPTOR_H
#define IMGLOCK_DESCRIPTOR_H

#include <stdbool.h>

/* Moves a descriptor to a high number, close-on-exec unless it is to pass through exec, and returns the new number; the
 * old one is closed.  Where no high number is free the descriptor stays where it is: that is a program at its limit. */
int descriptor_move_high(int descriptor, bool through_exec);

/* Has the kernel make its table as large as it will have to be.  In a process with several threads its growth waits for
 * an RCU grace period, 5 to 18 ms, which the first image would cost; with one thread it takes 10 us. */
void descriptor_start(void);

/* A second, close-on-exec descriptor for the same open file description at a number of at least lowest, or
 * -errno. */
int descriptor_copy_above(int descriptor, int lowest);

/* Private descriptors are not below it, unless the limit is lowered or the numbers above are used up. */
int descriptor_lowest(void);

#endif
