/* temp.c: the mkstemp family.  The files are new and their names nobody's, so the lock can only be free; it is taken
 * after the file exists, since the name is made inside libc. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "judge.h"
#include "real.h"

static int admit_temporary(const char *path, int flags, int descriptor)
{
    struct opening opening = {.directory = AT_FDCWD, .path = path, .flags = O_RDWR | flags};
    if (descriptor < 0 || judge_opened(&opening, descriptor) == 0) return descriptor;
    int saved = errno;
    REAL(unlink)(path);
    REAL(close)(descriptor);
    errno = saved;
    return -1;
}

#define WRAP_MKSTEMP(name)                                 \
    EXPORT int name(char *path)                            \
    {                                                      \
        return admit_temporary(path, 0, REAL(name)(path)); \
    }
#define WRAP_MKOSTEMP(name)                                           \
    EXPORT int name(char *path, int flags)                            \
    {                                                                 \
        return admit_temporary(path, flags, REAL(name)(path, flags)); \
    }
#define WRAP_MKSTEMPS(name)                                        \
    EXPORT int name(char *path, int suffix)                        \
    {                                                              \
        return admit_temporary(path, 0, REAL(name)(path, suffix)); \
    }
#define WRAP_MKOSTEMPS(name)                                                  \
    EXPORT int name(char *path, int suffix, int flags)                        \
    {                                                                         \
        return admit_temporary(path, flags, REAL(name)(path, suffix, flags)); \
    }

WRAP_MKSTEMP(mkstemp)
WRAP_MKSTEMP(mkstemp64)
WRAP_MKOSTEMP(mkostemp)
WRAP_MKOSTEMP(mkostemp64)
WRAP_MKSTEMPS(mkstemps)
WRAP_MKSTEMPS(mkstemps64)
WRAP_MKOSTEMPS(mkostemps)
WRAP_MKOSTEMPS(mkostemps64)
