/* stdio.c: fopen, freopen, fclose, pclose.  libc's stdio opens and closes by calls of its own that cannot be seen,
 * so the outermost functions are wrapped. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "../realpath.h"
#include "ahead.h"
#include "cleanup.h"
#include "judge.h"
#include "opening.h"
#include "real.h"
#include "release.h"

extern FILE *_IO_fopen(const char *path, const char *mode);
extern int _IO_fclose(FILE *stream);

typedef FILE *fopen_function(const char *path, const char *mode);
typedef FILE *freopen_function(const char *path, const char *mode, FILE *stream);

/* The flags that a mode string stands for, as _IO_new_file_fopen reads it; -1 for one that libc refuses. */
static int flags_of_mode(const char *mode)
{
    int flags;
    switch (*mode) {
    case 'r':
        flags = O_RDONLY;
        break;
    case 'w':
        flags = O_WRONLY | O_CREAT | O_TRUNC;
        break;
    case 'a':
        flags = O_WRONLY | O_CREAT | O_APPEND;
        break;
    default:
        return -1;
    }
    for (int i = 1; i < 7 && mode[i]; i++) {
        if (mode[i] == '+') flags = (flags & ~O_ACCMODE) | O_RDWR;
        if (mode[i] == 'x') flags |= O_EXCL;
        if (mode[i] == 'e') flags |= O_CLOEXEC;
    }
    return flags;
}

static int descriptor_of(FILE *stream)
{
    int saved = errno;
    int descriptor = REAL(fileno_unlocked)(stream);
    errno = saved;
    return descriptor;
}

/* "r+" of an image on read-only storage, where "r" will do.  NULL and errno as it is, where it will not. */
static FILE *fopen_for_reading(fopen_function *real, const struct opening *opening, const char *mode)
{
    char reading[64];
    size_t length = 0;
    int why = errno;
    if (!opening_reads_instead(opening)) return NULL;
    for (; *mode; mode++) {
        if (*mode == '+') continue;
        if (length == sizeof reading - 1) return NULL;
        reading[length++] = *mode;
    }
    reading[length] = '\0';
    struct opening read = *opening;
    read.flags = (opening->flags & ~O_ACCMODE) | O_RDONLY;
    FILE *stream = real(opening->path, reading);
    if (!stream || judge_opened(&read, REAL(fileno_unlocked)(stream)) == 0) {
        if (stream) opening_tell_degraded(opening, REAL(fileno_unlocked)(stream), why);
        return stream;
    }
    why = errno;
    REAL(fclose)(stream);
    errno = why;
    return NULL;
}

/* Nothing is destroyed by this open, so the look can come after it. */
static FILE *fopen_and_judge(fopen_function *real, struct opening *opening, const char *mode)
{
    int saved = errno;
    FILE *stream = real(opening->path, mode);
    if (!stream) {
        stream = fopen_for_reading(real, opening, mode);
        if (stream) errno = saved;
        return stream;
    }
    if (judge_opened(opening, REAL(fileno_unlocked)(stream)) == 0) return stream;
    saved = errno;
    REAL(fclose)(stream);
    errno = saved;
    return NULL;
}

static FILE *fopen_ahead(fopen_function *real, struct opening *opening, const char *mode)
{
    struct ahead ahead = {0};
    struct _pthread_cleanup_buffer cleanup;
    FILE *stream = NULL;
    int saved = errno;
    _pthread_cleanup_push(&cleanup, ahead_abandon, &ahead);
    if (ahead_begin(opening, &ahead) == 0) {
        errno = saved;
        stream = real(opening->path, mode);
        if (!stream && errno == EMFILE && ahead_gives_way(&ahead)) {
            errno = saved;
            stream = real(opening->path, mode);
        }
        saved = errno;
        ahead.truncates = false; /* libc has done it, with the lock */
        if (ahead_end(opening, &ahead, stream ? REAL(fileno_unlocked)(stream) : -1) < 0) {
            saved = errno;
            REAL(fclose)(stream);
            stream = NULL;
        }
        errno = saved;
    }
    _pthread_cleanup_pop(&cleanup, 0);
    return stream;
}

static FILE *fopen_by(fopen_function *real, const char *path, const char *mode)
{
    struct opening opening = {.directory = AT_FDCWD, .path = path, .flags = flags_of_mode(mode)};
    if (opening.flags == -1) return real(path, mode);
    int saved = errno;
    enum way way = opening_way(&opening);
    errno = saved;
    if (way == WAY_JUDGE_AHEAD) return fopen_ahead(real, &opening, mode);
    if (way == WAY_JUDGE_AFTER) return fopen_and_judge(real, &opening, mode);
    FILE *stream = real(path, mode);
    if (stream) track_opened(REAL(fileno_unlocked)(stream));
    return stream;
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
    return fopen_by(REAL(fopen), path, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
    return fopen_by(REAL(fopen64), path, mode);
}

EXPORT FILE *_IO_fopen(const char *path, const char *mode)
{
    return fopen_by(REAL(_IO_fopen), path, mode);
}

static FILE *freopen_by(freopen_function *real, const char *path, const char *mode, FILE *stream)
{
    char link[32];
    int flags = flags_of_mode(mode);
    int old = descriptor_of(stream);
    struct opening opening = {.directory = AT_FDCWD, .path = path, .flags = flags};
    struct ahead ahead = {0};
    struct _pthread_cleanup_buffer cleanup;
    struct release release;
    int saved = errno;
    if (!path) {
        /* The same file in another mode; libc opens it by this name. */
        realpath_descriptor_link(old, link);
        opening.path = link;
    }
    _pthread_cleanup_push(&cleanup, ahead_abandon, &ahead);
    int refused = flags == -1 ? 0 : ahead_begin(&opening, &ahead);
    int why = errno;
    errno = saved;
    release_begin(&release, old);
    /* A refused freopen has closed the old stream, as every freopen that fails has: libc does that when the path
     * cannot be opened, and the empty path never can. */
    FILE *result = real(refused < 0 ? "" : path, mode, stream);
    saved = refused < 0 ? why : errno;
    ahead.truncates = false; /* libc has done it, with the lock */
    if (flags != -1 && refused == 0 && ahead_end(&opening, &ahead, result ? REAL(fileno_unlocked)(result) : -1) < 0) {
        saved = errno;
        REAL(fclose)(result);
        result = NULL;
    }
    release_end(&release);
    _pthread_cleanup_pop(&cleanup, 0);
    errno = saved;
    return result;
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
    return freopen_by(REAL(freopen), path, mode, stream);
}

EXPORT FILE *freopen64(const char *path, const char *mode, FILE *stream)
{
    return freopen_by(REAL(freopen64), path, mode, stream);
}

static int fclose_by(int (*real)(FILE *), FILE *stream)
{
    int descriptor = descriptor_of(stream);
    if (__builtin_expect(track_entry(descriptor) == 0 || track_is_private(descriptor), 1)) return real(stream);
    struct release release;
    release_begin(&release, descriptor);
    int result = real(stream);
    release_end(&release);
    return result;
}

EXPORT int fclose(FILE *stream)
{
    return fclose_by(REAL(fclose), stream);
}

EXPORT int _IO_fclose(FILE *stream)
{
    return fclose_by(REAL(_IO_fclose), stream);
}

EXPORT int pclose(FILE *stream)
{
    return fclose_by(REAL(pclose), stream);
}
