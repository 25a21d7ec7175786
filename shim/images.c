#include "images.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "audit.h"
#include "blocker.h"
#include "message.h"
#include "policy.h"
#include "section.h"
#include "sys.h"
#include "table.h"
#include "watcher.h"

/* ---- where they are kept -------------------------------------------------------------------------------- */

/* Each chunk has as many as all before it. */
enum { FIRST_IMAGES = 16, CHUNKS = 24, BUCKETS = 256 };
_Static_assert((uint64_t)FIRST_IMAGES << CHUNKS == UINT64_C(1) << TABLE_IMAGE_BITS,
               "an entry has room for every image");
static struct tracked_image first_images[FIRST_IMAGES];
static struct tracked_image *chunks[CHUNKS];
static uint32_t images_used = 1; /* number 0 means none */
static uint32_t free_images;
static uint32_t buckets[BUCKETS];

/* The chunk of an image behind the first ones. */
static unsigned chunk_of(uint32_t number)
{
    return (unsigned)(__builtin_clz(FIRST_IMAGES) - __builtin_clz(number));
}

static uint32_t chunk_size(unsigned chunk)
{
    return (uint32_t)FIRST_IMAGES << chunk;
}

struct tracked_image *images_at(uint32_t number)
{
    if (number < FIRST_IMAGES) return &first_images[number];
    unsigned chunk = chunk_of(number);
    return &chunks[chunk][number - chunk_size(chunk)];
}

/* Entries that had a hold when a private descriptor got their number: the close that gave the number back is on its way
 * to tell, and finds them no more.  Their holds are dropped at the end of the section, since whoever is inside may be
 * at work on the image.  For a lock by path and one by inode, each of which may be taken twice. */
enum { DISPLACED = 4 };
static uint64_t displaced[DISPLACED];
static unsigned displaced_count;

/* The entry of a private descriptor that is new.  False without memory. */
bool images_set_private(int descriptor, uint32_t image)
{
    SECTION_ASSERT();
    _Atomic uint64_t *slot = table_slot((unsigned)descriptor);
    if (!slot) return false;
    uint64_t stale = atomic_exchange(slot, table_make(TABLE_PRIVATE, true, image));
    if (table_is_hold(stale) && displaced_count < DISPLACED) displaced[displaced_count++] = stale;
    /* Another private descriptor's, which a call that we cannot see has closed: the number is not its image's any more.
     */
    uint32_t former = table_kind(stale) == TABLE_PRIVATE ? table_image(stale) : 0;
    if (former && former != image && images_at(former)->lock.descriptor == descriptor)
        images_at(former)->lock.descriptor = -1;
    if (former && images_at(former)->kept == descriptor) images_at(former)->kept = 0;
    return true;
}

void images_drop_displaced(void)
{
    SECTION_ASSERT();
    while (__builtin_expect(displaced_count != 0, 0)) {
        uint64_t entry = displaced[--displaced_count];
        images_uncount(table_image(entry), table_mode(entry), !(entry & TABLE_CLOSE_ON_EXEC));
    }
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

uint32_t images_find(const struct lock_name *name)
{
    SECTION_ASSERT();
    for (uint32_t number = *bucket_of(name); number; number = images_at(number)->next)
        if (memcmp(images_at(number)->name.hex, name->hex, sizeof name->hex) == 0) return number;
    return 0;
}

bool images_certainly_without(const struct lock_name *name)
{
    return __atomic_load_n(bucket_of(name), __ATOMIC_RELAXED) == 0;
}

/* A new, empty image in its bucket; 0 without memory. */
static uint32_t add_image(const struct lock_name *name)
{
    uint32_t number = free_images;
    if (number) {
        free_images = images_at(number)->next;
    } else {
        number = images_used;
        if (number >= FIRST_IMAGES) {
            unsigned chunk = chunk_of(number);
            if (chunk >= CHUNKS) return 0;
            if (!chunks[chunk]) chunks[chunk] = sys_mmap(chunk_size(chunk) * sizeof(struct tracked_image));
            if (!chunks[chunk]) return 0;
        }
        images_used++;
    }
    struct tracked_image *image = images_at(number);
    *image = (struct tracked_image){.name = *name, .lock = {.descriptor = -1, .slot = -1}, .next = *bucket_of(name)};
    *bucket_of(name) = number;
    return number;
}

static void remove_image(uint32_t number)
{
    struct tracked_image *image = images_at(number);
    uint32_t *link = bucket_of(&image->name);
    while (*link != number) link = &images_at(*link)->next;
    *link = image->next;
    image->next = free_images;
    free_images = number;
}

/* ---- counting ------------------------------------------------------------------------------------------- */

static void set_private_close_on_exec(struct tracked_image *image)
{
    bool through_exec = image->inheritable;
    if (image->lock.descriptor < 0 || image->through_exec == through_exec) return;
    sys_fcntl(image->lock.descriptor, F_SETFD, through_exec ? 0 : FD_CLOEXEC);
    if (image->kept) sys_fcntl(image->kept, F_SETFD, through_exec ? 0 : FD_CLOEXEC);
    image->through_exec = through_exec;
}

void images_count_inheritable(uint32_t number, int change)
{
    SECTION_ASSERT();
    for (; number; number = images_at(number)->companion) {
        struct tracked_image *image = images_at(number);
        image->inheritable += (uint32_t)change;
        set_private_close_on_exec(image);
    }
}

/* May another process have the lock's description as well? */
static bool is_shared(const struct tracked_image *image)
{
    return image->inherited || children_may_have(image->opened);
}

bool images_is_shared(uint32_t number)
{
    SECTION_ASSERT();
    return is_shared(images_at(number));
}

/* A description that came from another process is kept when this one takes a lock of its own: by it the other knows us
 * for a relative, as long as we have the image. */
static bool keep_inherited(struct tracked_image *image)
{
    if (!image->inherited || image->kept || image->lock.descriptor <= 0) return false;
    image->kept = image->lock.descriptor;
    image->lock.descriptor = -1;
    return true;
}

static void close_kept(struct tracked_image *image)
{
    if (!image->kept) return;
    table_set(image->kept, 0);
    sys_close(image->kept);
    image->kept = 0;
}

/* The private descriptor is about to be closed: a child may keep it under this number. */
static void forget_private(const struct tracked_image *image)
{
    table_set(image->lock.descriptor, 0);
    if (is_shared(image)) children_keep(&image->name, image->lock.descriptor);
}

static void close_lock(struct tracked_image *image)
{
    if (image->lock.descriptor < 0) return;
    forget_private(image);
    lock_release(&image->lock);
}

static struct audit_image audited(const struct tracked_image *image)
{
    return (struct audit_image){.name = &image->name,
                                .lock_descriptor = image->lock.descriptor,
                                .device = image->device,
                                .inode = image->inode};
}

static void release_image(uint32_t number)
{
    struct tracked_image *image = images_at(number);
    if (settings_get()->audit && image->since) {
        struct audit_image about = audited(image);
        audit_release(settings_get(), &about, image->lock.mode, image->since);
    }
    close_lock(image);
    close_kept(image);
    remove_image(number);
    watcher_unwatch();
}

void images_count(uint32_t number, enum lock_mode mode)
{
    SECTION_ASSERT();
    for (; number; number = images_at(number)->companion) {
        if (mode == LOCK_EXCLUSIVE)
            images_at(number)->writers++;
        else
            images_at(number)->readers++;
    }
}

/* Lowers a lock that nobody needs exclusively any more. */
static void lower_if_possible(struct tracked_image *image)
{
    if (image->writers || image->lock.mode != LOCK_EXCLUSIVE || is_shared(image)) return;
    if (!lock_is_held(&image->lock)) return; /* passed on */
    struct lock_problem ignored;
    struct lock_request request = {.mode = LOCK_SHARED};
    if (lock_convert(&image->lock, &request, &ignored) != LOCK_TAKEN || !settings_get()->audit) return;
    struct audit_image about = audited(image);
    audit_convert(settings_get(), &about, LOCK_EXCLUSIVE, LOCK_SHARED);
}

/* Scripts ask for bytes 0-1 alone: whose lock lies beside another's moves there when that is gone.  No event tells of
 * it, so it is tried when the image is opened or closed.  Not of a description that a child may have, which would look
 * for its lock where it was. */
static void come_forward(struct tracked_image *image)
{
    if (lock_is_beside(&image->lock) && !image->lost && !is_shared(image) && lock_is_held(&image->lock))
        lock_come_forward(&image->lock);
}

void images_uncount(uint32_t number, enum lock_mode mode, bool inheritable)
{
    SECTION_ASSERT();
    while (number) {
        struct tracked_image *image = images_at(number);
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
            come_forward(image);
        }
        number = companion;
    }
}

/* ---- locks ---------------------------------------------------------------------------------------------- */

/* lock_take, told what this process knows of its own descriptions of the lock file: the one that it has open, -1: none,
 * and those that it has closed while a child may keep them. */
static enum lock_result take_knowing(int descriptor, const struct lock_request *request, struct lock *lock, int *opened,
                                     struct lock_problem *problem)
{
    struct relatives_known known = {.descriptor = descriptor};
    struct lock_request told = *request;
    children_given(request->name, &known);
    told.known = &known;
    return lock_take(&told, lock, opened, problem);
}

_Atomic bool images_distant;

void images_note_distant(uint32_t number)
{
    images_at(number)->answered = sys_monotonic();
    images_distant = true;
}

static void note_place(uint32_t number)
{
    if (__builtin_expect(images_at(number)->lock.place != LOCK_HERE, 0)) images_note_distant(number);
}

static enum lock_mode mode_needed(const struct tracked_image *image)
{
    return image->writers ? LOCK_EXCLUSIVE : LOCK_SHARED;
}

/* Takes a lock again whose descriptor is gone, on another one.  *opened: the lock file, where others have it. */
static enum lock_result take_again(uint32_t number, enum lock_mode mode, int *opened)
{
    struct tracked_image *image = images_at(number);
    const struct settings *settings = settings_get();
    struct lock_request request = {.name = &image->name,
                                   .directory = settings->directory,
                                   .image_path = "",
                                   .mode = mode,
                                   .through_exec = image->inheritable,
                                   .relatives = settings->family,
                                   .block = image->lock.block,
                                   .reason = settings->reason,
                                   .deadline = sys_monotonic() + LOCK_GRACE_NS,
                                   .section = section_process()};
    struct lock_problem ignored;
    if (image->lock.descriptor >= 0 && table_image(table_entry(image->lock.descriptor)) == number &&
        table_is_private(image->lock.descriptor))
        table_set(image->lock.descriptor, 0);
    image->opened = children_now();
    image->inherited = image->forked = false;
    const enum lock_result result = take_knowing(-1, &request, &image->lock, opened, &ignored);
    if (result != LOCK_TAKEN) return result;
    images_set_private(image->lock.descriptor, number);
    image->through_exec = image->inheritable;
    return result;
}

/* A private descriptor was closed by a call that we cannot see.  The lock is gone with it, unless a child has it, too;
 * takes it again, at another number. */
static void renew_private(uint32_t number)
{
    struct tracked_image *image = images_at(number);
    const struct settings *settings = settings_get();
    const enum lock_mode mode = image->lock.mode < LOCK_SHARED ? image->lock.mode : mode_needed(image);
    int opened = -1;
    const bool regained = take_again(number, mode, &opened) == LOCK_TAKEN;
    const struct message_loss loss = {
        .lock_descriptor = opened, .mode = mode, .why = "the program closed the lock's descriptor"};
    struct audit_image about = audited(image);
    if (!regained) about.lock_descriptor = opened;
    audit_lost(settings, &about, mode, regained);
    if (!regained) message_lost(settings, &loss);
    if (opened >= 0) sys_close(opened);
}

int images_renew(uint32_t number)
{
    SECTION_ASSERT();
    int opened = -1;
    close_lock(images_at(number));
    const enum lock_result result = take_again(number, mode_needed(images_at(number)), &opened);
    if (opened >= 0) sys_close(opened);
    return result == LOCK_TAKEN ? 1 : result == LOCK_BUSY ? -EAGAIN : -EIO;
}

static enum lock_result no_memory(struct lock_problem *problem, const char *what)
{
    *problem = (struct lock_problem){.error = ENOMEM, .what = what, .owner = (uid_t)-1};
    return LOCK_FAILED;
}

/* Takes a lock on an open file description of its own, beside the one that other processes may have as well, or where
 * there is none any more; and has that one's place then. */
static enum lock_result take_own(uint32_t number, const struct lock_request *request, int *opened,
                                 struct lock_problem *problem)
{
    struct tracked_image *image = images_at(number);
    struct lock_request own = *request;
    struct lock fresh;
    own.through_exec = image->inheritable;
    const children_moment before = children_now();
    enum lock_result result = take_knowing(image->lock.descriptor, &own, &fresh, opened, problem);
    if (result != LOCK_TAKEN) return result;
    if (!images_set_private(fresh.descriptor, number)) {
        lock_release(&fresh);
        return no_memory(problem, "no memory for another descriptor");
    }
    if (!keep_inherited(image)) close_lock(image);
    image->lock = fresh;
    image->through_exec = image->inheritable;
    image->opened = before;
    image->inherited = image->forked = image->lost = false;
    come_forward(image);
    note_place(number);
    return LOCK_TAKEN;
}

/* What this process has of the lock already is looked at before it is built upon: the program may have closed the
 * private descriptor by a system call of its own, and imglock handoff may have passed the lock on. */
static enum lock_result use_held(uint32_t number, const struct lock_request *request, int *opened,
                                 struct lock_problem *problem)
{
    struct tracked_image *image = images_at(number);
    if (!image->lost && !lock_is_open(&image->lock)) renew_private(number);
    if (image->lost || image->lock.descriptor < 0) {
        struct lock_request stronger = *request;
        if (image->writers) stronger.mode = LOCK_EXCLUSIVE;
        return take_own(number, &stronger, opened, problem);
    }
    come_forward(image);
    /* A fork child's own open has a lock of its own: by that it stays in, and is seen, when imglock handoff takes the
     * inherited one from all who have it. */
    if (image->forked && image->lock.mode >= LOCK_SHARED && request->mode >= LOCK_SHARED)
        return take_own(number, request, opened, problem);
    if (image->lock.mode < request->mode) {
        enum lock_result result = is_shared(image) ? LOCK_BUSY : lock_convert(&image->lock, request, problem);
        /* A relative that has it shared is let past on a description of our own. */
        return result == LOCK_BUSY && !problem->blocked ? take_own(number, request, opened, problem) : result;
    }
    if (lock_is_held(&image->lock)) {
        problem->blocked = blocker_find(image->lock.descriptor, request->operations);
        return problem->blocked ? LOCK_BUSY : LOCK_TAKEN;
    }
    /* Passed on.  A child that came to the lock by its parent has nothing by it any more. */
    if (image->inherited) return take_own(number, request, opened, problem);
    /* Whom it was taken from goes on as in IMGLOCK_MODE=inactive. */
    return request->operations & 1u << OPERATION_TRUNCATE ? LOCK_BUSY : LOCK_TAKEN;
}

/* Brings one lock of this process to at least the wanted mode; *before is the mode that it had.  *number: the image,
 * made if need be.  watch: after LOCK_BUSY the image is there all the same, without a lock. */
enum lock_result images_take(const struct lock_request *request, bool watch, uint32_t *number, int *opened,
                             enum lock_mode *before, struct lock_problem *problem)
{
    SECTION_ASSERT();
    *before = LOCK_NONE;
    *number = images_find(request->name);
    if (*number) {
        *before = images_at(*number)->lock.mode;
        return use_held(*number, request, opened, problem);
    }
    *number = add_image(request->name);
    if (!*number) return no_memory(problem, "no memory for another image");
    struct tracked_image *image = images_at(*number);
    image->through_exec = request->through_exec;
    image->opened = children_now();
    enum lock_result result = take_knowing(-1, request, &image->lock, opened, problem);
    watch = watch && result == LOCK_BUSY;
    if (watch) lock_watch(&image->lock, request, opened);
    if ((result == LOCK_TAKEN || watch) && !images_set_private(image->lock.descriptor, *number)) {
        lock_release(&image->lock);
        result = no_memory(problem, "no memory for another descriptor");
    }
    note_place(*number);
    if (result == LOCK_TAKEN || (watch && result == LOCK_BUSY)) {
        if (settings_get()->audit) image->since = audit_now();
    } else {
        remove_image(*number);
        *number = 0;
    }
    return result;
}

void images_settle(uint32_t number)
{
    SECTION_ASSERT();
    if (!number) return;
    if (images_at(number)->readers + images_at(number)->writers == 0)
        release_image(number);
    else
        lower_if_possible(images_at(number));
}

void images_adopt(const struct lock_name *name, int descriptor)
{
    SECTION_ASSERT();
    if (images_find(name) || !table_slot((unsigned)descriptor)) return;
    uint32_t number = add_image(name);
    if (!number) return;
    struct tracked_image *image = images_at(number);
    image->inherited = true;
    image->through_exec = true;
    lock_adopt(&image->lock, descriptor, settings_get()->reason);
    images_set_private(descriptor, number);
}

void images_release_unused(void)
{
    SECTION_ASSERT();
    for (uint32_t number = 1; number < images_used; number++) {
        const struct tracked_image *image = images_at(number);
        if (image->lock.descriptor >= 0 && image->readers + image->writers == 0) release_image(number);
    }
}

void images_move_private(uint32_t number, int from, int copy)
{
    SECTION_ASSERT();
    struct tracked_image *image = images_at(number);
    images_set_private(copy, number);
    if (from == image->kept) {
        table_set(from, 0);
        image->kept = copy;
        return;
    }
    forget_private(image);
    image->lock.descriptor = copy;
}

void images_lost_private(int descriptor)
{
    SECTION_ASSERT();
    uint32_t number = table_image(table_entry(descriptor));
    if (images_at(number)->kept == descriptor) {
        images_at(number)->kept = 0;
        table_set(descriptor, 0);
        return;
    }
    if (images_at(number)->lock.descriptor != descriptor) return;
    table_set(descriptor, 0);
    renew_private(number);
}

void images_inherit_all(void)
{
    SECTION_ASSERT();
    for (uint32_t number = 1; number < images_used; number++)
        images_at(number)->inherited = images_at(number)->forked = true;
}

/* ---- the descriptors of a file ---------------------------------------------------------------------------- */

/* It may be closed by now, and another's. */
bool images_is_open_on(int descriptor, dev_t device, ino_t inode)
{
    struct stat status;
    const int result = sys_fstat(descriptor, &status);
    /* An error of another kind says nothing of whose number it is. */
    if (result < 0) return result != -EBADF;
    return status.st_dev == device && status.st_ino == inode;
}

int images_next_of_file(int64_t first, dev_t device, ino_t inode, uint64_t *entry)
{
    SECTION_ASSERT();
    for (int64_t at = first; (at = table_next((unsigned)at, INT_MAX)) >= 0; at++) {
        *entry = table_entry((int)at);
        if (!table_is_hold(*entry)) continue;
        const struct tracked_image *image = images_at(table_image(*entry));
        if (image->device == device && image->inode == inode && images_is_open_on((int)at, device, inode))
            return (int)at;
    }
    return -1;
}

/* ---- two names of one image ----------------------------------------------------------------------------- */

/* Does the image's chain of companions come by this one? */
static bool chain_has(uint32_t number, uint32_t wanted)
{
    while (number && number != wanted) number = images_at(number)->companion;
    return number != 0;
}

/* Puts an image's chain behind another's: who holds the first holds the second from now on. */
static void chain(uint32_t first, uint32_t second)
{
    while (images_at(first)->companion) first = images_at(first)->companion;
    const struct tracked_image *end = images_at(first);
    for (uint32_t number = second; number; number = images_at(number)->companion) {
        images_at(number)->readers += end->readers;
        images_at(number)->writers += end->writers;
        images_at(number)->inheritable += end->inheritable;
        set_private_close_on_exec(images_at(number));
    }
    images_at(first)->companion = second;
}

/* The chain for a hold of this image by both its locks.  Another file may have come under the path since the image was
 * opened first: its lock by inode then leads to those that are there. */
uint32_t images_join(uint32_t by_path, uint32_t by_inode, struct lock_problem *problem)
{
    SECTION_ASSERT();
    if (chain_has(by_path, by_inode)) return by_path;
    if (chain_has(by_inode, by_path)) return by_inode;
    if (!images_at(by_path)->companion) {
        chain(by_path, by_inode);
        return by_path;
    }
    for (uint32_t number = by_inode; number; number = images_at(number)->companion)
        if (chain_has(by_path, number)) {
            no_memory(problem, "too many names of one image"); /* files that have changed names twice */
            return 0;
        }
    chain(by_inode, by_path);
    return by_inode;
}
