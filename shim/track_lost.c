#include "track_lost.h"

#include "asking.h"
#include "audit.h"
#include "images.h"
#include "lock_file.h"
#include "markers.h"
#include "message.h"
#include "settings.h"
#include "sys.h"
#include "table.h"
#include "track_process.h"

/* Says who has it, and writes it down. */
static void tell_loss(const struct asking_loss *loss)
{
    const struct settings *settings = settings_get();
    struct lock_problem ignored;
    struct marker marker;
    /* By another description the process's own claims would be seen, had it any left. */
    const int opened = lock_open_existing(settings->directory, &loss->name, &ignored);
    const struct message_loss said = {.lock_descriptor = opened,
                                      .mode = loss->mode,
                                      .why = loss->cut_off ? "its server has ended it" : "its server has forgotten it",
                                      .marker = loss->marks ? &marker : NULL,
                                      .fails = settings->fail_on_lost};
    const struct audit_image about = {.name = &loss->name, .lock_descriptor = opened, .marker = said.marker};
    if (loss->marks) {
        const struct markers_question question = markers_question_of(loss->descriptor, loss->mode, loss->access);
        markers_look(&question, true, &marker);
    }
    message_lost(settings, &said);
    audit_lost(settings, &about, loss->mode, false);
    if (opened >= 0) sys_close(opened);
}

/* Whoever opens the image, to be refused, locks and marks it for a moment; so it takes one until those of somebody are
 * believed to be there. */
static void ask_again(int descriptor, const struct lock_name *name)
{
    enum { LOOKING_NS = 1000 * 1000 * 1000, PAUSE_NS = 20 * 1000 * 1000 };
    struct asking_loss loss = {.cut_off = false};
    int64_t end = 0;
    for (bool certain = false;; certain = sys_monotonic() >= end) {
        sys_signals before;
        enum asking_answer answer = ASKING_KEPT;
        if (track_enter(&before)) {
            const uint64_t entry = name ? 0 : table_entry(descriptor);
            const uint32_t number = name ? images_find(name) : table_is_hold(entry) ? table_image(entry) : 0;
            if (number) answer = asking_ask(number, !name, certain, &loss);
        }
        track_leave(&before);
        if (answer == ASKING_LOST) tell_loss(&loss);
        if (answer != ASKING_DOUBTFUL) return;
        if (!end) end = sys_monotonic() + LOOKING_NS;
        sys_sleep(PAUSE_NS);
    }
}

void track_ask_again(int descriptor)
{
    if (__builtin_expect(images_distant, 0)) ask_again(descriptor, NULL);
}

void track_ask_again_of(const struct lock_name *name)
{
    if (__builtin_expect(images_distant, 0)) ask_again(-1, name);
}
