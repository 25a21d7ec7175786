/* fdinfo.c: the locks that an open file description holds, as /proc/PID/fdinfo/FD tells them. */
#include "fdinfo.h"

#include <stdlib.h>
#include <string.h>

bool fdinfo_parse_lock(const char *line, struct fdinfo_lock *lock)
{
    char kind[8], type[8], last[24];
    unsigned long long first;
    if (sscanf(line, "lock: %*d: %7s %*s %7s %*d %*s %llu %23s", kind, type, &first, last) != 4) return false;
    lock->by_description = strcmp(kind, "OFDLCK") == 0;
    if (!lock->by_description && strcmp(kind, "POSIX") != 0) return false;
    lock->exclusive = strcmp(type, "WRITE") == 0;
    lock->first = first;
    lock->last = strcmp(last, "EOF") == 0 ? UINT64_MAX : strtoull(last, NULL, 10);
    return true;
}

bool fdinfo_next_lock(const char **text, struct fdinfo_lock *lock)
{
    while (**text) {
        const char *line = *text;
        const char *end = strchrnul(line, '\n');
        *text = *end ? end + 1 : end;
        if (strncmp(line, "lock:", 5) == 0 && fdinfo_parse_lock(line, lock)) return true;
    }
    return false;
}

bool fdinfo_watches(const char *text, uint64_t inode)
{
    for (const char *at = text; (at = strstr(at, "inotify wd:")); at++) {
        unsigned long long watched;
        if (sscanf(at, "inotify wd:%*x ino:%llx", &watched) == 1 && watched == inode) return true;
    }
    return false;
}
