#include "device.h"

#include "block_device.h"
#include "pause.h"
#include "relatives.h"
#include "sys.h"
#include "text.h"

struct looking {
    const struct device_question *question;
    struct lock_problem *problem;
    int found; /* the lock file of one that is in the way; -1: none */
    bool failed;
};

/* Is the lock of this device, of the same storage, in the way? */
static bool look_at_related(dev_t related, void *context)
{
    struct looking *looking = context;
    const struct settings *settings = looking->question->settings;
    struct lock_name name;
    lock_name_of_device(related, &name);
    if (looking->question->is_own(&name)) return true;
    const int opened = lock_open_existing(settings->directory, &name, looking->problem);
    if (opened == -ENOENT) return true;
    if (opened < 0) {
        looking->failed = true;
        return false;
    }
    const struct relatives_question question = {
        .lock_descriptor = opened, .mode = looking->question->mode, .ancestors = settings->family, .once = true};
    if (relatives_in_the_way(&question) == RELATIVES_STRANGERS) {
        looking->found = opened;
        return false;
    }
    sys_close(opened);
    return true;
}

/* Somebody has it for himself; who?  A mount is nobody's of this process.  What else it is may be an open of its own,
 * as cryptsetup's, which keeps a device so while it writes by a second descriptor. */
static bool is_in_use(const struct device_question *question, char *use, size_t size)
{
    char point[128];
    struct text text = text_in(use, size);
    if (block_device_mount_point(question->device, point, sizeof point)) {
        text_append(&text, "mounted on ");
        text_append(&text, point);
        return true;
    }
    if (question->descriptor < 0 || question->family ||
        block_device_is_open_here(question->device, question->descriptor))
        return false;
    /* Whoever looks as we do has it for an instant. */
    for (const int64_t end = sys_monotonic() + PAUSE_INSTANT_NS; sys_pause(end);)
        if (!block_device_is_claimed(question->descriptor)) return false;
    text_append(&text, "in use by the kernel (swap, part of another device, mounted elsewhere), "
                       "or by a program that has it for itself");
    return true;
}

static enum device_answer ask(const struct device_question *question, struct device_taken *taken)
{
    struct looking looking = {question, &taken->problem, -1, false};
    block_device_each_related(question->device, look_at_related, &looking);
    taken->lock_descriptor = looking.found;
    if (looking.failed) return DEVICE_UNKNOWN;
    if (looking.found >= 0) return DEVICE_TAKEN;
    return question->writes && (question->descriptor < 0 || block_device_is_claimed(question->descriptor)) &&
                   is_in_use(question, taken->use, sizeof taken->use)
               ? DEVICE_TAKEN
               : DEVICE_FREE;
}

enum device_answer device_ask(const struct device_question *question, struct device_taken *taken)
{
    static const sys_signals all = SYS_ALL_SIGNALS;
    sys_signals before;
    /* A handler that jumps away would leave descriptors behind, one of which keeps the device from all others. */
    sys_sigmask(SIG_BLOCK, &all, &before);
    const enum device_answer answer = ask(question, taken);
    sys_sigmask(SIG_SETMASK, &before, NULL);
    return answer;
}
