#include "threads.h"

#include <stddef.h>

_Atomic(const char *) threads_single = NULL;
