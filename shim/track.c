#include "track.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/single_threaded.h>

#include "audit.h"
#include "blocker.h"
#include "descriptor.h"
#include "fork.h"
#include "holders.h"
#include "message.h"
#include "realpath.h"
#include "sys.h"

/* ---- entries -------------------------------------------------------------------------------------------- */

enum entry_kind { ENTRY_NONE, ENTRY_SHARED, ENTRY_EXCLUSIVE, ENTRY_PRIVATE };
#define ENTRY_CLOSE_ON_EXEC UINT64_C(4)
#define ENTRY_CLOSING UINT64_C(8) /* a call that closes the descriptor is on its way */

/* From the lowest bit: the kind, the two flags, the image, and a number that tells an entry from the next one that the
 * same descriptor gets for the same image. */
enum { ENTRY_IMAGE_BIT = 4, ENTRY_IMAGE_BITS = 28, ENTRY_NUMBER_BIT = ENTRY_IMAGE_BIT + ENTRY_IMAGE_BITS };

static uint64_t make_entry(enum entry_kind kind, bool close_on_exec, uint32_t image)
{
    return (uint64_t)image << ENTRY_IMAGE_BIT | (close_on_exec ? ENTRY_CLOSE_ON_EXEC : 0) | kind;
}

static enum entry_kind entry_kind(uint64_t entry)
{
    return (enum entry_kind)(entry & 3);
}

static uint32_t entry_image(uint64_t entry)
{
    return (uint32_t)(entry >> ENTRY_IMAGE_BIT) & ((1u << ENTRY_IMAGE_BITS) - 1);
}

/* Has this entry a hold? */
static bool is_hold(uint64_t entry)
{
    return entry_kind(entry) == ENTRY_SHARED || entry_kind(entry) == ENTRY_EXCLUSIVE;
}

static enum lock_mode entry_mode(uint64_t entry)
{
    return entry_kind(entry) == ENTRY_EXCLUSIVE ? LOCK_EXCLUSIVE : LOCK_SHARED;
}

/* ---- the descriptor table: the near numbers, and three levels of 1,024 ---------------------------------- */

/* Numbers go up to 2^30 (fs.nr_open), and RLIMIT_NOFILE says nothing about those in use.  The near numbers are ours
 * from the start; the rest is mapped when first needed and never freed: readers use no lock. */
enum { LEVEL = 1024 };
typedef _Atomic uint64_t track_leaf[LEVEL];
typedef _Atomic(track_leaf *) track_branch[LEVEL];
typedef _Atomic(track_branch *) track_trunk[LEVEL];
/* The first touch of a page takes 2 us, as long as ten system calls that have nothing to do: what a process with one
 * image needs lies close together, and this comes after it. */
_Atomic uint64_t track_near[TRACK_NEAR];
/* Above the highest near number that ever had an entry.  Whoever goes through all of them need not touch the pages
 * behind it. */
static _Atomic unsigned near_end;
static _Atomic(track_trunk *) trunk;

/* NULL where nothing is mapped yet. */
static track_branch *branch_for(unsigned number)
{
    track_trunk *level_one = atomic_load_explicit(&trunk, memory_order_acquire);
    return level_one ? atomic_load_explicit(&(*level_one)[number >> 20], memory_order_acquire) : NULL;
}

static _Atomic uint64_t *far_slot(unsigned number)
{
    if (number >= 1u << 30) return NULL;
    track_branch *branch = branch_for(number);
    if (!branch) return NULL;
    track_leaf *leaf = atomic_load_explicit(&(*branch)[number >> 10 & 1023], memory_order_acquire);
    return leaf ? &(*leaf)[number & 1023] : NULL;
}

uint64_t track_far_entry(unsigned number)
{
    _Atomic uint64_t *slot = far_slot(number);
    return slot ? atomic_load_explicit(slot, memory_order_relaxed) : 0;
}

/* The slot for a number, made if need be; NULL without memory.  In the critical section, or where it is there already.
 */
static _Atomic uint64_t *slot_for(unsigned number)
{
    if (number < TRACK_NEAR) {
        if (number >= atomic_load_explicit(&near_end, memory_order_relaxed)) atomic_store(&near_end, number + 1);
        return &track_near[number];
    }
    if (number >= 1u << 30) return NULL;
    if (!trunk) atomic_store_explicit(&trunk, sys_mmap(sizeof(track_trunk)), memory_order_release);
    if (!trunk) return NULL;
    _Atomic(track_branch *) *branch = &(*trunk)[number >> 20];
    if (!*branch) atomic_store_explicit(branch, sys_mmap(sizeof(track_branch)), memory_order_release);
    if (!*branch) return NULL;
    _Atomic(track_leaf *) *leaf = &(**branch)[number >> 10 & 1023];
    if (!*leaf) atomic_store_explicit(leaf, sys_mmap(sizeof(track_leaf)), memory_order_release);
    return *leaf ? &(**leaf)[number & 1023] : NULL;
}

/* False without memory. */
static bool set_entry(int descriptor, uint64_t entry)
{
    _Atomic uint64_t *slot = slot_for((unsigned)descriptor);
    if (slot) atomic_store_explicit(slot, entry, memory_order_release);
    return slot;
}

bool track_is_private(int descriptor)
{
    return entry_kind(track_entry(descriptor)) == ENTRY_PRIVATE;
}

/* The numbers that private descriptors had last. */
enum { REMEMBERED = 64 };
static _Atomic int former_privates[REMEMBERED];
static unsigned former_count;

/* In the critical section. */
static void remember_private(int descriptor)
{
    atomic_store_explicit(&former_privates[former_count++ % REMEMBERED], descriptor, memory_order_relaxed);
}

bool track_was_private(int descriptor)
{
    for (int i = 0; i < REMEMBERED; i++)
        if (former_privates[i] == descriptor) return sys_fcntl(descriptor, F_GETFD, 0) == -EBADF;
    return false;
}

int64_t track_next(unsigned first, unsigned last)
{
    for (uint64_t number = first; number <= last && number < 1u << 30;) {
        if (number < TRACK_NEAR && number >= atomic_load(&near_end)) {
            number = TRACK_NEAR;
            continue;
        }
        if (number >= TRACK_NEAR) {
            /* Step over what was never mapped. */
            track_branch *branch = branch_for((unsigned)number);
            if (!branch) {
                number = (number | 0xfffff) + 1;
                continue;
            }
            if (!atomic_load_explicit(&(*branch)[number >> 10 & 1023], memory_order_acquire)) {
                number = (number | 0x3ff) + 1;
                continue;
            }
        }
        if (track_entry((int)number)) return (int64_t)number;
        number++;
    }
    return -1;
}

/* ---- tracked images ------------------------------------------------------------------------------------- */

struct image {
    struct lock_name name;
    struct lock lock;
    uint32_t next;        /* in its bucket, or in the free list */
    uint32_t companion;   /* the lock by inode that goes with this one by path, or 0 */
    uint32_t readers;     /* holds that need the lock shared */
    uint32_t writers;     /* holds that need it exclusive */
    uint32_t inheritable; /* descriptors without FD_CLOEXEC */
    bool through_exec;    /* the private descriptor has no FD_CLOEXEC */
    uint32_t forks;       /* fork_count when the lock was taken */
    bool shared_lock;     /* another process may have this open file description, too */
    int64_t since;        /* audit_now when the lock was taken, where there is an audit */
    dev_t device;
    ino_t inode;
};

/* Each chunk has as many as all before it. */
enum { FIRST_IMAGES = 16, CHUNKS = 24, BUCKETS = 256 };
_Static_assert((uint64_t)FIRST_IMAGES << CHUNKS == UINT64_C(1) << ENTRY_IMAGE_BITS,
               "an entry has room for every image");
static struct image first_images[FIRST_IMAGES];
static struct image *chunks[CHUNKS];
static uint32_t images_used = 1; /* number 0 means none */
static uint32_t free_images;
static uint32_t buckets[BUCKETS];
static _Atomic uint32_t fork_count;

/* The chunk of an image behind the first ones. */
static unsigned chunk_of(uint32_t number)
{
    return (unsigned)(__builtin_clz(FIRST_IMAGES) - __builtin_clz(number));
}

static uint32_t chunk_size(unsigned chunk)
{
    return (uint32_t)FIRST_IMAGES << chunk;
}

static struct image *image_at(uint32_t number)
{
    if (number < FIRST_IMAGES) return &first_images[number];
    unsigned chunk = chunk_of(number);
    return &chunks[chunk][number - chunk_size(chunk)];
}

/* Entries that had a hold when a private descriptor got their number: the close that gave the number back is on its way
 * to tell, and finds them no more.  Their holds are dropped at the end of the section, since whoever is inside may be
 * at work on the image.  For a lock by path and one by inode, each taken again and then anew. */
enum { DISPLACED = 4 };
static uint64_t displaced[DISPLACED];
static unsigned displaced_count;

/* The entry of a private descriptor that is new.  False without memory.  In the section. */
static bool set_private(int descriptor, uint32_t image)
{
    _Atomic uint64_t *slot = slot_for((unsigned)descriptor);
    if (!slot) return false;
    uint64_t stale = atomic_exchange(slot, make_entry(ENTRY_PRIVATE, true, image));
    if (is_hold(stale) && displaced_count < DISPLACED) displaced[displaced_count++] = stale;
    /* Another private descriptor's, which a call that we cannot see has closed: the number is not its image's any more.
     */
    uint32_t former = entry_kind(stale) == ENTRY_PRIVATE ? entry_image(stale) : 0;
    if (former && former != image && image_at(former)->lock.descriptor == descriptor)
        image_at(former)->lock.descriptor = -1;
    return true;
}

static unsigned hex_digit(char digit)
{
    return (digit & 15u) + (digit >= 'a' ? 9 : 0);
}

static uint32_t *bucket_of(const struct lock_name *name)
{
    _Static_assert(BUCKETS == 256, "two digits");
    return &buckets[hex_digit(name->hex[0]) << 4 | hex_digit(name->hex[1])];
}

static uint32_t find_image(const struct lock_name *name)
{
    for (uint32_t number = *bucket_of(name); number; number = image_at(number)->next)
        if (memcmp(image_at(number)->name.hex, name->hex, sizeof name->hex) == 0) return number;
    return 0;
}

/* A new, empty image in its bucket; 0 without memory. */
static uint32_t add_image(const struct lock_name *name)
{
    uint32_t number = free_images;
    if (number) {
        free_images = image_at(number)->next;
    } else {
        number = images_used;
        if (number >= FIRST_IMAGES) {
            unsigned chunk = chunk_of(number);
            if (chunk >= CHUNKS) return 0;
            if (!chunks[chunk]) chunks[chunk] = sys_mmap(chunk_size(chunk) * sizeof(struct image));
            if (!chunks[chunk]) return 0;
        }
        images_used++;
    }
    struct image *image = image_at(number);
    *image = (struct image){.name = *name, .lock = {.descriptor = -1, .slot = -1}, .next = *bucket_of(name)};
    *bucket_of(name) = number;
    return number;
}

static void remove_image(uint32_t number)
{
    struct image *image = image_at(number);
    uint32_t *link = bucket_of(&image->name);
    while (*link != number) link = &image_at(*link)->next;
    *link = image->next;
    image->next = free_images;
    free_images = number;
}

/* ---- the critical section ------------------------------------------------------------------------------- */

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
static int section_depth;
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

/* The inotify instance that a wait has left.  Its entry is a private one of image 0, which is none. */
static int watcher = -1;
static int watcher_watch = -1; /* what it watches still */

/* Is it still ours?  The program may have closed the number by a system call of its own, and what it opened there since
 * must not be read from. */
static bool is_inotify(int descriptor)
{
    static const char expected[] = "anon_inode:inotify";
    char link[32], kind[sizeof expected];
    realpath_descriptor_link(descriptor, link);
    return sys_readlinkat(AT_FDCWD, link, kind, sizeof kind) == (ssize_t)sizeof expected - 1 &&
           memcmp(kind, expected, sizeof expected - 1) == 0;
}

/* Until then its events pile up.  When nobody waits for us: it takes 16 us. */
static void unwatch(void)
{
    if (watcher >= 0) lock_wait_unwatch(watcher, watcher_watch);
    watcher_watch = -1;
}

static void end_marks(void);

/* This process is a fork child that comes here for the first time: the locks are the parent's as well. */
static void adopt_after_fork(void)
{
    for (uint32_t number = 1; number < images_used; number++) image_at(number)->shared_lock = true;
    process_forget_self();
    record_forget();
    end_marks();
    /* The parent's: two who read from one instance take each other's events. */
    if (watcher < 0) return;
    set_entry(watcher, 0);
    if (is_inotify(watcher)) sys_close(watcher);
    watcher = -1;
}

/* Is this the process whose table this is?  The number of a process's first thread is the process's own, and nobody
 * else's while it lives. */
static bool is_own_process(const struct section *page, pid_t thread)
{
    return page->process == thread || (page->process && page->process == sys_getpid());
}

static bool enter_as(pid_t self, sys_signals *before);

/* Enters the section with all signals blocked.  False: this is a vfork child, and the table is another
 * process's; the section is entered all the same. */
static bool enter(sys_signals *before)
{
    return enter_as(sys_gettid(), before);
}

/* As enter, for a thread that knows its number. */
static bool enter_as(pid_t self, sys_signals *before)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    static const struct timespec sleep = {.tv_nsec = 50 * 1000};
    sys_sigmask(SIG_BLOCK, &all, before);
    struct section *page = section_page();
    if (atomic_load_explicit(&page->thread, memory_order_relaxed) == self) {
        section_depth++; /* a fork handler that runs between ours, or dup2 between track_freeze and track_thaw */
        return is_own_process(page, self);
    }
    for (unsigned spins = 0;; spins++) {
        pid_t owner = 0;
        if (atomic_compare_exchange_weak_explicit(&page->thread, &owner, self, memory_order_acquire,
                                                  memory_order_relaxed))
            break;
        if (spins < SPINS_BEFORE_YIELD || owner == 0) continue;
        sys_yield();
        /* A real-time thread's yield lets none of lower priority go on, which may be who is inside. */
        if (spins % YIELDS_BEFORE_SLEEP == 0) sys_call(SYS_nanosleep, (long)&sleep, 0, 0, 0, 0, 0);
        /* A vfork child that was killed inside leaves its mark in our memory.  It had changed nothing. */
        if (spins % YIELDS_BEFORE_CHECK == 0 && sys_thread_exists(owner) == -ESRCH &&
            atomic_compare_exchange_strong(&page->thread, &owner, self))
            break;
    }
    section_depth = 1;
    if (is_own_process(page, self)) return true;
    if (page->process != 0) return false;
    page->process = sys_getpid();
    if (claimed_once) adopt_after_fork();
    claimed_once = true;
    return true;
}

static void uncount_hold(uint32_t number, enum lock_mode mode, bool inheritable);

static void leave(const sys_signals *before)
{
    while (__builtin_expect(displaced_count != 0, 0)) {
        uint64_t entry = displaced[--displaced_count];
        uncount_hold(entry_image(entry), entry_mode(entry), !(entry & ENTRY_CLOSE_ON_EXEC));
    }
    if (--section_depth == 0) atomic_store_explicit(&atomic_load(&section)->thread, 0, memory_order_release);
    sys_sigmask(SIG_SETMASK, before, NULL);
}

/* Around fork(3) the section is held, so that the child's copy of the table is whole. */
static struct {
    bool entered;
    int *thread; /* its errno.  Two threads may fork at once, one before and one after the first image */
    sys_signals signals;
} forking;

static bool this_thread_is_forking(void)
{
    return forking.entered && forking.thread == &errno;
}

static void before_fork(void)
{
    sys_signals before;
    /* Without threads nobody else opens the first image meanwhile, whose lock the child would have without our knowing.
     */
    if (!atomic_load(&section) && __libc_single_threaded) return;
    enter(&before);
    forking.entered = true;
    forking.thread = &errno;
    forking.signals = before;
}

static void after_fork_in_parent(void)
{
    track_note_fork();
    if (!this_thread_is_forking()) return;
    forking.entered = false;
    sys_signals before = forking.signals;
    leave(&before);
}

static void after_fork_in_child(void)
{
    atomic_store(&started, sys_getpid());
    process_forget_self();
    record_forget();
    if (!this_thread_is_forking()) return;
    forking.entered = false;
    sys_signals before = forking.signals;
    sys_signals ignored;
    /* Where MADV_WIPEONFORK is not to be had. */
    struct section *page = atomic_load(&section);
    atomic_store(&page->thread, 0);
    page->process = 0;
    enter(&ignored);
    leave(&before);
}

void track_start(void)
{
    atomic_store(&started, sys_getpid());
    claimed_once = true;
    fork_handlers(before_fork, after_fork_in_parent, after_fork_in_child);
}

void track_before_raw_fork(void)
{
    section_page();
    track_note_fork();
}

void track_note_fork(void)
{
    /* No page, no lock; and to write here is to copy a page after each fork of a shell. */
    if (atomic_load(&section)) atomic_fetch_add(&fork_count, 1);
}

/* ---- counting ------------------------------------------------------------------------------------------- */

static void set_private_close_on_exec(struct image *image)
{
    bool through_exec = image->inheritable;
    if (image->lock.descriptor < 0 || image->through_exec == through_exec) return;
    sys_fcntl(image->lock.descriptor, F_SETFD, through_exec ? 0 : FD_CLOEXEC);
    image->through_exec = through_exec;
}

static void count_inheritable(uint32_t number, int change)
{
    for (; number; number = image_at(number)->companion) {
        struct image *image = image_at(number);
        image->inheritable += (uint32_t)change;
        set_private_close_on_exec(image);
    }
}

static bool may_be_weakened(const struct image *image)
{
    return !image->shared_lock && image->forks == atomic_load(&fork_count);
}

static struct audit_image audited(const struct image *image)
{
    return (struct audit_image){.name = &image->name,
                                .lock_descriptor = image->lock.descriptor,
                                .device = image->device,
                                .inode = image->inode};
}

static void release_image(uint32_t number)
{
    struct image *image = image_at(number);
    if (policy_settings()->audit && image->since) {
        struct audit_image about = audited(image);
        audit_release(policy_settings(), &about, image->lock.mode, image->since);
    }
    if (image->lock.descriptor >= 0) {
        set_entry(image->lock.descriptor, 0);
        remember_private(image->lock.descriptor);
    }
    lock_release(&image->lock);
    remove_image(number);
    if (__builtin_expect(watcher_watch >= 0, 0)) unwatch();
}

static void count_hold(uint32_t number, enum lock_mode mode)
{
    for (; number; number = image_at(number)->companion) {
        if (mode == LOCK_EXCLUSIVE)
            image_at(number)->writers++;
        else
            image_at(number)->readers++;
    }
}

/* Lowers a lock that nobody needs exclusively any more. */
static void lower_if_possible(struct image *image)
{
    if (image->writers || image->lock.mode != LOCK_EXCLUSIVE || !may_be_weakened(image)) return;
    if (!lock_is_held(&image->lock)) return;
    struct lock_problem ignored;
    struct lock_request request = {.mode = LOCK_SHARED};
    if (lock_convert(&image->lock, &request, &ignored) != LOCK_TAKEN || !policy_settings()->audit) return;
    struct audit_image about = audited(image);
    audit_convert(policy_settings(), &about, LOCK_EXCLUSIVE, LOCK_SHARED);
}

static void uncount_hold(uint32_t number, enum lock_mode mode, bool inheritable)
{
    while (number) {
        struct image *image = image_at(number);
        uint32_t companion = image->companion;
        if (inheritable) image->inheritable--;
        if (mode == LOCK_EXCLUSIVE)
            image->writers--;
        else
            image->readers--;
        if (image->readers + image->writers == 0) {
            release_image(number);
        } else {
            set_private_close_on_exec(image);
            lower_if_possible(image);
        }
        number = companion;
    }
}

/* ---- the parked inotify instance ------------------------------------------------------------------------ */

int track_take_watcher(void)
{
    sys_signals before;
    int taken = -1;
    if (enter(&before) && watcher >= 0) {
        uint64_t entry = track_entry(watcher);
        if (entry_kind(entry) == ENTRY_PRIVATE && entry_image(entry) == 0) {
            set_entry(watcher, 0);
            if (is_inotify(watcher)) {
                unwatch();
                taken = watcher;
            }
        }
        watcher = -1;
    }
    leave(&before);
    return taken;
}

void track_park_watcher(int inotify, int watch)
{
    sys_signals before;
    if (inotify < 0) return;
    bool parked = false;
    if (enter(&before) && watcher < 0) {
        int high = descriptor_move_high(inotify, false);
        parked = set_private(high, 0);
        inotify = high;
        if (parked) {
            watcher = high;
            watcher_watch = watch;
        }
    }
    leave(&before);
    if (!parked) sys_close(inotify);
}

/* ---- holds ---------------------------------------------------------------------------------------------- */

/* A private descriptor was closed by a call that we cannot see.  The lock is gone with it; takes it anew, at
 * another number.  In the section. */
static void renew_private(uint32_t number)
{
    struct image *image = image_at(number);
    const struct settings *settings = policy_settings();
    struct lock_request request = {.name = &image->name,
                                   .directory = settings->directory,
                                   .image_path = "",
                                   .mode = image->writers ? LOCK_EXCLUSIVE : LOCK_SHARED,
                                   .relatives = settings->family,
                                   .deadline = sys_monotonic() + LOCK_GRACE_NS,
                                   .block = image->lock.block,
                                   .reason = settings->reason,
                                   .section = atomic_load(&section)->process};
    struct lock_problem ignored;
    int opened = -1;
    if (image->lock.mode < LOCK_SHARED) request.mode = image->lock.mode;
    if (image->lock.descriptor >= 0 && entry_image(track_entry(image->lock.descriptor)) == number &&
        track_is_private(image->lock.descriptor))
        set_entry(image->lock.descriptor, 0);
    request.through_exec = image->inheritable;
    bool regained = lock_take(&request, &image->lock, &opened, &ignored) == LOCK_TAKEN;
    if (regained) {
        set_private(image->lock.descriptor, number);
        image->through_exec = image->inheritable;
    }
    struct audit_image about = audited(image);
    audit_lost(settings, &about, request.mode, regained);
    if (!regained) message_lost(settings, opened, request.mode);
    if (opened >= 0) sys_close(opened);
}

static enum lock_result no_memory(struct lock_problem *problem, const char *what)
{
    *problem = (struct lock_problem){.error = ENOMEM, .what = what, .owner = (uid_t)-1};
    return LOCK_FAILED;
}

/* The lock on an open file description of its own, for an image that has none, or that shares it with other processes.
 */
static enum lock_result take_anew(uint32_t number, const struct lock_request *request, int *opened,
                                  struct lock_problem *problem)
{
    struct image *image = image_at(number);
    struct lock_request inheritable = *request;
    struct lock fresh;
    inheritable.through_exec = image->inheritable;
    enum lock_result result = lock_take(&inheritable, &fresh, opened, problem);
    if (result != LOCK_TAKEN) return result;
    if (!set_private(fresh.descriptor, number)) {
        lock_release(&fresh);
        return no_memory(problem, "no memory for another descriptor");
    }
    if (image->lock.descriptor >= 0) {
        set_entry(image->lock.descriptor, 0);
        remember_private(image->lock.descriptor);
    }
    lock_release(&image->lock);
    image->lock = fresh;
    image->through_exec = image->inheritable;
    image->forks = atomic_load(&fork_count);
    image->shared_lock = false;
    return LOCK_TAKEN;
}

/* What this process has of the lock already is looked at before it is built upon: the program may have closed the
 * private descriptor by a system call of its own, and imglock handoff may have passed the lock on. */
static enum lock_result use_held(uint32_t number, const struct lock_request *request, int *opened,
                                 struct lock_problem *problem)
{
    struct image *image = image_at(number);
    if (!lock_is_open(&image->lock)) {
        renew_private(number);
        if (image->lock.descriptor < 0) {
            struct lock_request stronger = *request;
            if (image->writers) stronger.mode = LOCK_EXCLUSIVE;
            return take_anew(number, &stronger, opened, problem);
        }
    }
    if (image->lock.mode < request->mode) {
        struct lock_request raised = *request;
        const struct relatives_known known = {.descriptor = image->lock.descriptor};
        raised.known = &known;
        /* What another process may have as well is never changed; and a relative that has it, too, is let past on a
         * description of our own. */
        enum lock_result result = may_be_weakened(image) ? lock_convert(&image->lock, &raised, problem) : LOCK_BUSY;
        return result == LOCK_BUSY && !problem->blocked ? take_anew(number, &raised, opened, problem) : result;
    }
    if (lock_is_held(&image->lock)) {
        problem->blocked = blocker_find(image->lock.descriptor, request->operations);
        return problem->blocked ? LOCK_BUSY : LOCK_TAKEN;
    }
    /* Passed on: from then on as in IMGLOCK_MODE=inactive. */
    return request->operations & 1u << OPERATION_TRUNCATE ? LOCK_BUSY : LOCK_TAKEN;
}

/* Brings one lock of this process to at least the wanted mode; *before is the mode that it had.  *number: the image,
 * made if need be.  watch: after LOCK_BUSY the image is there all the same, without a lock. */
static enum lock_result take_one(const struct lock_request *request, bool watch, uint32_t *number, int *opened,
                                 enum lock_mode *before, struct lock_problem *problem)
{
    *before = LOCK_NONE;
    *number = find_image(request->name);
    if (*number) {
        *before = image_at(*number)->lock.mode;
        return use_held(*number, request, opened, problem);
    }
    *number = add_image(request->name);
    if (!*number) return no_memory(problem, "no memory for another image");
    struct image *image = image_at(*number);
    image->through_exec = request->through_exec;
    enum lock_result result = lock_take(request, &image->lock, opened, problem);
    watch = watch && result == LOCK_BUSY;
    if (watch) lock_watch(&image->lock, request, opened);
    if ((result == LOCK_TAKEN || watch) && !set_private(image->lock.descriptor, *number)) {
        lock_release(&image->lock);
        result = no_memory(problem, "no memory for another descriptor");
    }
    if (result == LOCK_TAKEN || (watch && result == LOCK_BUSY)) {
        image->forks = atomic_load(&fork_count);
        if (policy_settings()->audit) image->since = audit_now();
    } else {
        remove_image(*number);
        *number = 0;
    }
    return result;
}

/* Undoes take_one for an image that nobody came to hold, or not so strongly. */
static void settle(uint32_t number)
{
    if (!number) return;
    if (image_at(number)->readers + image_at(number)->writers == 0)
        release_image(number);
    else
        lower_if_possible(image_at(number));
}

/* The lock that this vfork child has taken before.  Nothing of it is in the table; its record tells the descriptor, and
 * since anybody may write records the descriptor is looked at. */
static bool find_own_lock(int lock_descriptor, struct lock *lock)
{
    const struct process_identity *self = process_self();
    struct stat file, found;
    struct holder holder;
    if (sys_fstat(lock_descriptor, &file) < 0) return false;
    for (int slot = 0; holders_next(lock_descriptor, slot, &holder); slot = holder.slot + 1) {
        if (!holder.recorded || holder.process.pid != self->pid || holder.process.start != self->start) continue;
        if (sys_fstat(holder.descriptor, &found) < 0 || found.st_dev != file.st_dev || found.st_ino != file.st_ino)
            continue;
        lock_adopt(lock, holder.descriptor, NULL);
        return true;
    }
    return false;
}

/* In a vfork child: the table is the parent's and stays as it is.  Its locks are open here as well, under the same
 * numbers, so an image that the parent holds strongly enough needs nothing more; for another a lock of the child's
 * own is taken, which ends with the child or passes through its exec. */
static enum lock_result take_foreign(const struct track_request *request, struct track_hold *hold, int *opened,
                                     struct lock_problem *problem)
{
    *hold = (struct track_hold){.foreign = true, .mode = request->lock.mode, .foreign_private = -1};
    uint32_t number = find_image(request->lock.name);
    if (number && image_at(number)->lock.mode >= request->lock.mode) {
        hold->foreign_private = image_at(number)->lock.descriptor;
        problem->blocked = blocker_find(hold->foreign_private, request->lock.operations);
        return problem->blocked ? LOCK_BUSY : LOCK_TAKEN;
    }
    struct lock lock;
    enum lock_result result = lock_take(&request->lock, &lock, opened, problem);
    if (result == LOCK_BUSY && find_own_lock(*opened, &lock))
        result = lock.mode >= request->lock.mode ? LOCK_TAKEN : lock_convert(&lock, &request->lock, problem);
    if (result == LOCK_TAKEN) hold->foreign_private = lock.descriptor;
    return result;
}

static void drop_entry(int descriptor, uint64_t entry);

/* A call of the program has just got this number: what the table says of it is out of date.  In the section. */
static void forget_stale(int descriptor)
{
    uint64_t entry = track_entry(descriptor);
    if (__builtin_expect(entry == 0, 1)) return;
    if (descriptor == watcher) {
        set_entry(descriptor, 0);
        watcher = -1;
    } else if (is_hold(entry)) {
        drop_entry(descriptor, entry);
    } else if (entry_kind(entry) == ENTRY_PRIVATE && image_at(entry_image(entry))->lock.descriptor == descriptor) {
        set_entry(descriptor, 0);
        renew_private(entry_image(entry));
    }
}

/* Writes the hold into the table, where the descriptor has it from now on.  False without memory.  In the section. */
static bool bind(struct track_hold *hold, int descriptor, bool close_on_exec)
{
    static uint64_t bound;
    /* Another thread may have bound the number since the caller looked. */
    forget_stale(descriptor);
    enum entry_kind kind = hold->mode == LOCK_EXCLUSIVE ? ENTRY_EXCLUSIVE : ENTRY_SHARED;
    if (!set_entry(descriptor, make_entry(kind, close_on_exec, hold->image) | bound++ << ENTRY_NUMBER_BIT))
        return false;
    struct image *image = image_at(hold->image);
    if (hold->inode) {
        image->device = hold->device;
        image->inode = hold->inode;
    }
    if (!close_on_exec) count_inheritable(hold->image, 1);
    hold->image = 0;
    return true;
}

/* Does the image's chain of companions come by this one? */
static bool chain_has(uint32_t number, uint32_t wanted)
{
    while (number && number != wanted) number = image_at(number)->companion;
    return number != 0;
}

/* Puts an image's chain behind another's: who holds the first holds the second from now on. */
static void chain(uint32_t first, uint32_t second)
{
    while (image_at(first)->companion) first = image_at(first)->companion;
    const struct image *end = image_at(first);
    for (uint32_t number = second; number; number = image_at(number)->companion) {
        image_at(number)->readers += end->readers;
        image_at(number)->writers += end->writers;
        image_at(number)->inheritable += end->inheritable;
        set_private_close_on_exec(image_at(number));
    }
    image_at(first)->companion = second;
}

/* The chain for a hold of this image by both its locks.  Another file may have come under the path since the image was
 * opened first: its lock by inode then leads to those that are there. */
static uint32_t join(uint32_t by_path, uint32_t by_inode)
{
    if (chain_has(by_path, by_inode)) return by_path;
    if (chain_has(by_inode, by_path)) return by_inode;
    if (!image_at(by_path)->companion) {
        chain(by_path, by_inode);
        return by_path;
    }
    for (uint32_t number = by_inode; number; number = image_at(number)->companion)
        if (chain_has(by_path, number)) return 0; /* files that have changed names twice */
    chain(by_inode, by_path);
    return by_inode;
}

enum lock_result track_take(const struct track_request *request, struct track_hold *hold, int *opened,
                            struct lock_problem *problem)
{
    sys_signals before;
    uint32_t by_path = 0;
    uint32_t by_inode = 0;
    *hold = (struct track_hold){0};
    if (!enter(&before)) {
        enum lock_result result = take_foreign(request, hold, opened, problem);
        leave(&before);
        return result;
    }
    enum lock_mode had, inode_had;
    struct lock_request by_path_request = request->lock;
    by_path_request.section = atomic_load(&section)->process;
    by_path_request.through_exec = request->attach_to >= 0 && !request->close_on_exec;
    enum lock_result result = take_one(&by_path_request, request->watch, &by_path, opened, &had, problem);
    if (result == LOCK_TAKEN && (request->inode_name || image_at(by_path)->companion)) {
        /* The lock by inode goes with the one by path, in the same mode. */
        struct lock_request inode_request = by_path_request;
        int fresh = -1;
        int *inode_opened = request->inode_opened ? request->inode_opened : &fresh;
        inode_request.name = request->inode_name ? request->inode_name : &image_at(image_at(by_path)->companion)->name;
        result = take_one(&inode_request, false, &by_inode, inode_opened, &inode_had, problem);
        if (fresh >= 0) sys_close(fresh);
    }
    uint32_t held = by_path;
    if (result == LOCK_TAKEN && by_inode && !(held = join(by_path, by_inode)))
        result = no_memory(problem, "too many names of one image");
    if (result == LOCK_TAKEN || (result == LOCK_BUSY && request->watch && by_path)) {
        struct image *image = image_at(by_path);
        count_hold(held, request->lock.mode);
        hold->image = held;
        hold->mode = request->lock.mode;
        hold->before = had;
        hold->family = lock_is_beside(&image->lock);
        hold->device = request->device;
        hold->inode = request->inode;
        hold->attached = request->attach_to >= 0 && bind(hold, request->attach_to, request->close_on_exec);
    } else {
        settle(by_path);
        settle(by_inode);
    }
    leave(&before);
    return result;
}

int track_attach(struct track_hold *hold, int descriptor, bool close_on_exec)
{
    sys_signals before;
    int result = 0;
    if (hold->foreign) {
        /* What the image's descriptor survives, the lock survives. */
        if (!close_on_exec && hold->foreign_private >= 0) sys_fcntl(hold->foreign_private, F_SETFD, 0);
        *hold = (struct track_hold){0};
        return 0;
    }
    if (!hold->image) return 0;
    track_opened(descriptor);
    if (enter(&before) && !bind(hold, descriptor, close_on_exec)) result = -ENOMEM;
    leave(&before);
    return result;
}

static bool is_open_on(int descriptor, const struct image *image)
{
    struct stat status;
    int result = sys_fstat(descriptor, &status);
    /* An error of another kind says nothing of whose number it is. */
    if (result < 0) return result != -EBADF;
    return status.st_dev == image->device && status.st_ino == image->inode;
}

/* Reads a descriptor's hold out of the table; in the section.  One that is being closed has it until it is gone. */
static bool hold_of(int descriptor, struct track_hold *hold)
{
    uint64_t entry = track_entry(descriptor);
    *hold = (struct track_hold){0};
    if (!is_hold(entry)) return false;
    if (entry & ENTRY_CLOSING && !is_open_on(descriptor, image_at(entry_image(entry)))) return false;
    hold->image = entry_image(entry);
    hold->mode = entry_mode(entry);
    return true;
}

bool track_copy(int descriptor, struct track_hold *hold)
{
    sys_signals before;
    bool ours = enter(&before);
    bool found = hold_of(descriptor, hold);
    if (found && ours) {
        count_hold(hold->image, hold->mode);
    } else if (found) {
        hold->foreign = true;
        hold->foreign_private = image_at(hold->image)->lock.descriptor;
        hold->image = 0;
    }
    leave(&before);
    return found;
}

void track_drop(struct track_hold *hold)
{
    sys_signals before;
    if (hold->image) {
        if (enter(&before)) uncount_hold(hold->image, hold->mode, false);
        hold->image = 0; /* inside: after it a handler may jump away to a cleanup that drops it again */
        leave(&before);
    }
    *hold = (struct track_hold){0};
}

bool track_still_open(const struct track_hold *hold, int descriptor)
{
    sys_signals before;
    enter(&before);
    bool same = is_open_on(descriptor, image_at(hold->image));
    leave(&before);
    return same;
}

/* ---- closing -------------------------------------------------------------------------------------------- */

/* The entry that the call began with, whether or not it is still marked, or 0.  In the section. */
static uint64_t entry_of(const struct track_closing *closing)
{
    const uint64_t flags = ENTRY_CLOSING | ENTRY_CLOSE_ON_EXEC;
    uint64_t entry = track_entry(closing->descriptor);
    return (entry | flags) == (closing->entry | flags) ? entry : 0;
}

/* Takes the entry out, and the hold with it.  In the section. */
static void drop_entry(int descriptor, uint64_t entry)
{
    set_entry(descriptor, 0);
    uncount_hold(entry_image(entry), entry_mode(entry), !(entry & ENTRY_CLOSE_ON_EXEC));
}

/* Takes the mark back.  What the call, or another, has made of FD_CLOEXEC meanwhile was not counted.  In the section.
 */
static void keep_entry(int descriptor, uint64_t entry)
{
    int flags = sys_fcntl(descriptor, F_GETFD, 0);
    bool close_on_exec = flags >= 0 && flags & FD_CLOEXEC;
    if (!(entry & ENTRY_CLOSE_ON_EXEC) != !close_on_exec) count_inheritable(entry_image(entry), close_on_exec ? -1 : 1);
    entry &= ~(ENTRY_CLOSING | ENTRY_CLOSE_ON_EXEC);
    set_entry(descriptor, entry | (close_on_exec ? ENTRY_CLOSE_ON_EXEC : 0));
}

static void keep_or_drop(int descriptor, uint64_t entry)
{
    if (is_open_on(descriptor, image_at(entry_image(entry))))
        keep_entry(descriptor, entry);
    else
        drop_entry(descriptor, entry);
}

/* In a fork child: the thread that was closing these is not here.  A handler's, which was copied in the midst of its
 * own close, goes on and knows its entry by the number. */
static void end_marks(void)
{
    for (int64_t at = -1; (at = track_next((unsigned)(at + 1), INT_MAX)) >= 0;) {
        uint64_t entry = track_entry((int)at);
        if (is_hold(entry) && entry & ENTRY_CLOSING) keep_or_drop((int)at, entry);
    }
}

void track_begin_close(struct track_closing *closing, int descriptor)
{
    *closing = (struct track_closing){.descriptor = descriptor};
    if (!is_hold(track_entry(descriptor))) return;
    closing->thread = sys_gettid();
    /* A fork child that comes here for the first time. */
    if (section_page()->process == 0) {
        sys_signals before;
        enter(&before);
        leave(&before);
    }
    /* In a vfork child the descriptor goes and the parent's entry stays. */
    if (!is_own_process(section_page(), closing->thread)) return;
    _Atomic uint64_t *slot = slot_for((unsigned)descriptor);
    uint64_t entry = atomic_load_explicit(slot, memory_order_relaxed);
    do {
        if (!is_hold(entry)) {
            closing->entry = 0;
            return;
        }
        /* Before it stands in the table, so that it is found whoever jumps away when.  Where another call is closing
         * the descriptor already, the first that comes back drops the hold: for both it is gone then. */
        closing->mode = entry_mode(entry);
        closing->entry = entry | ENTRY_CLOSING;
        atomic_signal_fence(memory_order_seq_cst);
    } while (!atomic_compare_exchange_weak(slot, &entry, closing->entry));
}

static inline void finish_close(struct track_closing *closing, void (*act)(int descriptor, uint64_t entry))
{
    sys_signals before;
    if (!closing->entry) return;
    if (enter_as(closing->thread, &before)) {
        uint64_t entry = entry_of(closing);
        if (entry) act(closing->descriptor, entry);
    }
    closing->entry = 0; /* inside, as in track_drop */
    leave(&before);
}

void track_end_close(struct track_closing *closing)
{
    finish_close(closing, drop_entry);
}

bool track_closed_nothing(const struct track_closing *closing)
{
    sys_signals before;
    if (!closing->entry) return false;
    bool open =
        enter(&before) && entry_of(closing) && is_open_on(closing->descriptor, image_at(entry_image(closing->entry)));
    leave(&before);
    return open;
}

void track_cancel_close(struct track_closing *closing)
{
    finish_close(closing, keep_or_drop);
}

void track_undo_close(struct track_closing *closing)
{
    finish_close(closing, keep_entry);
}

/* ---- events --------------------------------------------------------------------------------------------- */

void track_forget_stale(int descriptor)
{
    sys_signals before;
    if (enter(&before)) forget_stale(descriptor);
    leave(&before);
}

void track_set_close_on_exec(int descriptor, bool close_on_exec)
{
    sys_signals before;
    bool ours = enter(&before);
    uint64_t entry = track_entry(descriptor);
    bool is_image = is_hold(entry) && !(entry & ENTRY_CLOSING);
    if (is_image && ours && !(entry & ENTRY_CLOSE_ON_EXEC) != !close_on_exec) {
        /* Another thread may begin to close it at this moment. */
        if (atomic_compare_exchange_strong(slot_for((unsigned)descriptor), &entry, entry ^ ENTRY_CLOSE_ON_EXEC))
            count_inheritable(entry_image(entry), close_on_exec ? -1 : 1);
    } else if (is_image && !ours && !close_on_exec) {
        sys_fcntl(image_at(entry_image(entry))->lock.descriptor, F_SETFD, 0);
    }
    leave(&before);
}

/* A copy above the soft limit, which is raised for a moment. */
static int copy_past_limit(int descriptor)
{
    struct rlimit limit;
    if (sys_nofile_limit(&limit) < 0 || limit.rlim_cur >= limit.rlim_max) return -EMFILE;
    const struct rlimit raised = {limit.rlim_max, limit.rlim_max};
    sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&raised, 0, 0, 0);
    int copy = descriptor_copy_above(descriptor, (int)limit.rlim_cur);
    sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&limit, 0, 0, 0);
    return copy;
}

/* A number for a private descriptor that has to move: above, else further down, else, for a program that has used up
 * all that it may have, above its limit. */
static int copy_elsewhere(int descriptor)
{
    int moved = descriptor_copy_above(descriptor, descriptor + 1);
    if (moved < 0) moved = descriptor_copy_above(descriptor, descriptor / 2);
    if (moved < 0) moved = descriptor_copy_above(descriptor, 3);
    if (moved < 0) moved = copy_past_limit(descriptor);
    return moved;
}

bool track_freeze(int descriptor, sys_signals *before)
{
    if (__libc_single_threaded || descriptor < descriptor_lowest()) return false;
    enter(before);
    /* Nobody else can get a number that is in use; and to close what has it may take long. */
    if (sys_fcntl(descriptor, F_GETFD, 0) < 0 || track_is_private(descriptor)) return true;
    leave(before);
    return false;
}

void track_thaw(const sys_signals *before)
{
    leave(before);
}

bool track_move_private(int descriptor)
{
    sys_signals before;
    bool ours = enter(&before);
    uint64_t entry = track_entry(descriptor);
    bool moved = true;
    if (entry_kind(entry) == ENTRY_PRIVATE) {
        int flags = sys_fcntl(descriptor, F_GETFD, 0);
        int copy = copy_elsewhere(descriptor);
        moved = copy >= 0 && slot_for((unsigned)copy);
        if (copy >= 0 && !moved) sys_close(copy);
        if (moved && flags >= 0 && !(flags & FD_CLOEXEC)) sys_fcntl(copy, F_SETFD, 0);
        /* In a vfork child the table is the parent's, where nothing moved. */
        if (moved && ours) {
            if (entry_image(entry))
                image_at(entry_image(entry))->lock.descriptor = copy;
            else
                watcher = copy;
            set_private(copy, entry_image(entry));
            set_entry(descriptor, 0);
            remember_private(descriptor);
            sys_close(descriptor);
        }
    }
    leave(&before);
    return moved;
}

int track_privates(int descriptor, int privates[TRACK_PRIVATES])
{
    sys_signals before;
    int count = 0;
    enter(&before);
    uint64_t entry = track_entry(descriptor);
    bool is_image = is_hold(entry) && !(entry & ENTRY_CLOSING);
    for (uint32_t number = is_image ? entry_image(entry) : 0; number && count < TRACK_PRIVATES;
         number = image_at(number)->companion)
        if (image_at(number)->lock.descriptor >= 0) privates[count++] = image_at(number)->lock.descriptor;
    leave(&before);
    return count;
}

static bool tell_own(uint32_t number, struct track_own *own)
{
    if (!number || image_at(number)->lock.descriptor < 0) return false;
    const struct image *image = image_at(number);
    *own =
        (struct track_own){image->name, image->lock.descriptor, image->lock.mode, image->lock.start, image->lock.block};
    return true;
}

bool track_own_lock(const struct lock_name *name, struct track_own *own)
{
    /* Most processes that rename and delete have no image at all.  Another thread that takes the lock at this moment
     * may as well take it a moment later. */
    if (__atomic_load_n(bucket_of(name), __ATOMIC_RELAXED) == 0) return false;
    sys_signals before;
    enter(&before);
    bool found = tell_own(find_image(name), own);
    leave(&before);
    return found;
}

bool track_lock_of(int descriptor, struct track_own *own)
{
    sys_signals before;
    struct track_hold hold;
    enter(&before);
    bool found = hold_of(descriptor, &hold) && tell_own(hold.image, own);
    leave(&before);
    return found;
}

void track_adopt_lock(const struct lock_name *name, int descriptor)
{
    sys_signals before;
    if (enter(&before) && !find_image(name) && slot_for((unsigned)descriptor)) {
        uint32_t number = add_image(name);
        if (number) {
            struct image *image = image_at(number);
            image->shared_lock = true;
            image->through_exec = true;
            lock_adopt(&image->lock, descriptor, policy_settings()->reason);
            set_private(descriptor, number);
        }
    }
    leave(&before);
}

void track_release_unused(void)
{
    sys_signals before;
    if (images_used == 1) return;
    if (enter(&before))
        for (uint32_t number = 1; number < images_used; number++) {
            struct image *image = image_at(number);
            if (image->lock.descriptor >= 0 && image->readers + image->writers == 0) release_image(number);
        }
    leave(&before);
}
