/* lock_cache.c: lock files that stay open from one list to the next. */
#include "lock_cache.h"

#include <errno.h>
#include <limits.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "lock_file_look.h"
#include "lock_name.h"
#include "memory.h"

struct cached_file {
    struct lock_name name;
    int descriptor;
};

struct lock_cache {
    void *tree; /* of tsearch */
};

struct lock_cache *lock_cache_make(void)
{
    struct lock_cache *cache = memory_get(1, sizeof *cache);
    return cache;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct cached_file *)a)->name.hex, ((const struct cached_file *)b)->name.hex);
}

/* The cached descriptor, as long as it still is the file of that name; -1. */
static int find_cached(const struct question *question, const struct lock_name *name, struct cached_file ***place)
{
    struct cached_file wanted = {.name = *name};
    char path[PATH_MAX];
    struct stat open_file, named;
    *place = tfind(&wanted, &question->cache->tree, by_name);
    if (!*place) return -1;
    lock_path(question->settings->directory, name, path);
    if (fstat((**place)->descriptor, &open_file) == 0 && lstat(path, &named) == 0 && open_file.st_nlink == 1 &&
        open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino)
        return (**place)->descriptor;
    return -1;
}

static void forget_cached(struct lock_cache *cache, struct cached_file **place)
{
    struct cached_file *file = *place;
    tdelete(file, &cache->tree, by_name);
    close(file->descriptor);
    free(file);
}

int lock_cache_open(const struct question *question, const struct lock_name *name, struct lock_problem *problem)
{
    if (!question->cache) return lock_file_look(question->settings->directory, name, problem);
    struct cached_file **place;
    int descriptor = find_cached(question, name, &place);
    if (descriptor >= 0) return descriptor;
    if (place) forget_cached(question->cache, place);
    descriptor = lock_file_look(question->settings->directory, name, problem);
    if (descriptor < 0) return descriptor;
    struct cached_file *file = memory_get(1, sizeof *file);
    *file = (struct cached_file){.name = *name, .descriptor = descriptor};
    if (!tsearch(file, &question->cache->tree, by_name)) exit(complain("%s", strerror(ENOMEM)));
    return descriptor;
}

void lock_cache_close(const struct question *question, int descriptor)
{
    if (!question->cache) close(descriptor);
}
