#include "stillness.h"

#include <errno.h>
#include <sys/inotify.h>

#include "sys.h"
#include "text.h"

int stillness_begin(int descriptor)
{
    char link[40];
    struct text text = text_in(link, sizeof link);
    const int watch = (int)sys_call(SYS_inotify_init1, IN_CLOEXEC | IN_NONBLOCK, 0, 0, 0, 0, 0);
    if (watch < 0) return -1;
    /* Of the thread: it may have descriptors of its own. */
    text_append(&text, "/proc/thread-self/fd/");
    text_append_number(&text, descriptor);
    if (sys_call(SYS_inotify_add_watch, watch, (long)link, IN_CLOSE, 0, 0, 0) >= 0) return watch;
    sys_close(watch);
    return -1;
}

enum stillness stillness_ask(int watch)
{
    char events[16 * sizeof(struct inotify_event)] __attribute__((aligned(8)));
    enum stillness stillness = STILLNESS_STILL;
    if (watch < 0) return STILLNESS_UNKNOWN;
    for (long got; (got = sys_read(watch, events, sizeof events)) != -EAGAIN;) {
        stillness = STILLNESS_CHANGED;
        if (got <= 0) break;
    }
    return stillness;
}

void stillness_end(int watch)
{
    if (watch >= 0) sys_close(watch);
}
