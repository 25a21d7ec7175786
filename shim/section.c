#include "section.h"

#include "threads.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <stdatomic.h>

/* The owner word lives in a page that the kernel empties in a fork child (MADV_WIPEONFORK): so a child never
 * inherits a section that some thread of the parent was in, whatever made the child (fork, _Fork, a raw clone),
 * and finds out by itself that it is one.  A vfork child shares the page and is told by its pid.
 *
 * One kind of child is told wrongly: made before there is a page, and by none of libc's functions (a system call in
 * assembler).  It is taken for a vfork child, and keeps each lock that it takes until it ends. */
struct section {
    _Atomic pid_t thread; /* who is inside */
    pid_t process;        /* whose table this is; 0: not claimed yet */
};
static _Atomic(struct section *) section;
static struct section fallback_section; /* without memory for a page */
static int depth;
static bool claimed_once;

enum { SECTION_SIZE = 4096, SPINS_BEFORE_YIELD = 100, YIELDS_BEFORE_SLEEP = 50, YIELDS_BEFORE_CHECK = 1000 };

/* The process that the library was started in, or the fork child of one that had no page yet; 0: not started yet.  The
 * page is made when it is first needed, be it in a vfork child, and is this process's then.  Most processes never open
 * an image, and for them it would be an eighth of what they start with. */
static _Atomic pid_t started;

static struct section *section_page(void)
{
    struct section *page = atomic_load_explicit(&section, memory_order_acquire);
    if (page) return page;
    struct section *expected = NULL;
    page = sys_mmap(SECTION_SIZE);
    if (page) {
        sys_madvise(page, SECTION_SIZE, MADV_WIPEONFORK);
        page->process = atomic_load(&started);
        if (atomic_compare_exchange_strong(&section, &expected, page)) return page;
        sys_munmap(page, SECTION_SIZE);
        return expected;
    }
    fallback_section.process = atomic_load(&started);
    atomic_compare_exchange_strong(&section, &expected, &fallback_section);
    return atomic_load(&section);
}

void section_prepare(void)
{
    section_page();
}

bool section_exists(void)
{
    return atomic_load_explicit(&section, memory_order_relaxed) != NULL;
}

pid_t section_process(void)
{
    return section_page()->process;
}

pid_t section_thread(void)
{
    SECTION_ASSERT();
    return atomic_load_explicit(&section_page()->thread, memory_order_relaxed);
}

static _Atomic bool sharers;

void section_expect_sharers(void)
{
    atomic_store(&sharers, true);
}

/* Does this process have the descriptors of that one, not a copy of them?  Where the kernel does not tell, it has not.
 */
static bool shares_descriptors(pid_t process)
{
    return sys_call(SYS_kcmp, sys_getpid(), process, KCMP_FILES, 0, 0, 0) == 0;
}

static __attribute__((noinline)) bool is_own_by_another_thread(const struct section *page)
{
    if (page->process == 0) return false;
    return page->process == sys_getpid() || (atomic_load(&sharers) && shares_descriptors(page->process));
}

/* The number of a process's first thread is the process's own, and nobody else's while it lives. */
static inline bool is_own_process(const struct section *page, pid_t thread)
{
    return page->process == thread || is_own_by_another_thread(page);
}

bool section_is_ours(pid_t thread)
{
    return is_own_process(section_page(), thread);
}

/* Waits until nobody is inside, and is. */
static void take(struct section *page, pid_t self)
{
    for (unsigned spins = 0;; spins++) {
        pid_t owner = 0;
        if (atomic_compare_exchange_weak_explicit(&page->thread, &owner, self, memory_order_acquire,
                                                  memory_order_relaxed))
            return;
        if (spins < SPINS_BEFORE_YIELD || owner == 0) continue;
        sys_yield();
        /* A real-time thread's yield lets none of lower priority go on, which may be who is inside. */
        if (spins % YIELDS_BEFORE_SLEEP == 0) sys_pause(INT64_MAX);
        /* A vfork child that was killed inside leaves its mark in our memory.  It had changed nothing. */
        if (spins % YIELDS_BEFORE_CHECK == 0 && sys_thread_exists(owner) == -ESRCH &&
            atomic_compare_exchange_strong(&page->thread, &owner, self))
            return;
    }
}

enum section_entry section_enter(pid_t thread, sys_signals *before)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_sigmask(SIG_BLOCK, &all, before);
    struct section *page = section_page();
    if (atomic_load_explicit(&page->thread, memory_order_relaxed) == thread) {
        depth++;
        return is_own_process(page, thread) ? SECTION_OURS : SECTION_FOREIGN;
    }
    take(page, thread);
    depth = 1;
    if (is_own_process(page, thread)) return SECTION_OURS;
    if (page->process != 0) return SECTION_FOREIGN;
    page->process = sys_getpid();
    bool is_child = claimed_once;
    claimed_once = true;
    return is_child ? SECTION_NEW_PROCESS : SECTION_OURS;
}

void section_leave(const sys_signals *before)
{
    if (--depth == 0) atomic_store_explicit(&atomic_load(&section)->thread, 0, memory_order_release);
    sys_sigmask(SIG_SETMASK, before, NULL);
}

#ifdef IMGLOCK_FAULTS
void section_assert(const char *function)
{
    static const char message[] = "imglock: must be called in the section: ";
    const struct section *page = atomic_load(&section);
    if (page && atomic_load(&page->thread) == sys_gettid()) return;
    sys_write(2, message, sizeof message - 1);
    sys_write(2, function, strlen(function));
    sys_write(2, "\n", 1);
    sys_exit(70); /* EX_SOFTWARE */
}
#endif

/* ---- fork ----------------------------------------------------------------------------------------------- */

static struct {
    bool entered;
    int *thread; /* its errno.  Two threads may fork at once, one before and one after the first image */
    sys_signals signals;
} forking;

static bool this_thread_is_forking(void)
{
    return forking.entered && forking.thread == &errno;
}

void section_start(void)
{
    atomic_store(&started, sys_getpid());
    claimed_once = true;
}

enum section_entry section_before_fork(void)
{
    sys_signals before;
    /* Without threads nobody else opens the first image meanwhile, whose lock the child would have without our knowing.
     */
    if (!section_exists() && threads_none()) return SECTION_OURS;
    enum section_entry entry = section_enter(sys_gettid(), &before);
    forking.entered = true;
    forking.thread = &errno;
    forking.signals = before;
    return entry;
}

void section_after_fork_in_parent(void)
{
    if (!this_thread_is_forking()) return;
    forking.entered = false;
    sys_signals before = forking.signals;
    section_leave(&before);
}

bool section_after_fork_in_child(sys_signals *before)
{
    sys_signals ignored;
    atomic_store(&started, sys_getpid());
    if (!this_thread_is_forking()) return false;
    forking.entered = false;
    *before = forking.signals;
    /* Where MADV_WIPEONFORK is not to be had. */
    struct section *page = atomic_load(&section);
    atomic_store(&page->thread, 0);
    page->process = 0;
    section_enter(sys_gettid(), &ignored);
    return true;
}
