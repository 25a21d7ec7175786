#include "outside.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "../count.h"
#include "../lock.h"
#include "../message.h"
#include "../occupied.h"
#include "../pause.h"
#include "../policy.h"
#include "../realpath.h"
#include "../sys.h"
#include "../track.h"
#include "../track_private.h"
#include "cleanup.h"

enum {
    LOOK_NS = 2 * 1000 * 1000, /* after an event, which comes before the kernel counts */
    FIRST_PAUSE_NS = 2 * 1000 * 1000
};

/* One question under way. */
struct outside {
    const struct outside_request *request;
    int through;         /* the descriptor that is asked through */
    bool exact;          /* through is for reading, so readers are not counted */
    int lock_descriptor; /* open on the lock file, or -1; once there is somebody */
    int inotify, watch;
    sys_signals signals; /* the program's, which are blocked but while it waits: a handler may jump away */
};

static const sys_signals all_signals = SYS_ALL_SIGNALS;

static struct occupied_question question_of(const struct outside *outside)
{
    const struct outside_request *request = outside->request;
    return (struct occupied_question){.who = {.device = request->status->st_dev,
                                              .inode = request->status->st_ino,
                                              .path = request->path,
                                              .lock_descriptor = outside->lock_descriptor,
                                              .skipped = outside->through,
                                              .ancestors = request->settings->family},
                                      .through = outside->through,
                                      .exact = outside->exact,
                                      .family = request->family};
}

static bool is_busy(const struct outside *outside)
{
    const struct occupied_question question = question_of(outside);
    return occupied_now(&question);
}

/* ---- what is asked through ------------------------------------------------------------------------------ */

enum { READING = O_RDONLY | O_NONBLOCK | O_NOCTTY };

static bool may_reopen(int descriptor)
{
    long result = sys_call(SYS_faccessat2, descriptor, (long)"", R_OK | W_OK, AT_EMPTY_PATH | AT_EACCESS, 0, 0);
    return result != -EACCES && result != -EPERM && result != -EROFS;
}

/* Puts another description of the image under the descriptor's number.  0, or -errno, and it is as it was. */
static int replace(const struct outside_place *place, int flags, int access, bool held)
{
    sys_signals before;
    sys_sigmask(SIG_BLOCK, &all_signals, &before); /* a handler may jump away */
    const int opened = count_reopen(place->request->mark, flags);
    int result = opened;
    if (opened >= 0) {
        if (held) track_move_marks(place->request, opened, access);
        result = (int)sys_call(SYS_dup3, opened, place->request->mark, place->close_on_exec, 0, 0, 0);
        sys_close(opened);
    }
    sys_sigmask(SIG_SETMASK, &before, NULL);
    if (result < 0) return result;
    place->request->access = access;
    place->request->lease = (flags & O_ACCMODE) == O_RDONLY ? F_RDLCK : F_WRLCK;
    return 0;
}

void outside_step_back(struct outside_place *place, bool held)
{
    const int descriptor = place->request->mark;
    const int before = descriptor < 0 ? -1 : sys_fcntl(descriptor, F_GETFL, 0);
    /* A description for reading may announce that somebody writes. */
    const int access = place->request->access == O_RDONLY ? O_RDONLY : O_RDWR;
    if (before >= 0 && (before & O_ACCMODE) != O_RDONLY && may_reopen(descriptor) &&
        replace(place, READING, access, held) == 0)
        place->replaced = before & ~O_NOFOLLOW;
}

int outside_step_forth(struct outside_place *place, bool held)
{
    const int replaced = place->replaced;
    if (replaced < 0) return 0;
    place->replaced = -1;
    /* An open that has become one for reading is to be marked as that. */
    return replace(place, replaced, place->request->access == O_RDONLY ? O_RDONLY : replaced & O_ACCMODE, held);
}

/* Is there somebody whom it is worth to look for? */
static bool is_worth_a_look(struct outside *outside)
{
    if (!outside->exact) {
        /* Through the program's own description for writing nobody can tell readers from writers. */
        outside_step_back(outside->request->place, true);
        outside->exact = outside->request->place->replaced >= 0;
    }
    return is_busy(outside);
}

static int end(const struct outside *outside)
{
    return outside_step_forth(outside->request->place, true);
}

/* ---- waiting -------------------------------------------------------------------------------------------- */

/* The descriptor in question is the caller's to close. */
static void abandon(void *argument)
{
    const struct outside *outside = argument;
    track_park_watcher(outside->inotify, outside->watch);
}

static void watch(struct outside *outside)
{
    char link[32];
    outside->inotify = track_take_watcher();
    if (outside->inotify < 0)
        outside->inotify = (int)sys_call(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC, 0, 0, 0, 0, 0);
    if (outside->inotify < 0) return;
    realpath_descriptor_link(outside->through, link);
    outside->watch = (int)sys_call(SYS_inotify_add_watch, outside->inotify, (long)link, IN_CLOSE_WRITE, 0, 0, 0);
}

/* Sleeps until somebody has closed the file, or for a pause.  False: a signal handler ended it. */
static bool sleep_until_closed(const struct outside *outside, struct pause *pause)
{
    char events[1024] __attribute__((aligned(8)));
    bool interrupted = false;
    if (lock_wait_sleep(outside->inotify, pause_length(pause), &interrupted)) {
        while (sys_read(outside->inotify, events, sizeof events) > 0) continue;
        const int64_t until = sys_monotonic() + LOOK_NS;
        while (is_busy(outside) && sys_monotonic() < until) sys_yield();
    } else {
        pause_grow(pause);
    }
    return !interrupted;
}

/* The outsider has it: waits as long as IMGLOCK_WAIT says.  As outside_ask. */
static int wait_for_end(struct outside *outside, struct outsider *outsider)
{
    const struct outside_request *request = outside->request;
    const struct occupied_question question = question_of(outside);
    struct _pthread_cleanup_buffer cleanup;
    struct pause pause = pause_begin(FIRST_PAUSE_NS, request->deadline);
    const int64_t start = sys_monotonic();
    int said = 0;
    int result = 1;
    _pthread_cleanup_push(&cleanup, abandon, outside);
    watch(outside);
    sys_sigmask(SIG_SETMASK, &outside->signals, NULL);
    while (result == 1 && sys_monotonic() < request->deadline) {
        if (sys_monotonic() - start > message_waits_until(request->settings, said)) {
            message_waiting_outsider(request->settings, request->path, outsider);
            said++;
        }
        if (!sleep_until_closed(outside, &pause))
            result = -EINTR;
        else if (!occupied_now(&question) || !occupied_by(&question, outsider))
            result = 0;
    }
    sys_sigmask(SIG_BLOCK, &all_signals, NULL);
    _pthread_cleanup_pop(&cleanup, 0);
    track_park_watcher(outside->inotify, outside->watch);
    return result;
}

/* ---- all of it ------------------------------------------------------------------------------------------ */

/* Has this very process another descriptor that is open for writing on it, among those with low numbers?  Then it has
 * asked, or is asking: a handler may come between an open of the program's and its lock, again and again, and has no
 * time to look at /proc. */
static bool is_our_own(const struct outside_request *request)
{
    enum { TRIED = 32 };
    struct stat status;
    for (int descriptor = 0; descriptor < TRIED; descriptor++)
        if (descriptor != request->place->request->mark && sys_fstat(descriptor, &status) == 0 &&
            status.st_ino == request->status->st_ino && status.st_dev == request->status->st_dev) {
            const int flags = sys_fcntl(descriptor, F_GETFL, 0);
            if (flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_RDONLY) return true;
        }
    return false;
}

static int ask_who(struct outside *outside, struct outsider *outsider)
{
    struct track_own own;
    if (track_own_lock(outside->request->name, &own)) outside->lock_descriptor = own.descriptor;
    const struct occupied_question question = question_of(outside);
    if (!occupied_ask(&question, outsider)) return 0;
    return sys_monotonic() < outside->request->deadline ? wait_for_end(outside, outsider) : 1;
}

static int ask_closer(struct outside *outside, struct outsider *outsider)
{
    sys_sigmask(SIG_BLOCK, &all_signals, &outside->signals);
    int result = is_worth_a_look(outside) ? ask_who(outside, outsider) : 0;
    const int error = end(outside);
    sys_sigmask(SIG_SETMASK, &outside->signals, NULL);
    return error && (result == 0 || policy_warns_of_outsiders(outside->request->settings)) ? error : result;
}

int outside_ask(const struct outside_request *request, struct outsider *outsider)
{
    const struct outside_place *place = request->place;
    struct outside outside = {.request = request,
                              .through = place->request->mark,
                              .exact = place->request->lease == F_RDLCK,
                              .lock_descriptor = -1,
                              .inotify = -1,
                              .watch = -1};
    if (is_our_own(request)) return end(&outside);
    return ask_closer(&outside, outsider);
}
