// link: -shared -fPIC
/* allocator.c: a malloc to preload.  At the first call it opens files, as jemalloc does, by open and by syscall(2),
 * with a lock held that is not recursive: an open that allocated would hang. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARENA = 64 << 20, ALIGNMENT = 16 };

static _Alignas(ALIGNMENT) char arena[ARENA];
static size_t used;
static bool ready;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void get_ready(void)
{
    char line[64];
    int saved = errno;
    const char *image = getenv("IMAGE");
    int settings = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    if (settings < 0 || read(settings, line, sizeof line) <= 0 || close(settings) < 0) abort();
    settings = (int)syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC, 0);
    if (settings < 0 || syscall(SYS_close, settings) < 0) abort();
    if (image) {
        int descriptor = open(image, O_RDONLY | O_CLOEXEC);
        int copy = dup(descriptor);
        if (descriptor < 0 || copy < 0 || close(copy) < 0 || close(descriptor) < 0) abort();
    }
    ready = true;
    errno = saved;
}

static void *take(size_t size)
{
    pthread_mutex_lock(&mutex);
    if (!ready) get_ready();
    size_t need = (size + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *block = NULL;
    if (size < ARENA && used + need <= ARENA) {
        block = arena + used + ALIGNMENT;
        *(size_t *)(void *)(block - ALIGNMENT) = size;
        used += need;
    }
    pthread_mutex_unlock(&mutex);
    if (!block) errno = ENOMEM;
    return block;
}

void *malloc(size_t size)
{
    return take(size);
}

void free(void *block)
{
    (void)block;
}

void *calloc(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    return take(total); /* the arena is zero from the start, and nothing is used twice */
}

void *realloc(void *block, size_t size)
{
    void *grown = take(size);
    if (!block || !grown) return grown;
    size_t old = *(size_t *)(void *)((char *)block - ALIGNMENT);
    return memcpy(grown, block, old < size ? old : size);
}
