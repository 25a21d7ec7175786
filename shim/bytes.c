#include "bytes.h"

#include <errno.h>
#include <fcntl.h>

#include "sys.h"

/* EACCES is what POSIX allows for EAGAIN. */
static int control(int descriptor, int command, struct flock *range)
{
    int result;
    do {
        result = sys_fcntl(descriptor, command, (long)range);
    } while (result == -EINTR);
    return result == -EACCES ? -EAGAIN : result;
}

static struct flock range_of(short type, off_t start, off_t length)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

int bytes_lock(int descriptor, short type, off_t start, off_t length)
{
    struct flock range = range_of(type, start, length);
    return control(descriptor, F_OFD_SETLK, &range);
}

int bytes_unlock(int descriptor, off_t start, off_t length)
{
    return bytes_lock(descriptor, F_UNLCK, start, length);
}

/* With F_UNLCK the kernel answers for this description's own locks, else for those of others. */
static int ask(int descriptor, short type, off_t start, off_t length, struct bytes_found *found)
{
    struct flock range = range_of(type, start, length);
    int result = control(descriptor, F_OFD_GETLK, &range);
    if (result < 0) return result;
    if (range.l_type == F_UNLCK) return 0;
    if (found) *found = (struct bytes_found){range.l_type, range.l_start, range.l_len, range.l_pid};
    return 1;
}

int bytes_held(int descriptor, short type, off_t start, off_t length, struct bytes_found *found)
{
    return ask(descriptor, type, start, length, found);
}

int bytes_own(int descriptor, off_t start, off_t length, struct bytes_found *found)
{
    return ask(descriptor, F_UNLCK, start, length, found);
}

short bytes_type(enum lock_mode mode)
{
    return mode == LOCK_EXCLUSIVE ? F_WRLCK : F_RDLCK;
}
