/* directories.c: makes the directories above a file. */
#include "directories.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "memory.h"

bool directories_make(const char *path)
{
    char *part = string_keep(path);
    bool made = true;
    for (char *slash = part; made && (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        made = mkdir(part, 0755) == 0 || errno == EEXIST || errno == EROFS;
        *slash = '/';
    }
    free(part);
    return made;
}
