#include "stillness.h"

#include <errno.h>
#include <sys/inotify.h>

#include "sys.h"
#include "text.h"

struct stillness stillness_of(int descriptor)
{
    const long watches = sys_call(SYS_inotify_init1, IN_CLOEXEC | IN_NONBLOCK, 0, 0, 0, 0, 0);
    return (struct stillness){.descriptor = descriptor, .watches = watches < 0 ? -1 : (int)watches};
}

static bool has_events(const struct stillness *stillness)
{
    char events[64 * sizeof(struct inotify_event)] __attribute__((aligned(8)));
    return sys_read(stillness->watches, events, sizeof events) != -EAGAIN;
}

void stillness_begin(struct stillness *stillness)
{
    char link[40];
    struct text text = text_in(link, sizeof link);
    if (stillness->watches < 0) return;
    /* A watch tells once.  So there are a few events at most, however often others close the file. */
    has_events(stillness);
    /* Of the thread: it may have descriptors of its own. */
    text_append(&text, "/proc/thread-self/fd/");
    text_append_number(&text, stillness->descriptor);
    stillness->begun =
        sys_call(SYS_inotify_add_watch, stillness->watches, (long)link, IN_CLOSE | IN_ONESHOT, 0, 0, 0) >= 0;
}

enum stillness_answer stillness_ask(const struct stillness *stillness)
{
    if (stillness->watches < 0 || !stillness->begun) return STILLNESS_UNKNOWN;
    return has_events(stillness) ? STILLNESS_CHANGED : STILLNESS_STILL;
}

void stillness_end(const struct stillness *stillness)
{
    if (stillness->watches >= 0) sys_close(stillness->watches);
}
