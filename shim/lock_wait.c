/* lock_wait.c: waiting for a lock.
 *
 * Try, then inotify on the lock file with ppoll for the rest of the time, then try again.  From a release to the return
 * of the open that waited it takes 1.5 to 1.8 times as long as F_OFD_SETLKW (bench/handover.c), which cannot be used:
 * it knows no time limit, and two holders that wait for an upgrade of the same lock hang for ever.
 *
 * A downgrade through another program, or a kernel without inotify instances left, sends no event; for that it looks
 * again after the longest of pauses (pause.h).
 *
 * What another host does is no event here.  There the first pauses are shorter; a look is one question to the server,
 * and of all who wait on this host for one image, one asks.  The others hear of what comes of it by its events. */
#include <errno.h>
#include <string.h>
#include <sys/inotify.h>

#include "bytes.h"
#include "distant.h"
#include "lock.h"
#include "realpath.h"
#include "sys.h"

enum {
    FIRST_LOOK_NS = 5 * 1000 * 1000, /* where QEMU gives its lock up without a close */
    LOOK_NS = 2 * 1000 * 1000,       /* after an event */
    DISTANT_NS = 4 * 1000 * 1000     /* where another host may give it up, the first time */
};

/* In numbers of looks, four of which take a second: who does not have the turn asks the server all the same now and
 * then, since whoever has it may be a child that knows nothing of it; and a try knows relatives, which a look does not.
 */
enum { OUT_OF_TURN = 20, TRY = 120 };

/* Watches what lies at the lock's name now.  True when that is another file than before: the old one was deleted. */
static bool watch_lock_file(struct lock_waiter *waiter)
{
    int before = waiter->watch;
    char path[LOCK_PATH_SIZE(waiter->directory)];
    lock_path(waiter->directory, waiter->name, path);
    if (waiter->inotify < 0) return false;
    waiter->watch = (int)sys_call(SYS_inotify_add_watch, waiter->inotify, (long)path,
                                  IN_CLOSE | IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF, 0, 0, 0);
    return waiter->watch != before;
}

/* The same of the image: that it is written to says nothing. */
static void watch_image(struct lock_waiter *waiter)
{
    char link[32];
    realpath_descriptor_link(waiter->image, link);
    if (waiter->inotify >= 0 && waiter->watch < 0)
        waiter->watch =
            (int)sys_call(SYS_inotify_add_watch, waiter->inotify, (long)link, IN_CLOSE | IN_ATTRIB, 0, 0, 0);
}

static bool watch(struct lock_waiter *waiter)
{
    if (waiter->image < 0) return watch_lock_file(waiter);
    watch_image(waiter);
    return false;
}

/* Takes the events off the queue.  True when there were any. */
static bool drain(int inotify)
{
    char events[1024] __attribute__((aligned(8)));
    bool any = false;
    while (inotify >= 0 && sys_read(inotify, events, sizeof events) > 0) any = true;
    return any;
}

void lock_wait_start(struct lock_waiter *waiter, const char *directory, const struct lock_name *name, int64_t deadline,
                     int inotify)
{
    *waiter = (struct lock_waiter){
        .directory = directory,
        .name = name,
        /* One try before the first sleep: a release between the try that failed and the watch has sent no event. */
        .untried = true,
        .pause = pause_begin(0, deadline),
        .watch = -1,
        .image = -1,
        .turn = -1,
        .inotify = inotify >= 0 ? inotify : (int)sys_call(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC, 0, 0, 0, 0, 0),
    };
    drain(waiter->inotify); /* what the wait before has left */
    watch_lock_file(waiter);
}

void lock_wait_for_image(struct lock_waiter *waiter, int descriptor)
{
    if (waiter->image == descriptor) return;
    lock_wait_unwatch(waiter->inotify, waiter->watch);
    waiter->watch = -1;
    waiter->image = descriptor;
    waiter->pause.next = descriptor < 0 ? 0 : FIRST_LOOK_NS;
    waiter->distant = descriptor >= 0 && distant_is(descriptor);
    waiter->untried = true;
    drain(waiter->inotify);
    watch(waiter);
}

static bool set_gate(int lock_descriptor, short type)
{
    return bytes_lock(lock_descriptor, type, GATE_BYTE, 1) == 0;
}

/* Would a blocking open(2) return EINTR now?  A handler ran; only one that was installed without SA_RESTART ends
 * a blocking call.  ppoll cannot say which it was, so the open goes on only if every handler asks for that. */
static bool handlers_interrupt(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        sys_signals mask;
    } action;
    for (int number = 1; number <= 64; number++) {
        if (sys_call(SYS_rt_sigaction, number, 0, (long)&action, sizeof action.mask, 0, 0) < 0) continue;
        if (number == 32 || number == 33) continue; /* the thread library's own */
        if (action.handler != SIG_DFL && action.handler != SIG_IGN && !(action.flags & SA_RESTART)) return true;
    }
    return false;
}

bool lock_wait_sleep(int inotify, int64_t time, bool *interrupted)
{
    if (time <= 0) return false;
    struct timespec timeout = {.tv_sec = 0, .tv_nsec = time};
    struct pollfd poll = {.fd = inotify, .events = POLLIN};
    /* libc's own: a cancellation point, as a blocking open is. */
    int saved = errno;
    int result = ppoll(&poll, inotify >= 0 ? 1 : 0, &timeout, NULL);
    bool signalled = result < 0 && errno == EINTR;
    errno = saved;
    *interrupted = signalled && handlers_interrupt();
    return result > 0;
}

/* The event of a close is queued before the lock is dropped, __fput() in fs/file_table.c.  A try that comes too early
 * looks for relatives in /proc, which takes longer than the drop does: so a few cheap looks first. */
static void look_until_free(const struct lock_waiter *waiter, int lock_descriptor, enum lock_mode mode)
{
    if (lock_descriptor < 0 || waiter->distant) return;
    int64_t end = sys_monotonic() + LOOK_NS;
    if (waiter->pause.deadline < end) end = waiter->pause.deadline;
    while (lock_in_the_way(lock_descriptor, mode) > 0 && sys_monotonic() < end) sys_yield();
}

/* ---- what other hosts do --------------------------------------------------------------------------------- */

/* A byte of /dev/null, chosen by the lock's name: a lock there is this host's own, costs no more than a system call,
 * and is free again when its process ends. */
static bool has_turn(struct lock_waiter *waiter)
{
    uint64_t byte = 0;
    for (int i = 0; i < 15; i++) {
        const unsigned digit = (unsigned char)waiter->name->hex[i];
        byte = byte << 4 | (digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    if (waiter->turn < 0) waiter->turn = sys_openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    return waiter->turn < 0 || bytes_lock(waiter->turn, F_WRLCK, (off_t)byte, 1) != -EAGAIN;
}

static void give_turn(struct lock_waiter *waiter)
{
    if (waiter->turn >= 0) sys_close(waiter->turn);
    waiter->turn = -1;
}

/* After a pause without an event: is what was in the way there still, as far as it is known? */
static bool is_still_there(struct lock_waiter *waiter, int lock_descriptor, enum lock_mode mode)
{
    if (!waiter->distant || waiter->image >= 0 || lock_descriptor < 0 || ++waiter->looks % TRY == 0) return false;
    if (!has_turn(waiter) && waiter->looks % OUT_OF_TURN != 0) return true;
    return lock_in_the_way(lock_descriptor, mode) > 0;
}

bool lock_wait(struct lock_waiter *waiter, int lock_descriptor, enum lock_mode mode, bool *interrupted)
{
    *interrupted = false;
    if (waiter->image < 0 && !waiter->pause.next && lock_descriptor >= 0) {
        waiter->distant = distant_is(lock_descriptor);
        waiter->pause.next = waiter->distant ? DISTANT_NS : PAUSE_LONGEST_NS;
    }
    /* The gate lets a writer in among a stream of readers: who wants to write holds it while it waits, and readers
     * that may wait do so until it is free. */
    if (mode == LOCK_EXCLUSIVE && !waiter->gate && !waiter->still && lock_descriptor >= 0)
        waiter->gate = set_gate(lock_descriptor, F_WRLCK);
    waiter->still = false;
    bool event = drain(waiter->inotify);
    if (!event && !waiter->untried) event = watch(waiter);
    if (event || waiter->untried) {
        waiter->untried = false;
        if (event) look_until_free(waiter, lock_descriptor, mode);
        return sys_monotonic() < waiter->pause.deadline;
    }
    const int64_t length = pause_length(&waiter->pause);
    if (length <= 0) return false;
    event = lock_wait_sleep(waiter->inotify, length, interrupted);
    if (*interrupted) return false;
    if (event) {
        look_until_free(waiter, lock_descriptor, mode);
        return true;
    }
    pause_grow(&waiter->pause);
    /* The last time it is tried. */
    waiter->still = pause_length(&waiter->pause) > 0 && is_still_there(waiter, lock_descriptor, mode);
    return true;
}

void lock_wait_end(struct lock_waiter *waiter, int lock_descriptor)
{
    if (waiter->gate && lock_descriptor >= 0) set_gate(lock_descriptor, F_UNLCK);
    waiter->gate = false;
    give_turn(waiter);
}

void lock_wait_unwatch(int inotify, int watch)
{
    if (inotify >= 0 && watch >= 0) sys_call(SYS_inotify_rm_watch, inotify, watch, 0, 0, 0, 0);
}
