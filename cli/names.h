/* names.h: a process by the names that people know it by. */
#ifndef IMGLOCK_NAMES_H
#define IMGLOCK_NAMES_H

#include <sys/types.h>

#include "usage.h"

/* Fills in the usage's guest, unit and machine; empty where there is none. */
void names_of_process(pid_t pid, struct usage *usage);

#endif
