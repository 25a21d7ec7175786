#include "stillness.h"

#include <errno.h>
#include <sys/inotify.h>

#include "realpath.h"
#include "sys.h"

int stillness_begin(int descriptor)
{
    char link[32];
    const int watch = (int)sys_call(SYS_inotify_init1, IN_CLOEXEC | IN_NONBLOCK, 0, 0, 0, 0, 0);
    if (watch < 0) return -1;
    realpath_descriptor_link(descriptor, link);
    if (sys_call(SYS_inotify_add_watch, watch, (long)link, IN_CLOSE, 0, 0, 0) >= 0) return watch;
    sys_close(watch);
    return -1;
}

bool stillness_end(int watch)
{
    char events[sizeof(struct inotify_event)] __attribute__((aligned(8)));
    if (watch < 0) return false;
    const long got = sys_read(watch, events, sizeof events);
    sys_close(watch);
    return got == -EAGAIN;
}
