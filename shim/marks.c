#include "marks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>

#include "images.h"
#include "markers.h"
#include "policy.h"
#include "section.h"
#include "sys.h"
#include "table.h"

/* ---- files that the program locks itself ---------------------------------------------------------------- */

/* An entry stays: the program may close the file and open it again.  With more of them none is marked any more. */
enum { FILES = 64 };
static struct {
    _Atomic bool filled;
    dev_t device;
    ino_t inode;
} given_up[FILES];
static _Atomic unsigned given_up_count;

static bool is_entered(dev_t device, ino_t inode)
{
    const unsigned count = atomic_load_explicit(&given_up_count, memory_order_relaxed);
    for (unsigned i = 0; i < count && i < FILES; i++)
        if (atomic_load_explicit(&given_up[i].filled, memory_order_acquire) && given_up[i].device == device &&
            given_up[i].inode == inode)
            return true;
    return false;
}

bool marks_are_given_up(dev_t device, ino_t inode)
{
    return atomic_load_explicit(&given_up_count, memory_order_relaxed) > FILES || is_entered(device, inode);
}

/* ---- the process's descriptors of a file ---------------------------------------------------------------- */

/* What the process has of the file beside one descriptor. */
enum others { OTHERS_NONE, OTHERS_OWN, OTHERS_SHARED };

static enum others others_of(int descriptor, dev_t device, ino_t inode)
{
    enum others others = OTHERS_NONE;
    uint64_t entry;
    for (int at = -1; (at = images_next_of_file(at + 1, device, inode, &entry)) >= 0;) {
        if (at == descriptor) continue;
        if (images_is_shared(table_image(entry))) return OTHERS_SHARED;
        others = OTHERS_OWN;
    }
    return others;
}

static void clear_others(int descriptor, dev_t device, ino_t inode)
{
    uint64_t entry;
    for (int at = -1; (at = images_next_of_file(at + 1, device, inode, &entry)) >= 0;) {
        if (at == descriptor) continue;
        mark_clear(at);
        /* Should it stay after all. */
        if (entry & TABLE_CLOSING) images_at(table_image(entry))->unmarked = true;
    }
}

static int mark_as_opened(int descriptor, uint64_t entry)
{
    const int flags = sys_fcntl(descriptor, F_GETFL, 0);
    return flags < 0 ? 0 : mark_set(descriptor, table_mode(entry), flags & O_ACCMODE);
}

/* False: some of them could not be marked. */
static bool set_others(int descriptor, dev_t device, ino_t inode)
{
    bool all = true;
    uint64_t entry;
    for (int at = -1; (at = images_next_of_file(at + 1, device, inode, &entry)) >= 0;)
        if (at != descriptor && !(entry & TABLE_CLOSING)) all &= mark_as_opened(at, entry) == 0;
    return all;
}

/* ---- one open ------------------------------------------------------------------------------------------- */

static bool announce(const struct marks_request *request, enum lock_mode mode, bool set, struct bytes_found *found)
{
    const bool excluded = set && mark_set(request->descriptor, mode, request->access) < 0;
    return mark_is_in_the_way(request->descriptor, mode, request->access, found) || excluded;
}

/* Is a stranger in the way, or may be?  Not if all that is in the way is relatives', or of those between whom the lock
 * has decided. */
static bool may_be_stranger(const struct tracked_image *image, enum lock_mode mode, const struct marks_request *request)
{
    struct marker ignored;
    struct markers_question question = markers_question_of(request->descriptor, mode, request->access);
    question.ancestors = settings_get()->family;
    question.lock_descriptor = image->lock.descriptor;
    return markers_look(&question, false, &ignored) == MARKERS_STRANGERS;
}

/* Asks again without what the process itself has; its new descriptor stands in for all meanwhile. */
static bool ask_alone(struct tracked_image *image, enum lock_mode mode, const struct marks_request *request, bool set,
                      struct bytes_found *found)
{
    const bool stands_in = set && image->writers && mode != LOCK_EXCLUSIVE;
    if (stands_in) mark_set(request->descriptor, LOCK_EXCLUSIVE, request->access);
    if (set) clear_others(request->descriptor, image->device, image->inode);
    const bool busy = announce(request, mode, set, found) && may_be_stranger(image, mode, request);
    if (set && !set_others(request->descriptor, image->device, image->inode)) image->unmarked = true;
    if (stands_in) {
        mark_clear(request->descriptor);
        mark_set(request->descriptor, mode, request->access);
    }
    return busy;
}

enum marks_answer marks_put(uint32_t number, enum lock_mode mode, const struct marks_request *request,
                            struct bytes_found *found)
{
    SECTION_ASSERT();
    struct tracked_image *image = images_at(number);
    const dev_t device = request->device;
    const ino_t inode = request->inode;
    const enum mark_place place = mode < LOCK_SHARED ? MARK_NOWHERE : mark_place(request->descriptor, device);
    if (place == MARK_NOWHERE) return MARKS_FREE;
    if (__builtin_expect(place == MARK_DISTANT && !image->distant, 0)) {
        image->distant = true;
        images_note_distant(number);
    }
    if (request->inherited && mark_is_locked_otherwise(request->descriptor)) marks_give_up(device, inode);
    const bool by_itself = marks_are_given_up(device, inode);
    const bool set = request->set && !by_itself;
    /* Another file lies at the name by now, about which nobody was asked. */
    if (image->device != device || image->inode != inode) image->asked = LOCK_NONE;
    if (request->inside || image->asked >= mode) {
        if (set && mark_set(request->descriptor, mode, request->access) < 0) image->unmarked = true;
        marks_accept(number, mode);
        return MARKS_FREE;
    }
    image->device = device;
    image->inode = inode;
    enum marks_answer answer = MARKS_FREE;
    if (announce(request, mode, set, found)) {
        switch (others_of(request->descriptor, device, inode)) {
        case OTHERS_NONE:
            if (may_be_stranger(image, mode, request)) answer = MARKS_TAKEN;
            break;
        case OTHERS_OWN:
            /* A program's own locks are not to be told from others'. */
            if (!by_itself && ask_alone(image, mode, request, set, found)) answer = MARKS_TAKEN_BESIDE;
            break;
        case OTHERS_SHARED:
            image->unmarked |= set;
            break;
        }
    }
    if (answer == MARKS_FREE) marks_accept(number, mode);
    return answer;
}

/* The one of the process's descriptors of the file that asks for most, or -1. */
static int find_strongest(dev_t device, ino_t inode, enum lock_mode *mode)
{
    uint64_t entry;
    int strongest = -1;
    for (int at = -1; (at = images_next_of_file(at + 1, device, inode, &entry)) >= 0;) {
        if (entry & TABLE_CLOSING || (strongest >= 0 && table_mode(entry) <= *mode)) continue;
        strongest = at;
        *mode = table_mode(entry);
    }
    return strongest;
}

bool marks_ask_again(uint32_t number, int *descriptor, int *access, enum lock_mode *mode)
{
    SECTION_ASSERT();
    struct tracked_image *image = images_at(number);
    struct bytes_found found = {.type = F_RDLCK};
    *descriptor = find_strongest(image->device, image->inode, mode);
    const int flags = *descriptor < 0 ? -1 : sys_fcntl(*descriptor, F_GETFL, 0);
    if (flags < 0) return true;
    *access = flags & O_ACCMODE;
    const struct marks_request request = {.descriptor = *descriptor, .access = *access};
    const enum others others = others_of(*descriptor, image->device, image->inode);
    if (others != OTHERS_OWN && !set_others(-1, image->device, image->inode)) image->unmarked = true;
    switch (others) {
    case OTHERS_NONE:
        return !mark_is_in_the_way(*descriptor, *mode, *access, &found) || !mark_contradicts(&found) ||
               !may_be_stranger(image, *mode, &request);
    case OTHERS_OWN:
        return !ask_alone(image, *mode, &request, true, &found) || !mark_contradicts(&found);
    case OTHERS_SHARED:
        break;
    }
    return true;
}

void marks_accept(uint32_t number, enum lock_mode mode)
{
    SECTION_ASSERT();
    struct tracked_image *image = images_at(number);
    if (image->asked < mode) image->asked = mode;
}

bool marks_are_closing(dev_t device, ino_t inode)
{
    SECTION_ASSERT();
    for (int64_t at = -1; (at = table_next((unsigned)(at + 1), INT_MAX)) >= 0;) {
        const uint64_t entry = table_entry((int)at);
        if (!table_is_hold(entry) || !(entry & TABLE_CLOSING)) continue;
        const struct tracked_image *image = images_at(table_image(entry));
        if (image->device == device && image->inode == inode) return true;
    }
    return false;
}

void marks_renew(uint32_t number)
{
    SECTION_ASSERT();
    struct tracked_image *image = images_at(number);
    if (!image->readers && !image->writers) return;
    if (!image->writers && image->asked > LOCK_SHARED) image->asked = LOCK_SHARED;
    if (__builtin_expect(!image->unmarked, 1)) return;
    if (!marks_are_given_up(image->device, image->inode))
        image->unmarked = !set_others(-1, image->device, image->inode);
}

/* ---- giving up ------------------------------------------------------------------------------------------ */

/* One file too many: the marks of all go, but not the program's own locks on those whose marks went before. */
static void clear_all(void)
{
    for (int64_t at = -1; (at = table_next((unsigned)(at + 1), INT_MAX)) >= 0;) {
        const uint64_t entry = table_entry((int)at);
        if (!table_is_hold(entry)) continue;
        const struct tracked_image *image = images_at(table_image(entry));
        if (!is_entered(image->device, image->inode) && images_is_open_on((int)at, image->device, image->inode))
            mark_clear((int)at);
    }
}

void marks_give_up(dev_t device, ino_t inode)
{
    SECTION_ASSERT();
    if (marks_are_given_up(device, inode)) return;
    const unsigned index = given_up_count;
    if (index < FILES) {
        given_up[index].device = device;
        given_up[index].inode = inode;
        atomic_store_explicit(&given_up[index].filled, true, memory_order_release);
    }
    given_up_count = index + 1;
    if (index < FILES)
        clear_others(-1, device, inode);
    else
        clear_all();
}
