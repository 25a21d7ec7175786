/* uring.h: is this thread inside a function of liburing's whose ring is about to be restricted?  Before version 2.2
 * liburing makes its system calls by syscall(2). */
#ifndef IMGLOCK_URING_H
#define IMGLOCK_URING_H

#include <stdbool.h>

bool uring_is_being_made(void);

#endif
