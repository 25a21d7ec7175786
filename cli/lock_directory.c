/* lock_directory.c: the lock files of a directory. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lock_directory.h"
#include "memory.h"

static int by_digits(const void *a, const void *b)
{
    return strcmp(((const struct lock_name *)a)->hex, ((const struct lock_name *)b)->hex);
}

int lock_directory_list(const char *directory, struct lock_names *list)
{
    size_t room = 0;
    *list = (struct lock_names){0};
    DIR *stream = opendir(directory);
    if (!stream) return errno;
    const struct dirent *entry;
    struct lock_name name;
    while (errno = 0, (entry = readdir(stream))) {
        if (!lock_file_parse(entry->d_name, &name)) continue;
        list->names = array_grow(list->names, list->count, &room, sizeof *list->names);
        list->names[list->count++] = name;
    }
    int error = errno;
    closedir(stream);
    if (list->count) qsort(list->names, list->count, sizeof *list->names, by_digits);
    return error;
}
