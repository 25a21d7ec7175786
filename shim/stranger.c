#include "stranger.h"

#include "pause.h"
#include "sys.h"

struct markers_question stranger_markers(const struct stranger_question *question)
{
    struct markers_question markers = markers_question_of(question->descriptor, question->mode, question->access);
    markers.ancestors = question->settings->family;
    markers.lock_descriptor = question->lock_descriptor;
    markers.recorded = question->recorded;
    return markers;
}

static bool is_for_an_instant(const struct stranger_question *question)
{
    const int64_t end = sys_monotonic() + PAUSE_INSTANT_NS;
    do {
        if (!mark_is_in_the_way(question->descriptor, question->mode, question->access, NULL)) return true;
    } while (sys_pause(end));
    return false;
}

bool stranger_is_there(const struct stranger_question *question, struct stranger *stranger)
{
    if (!mark_is_in_the_way(question->descriptor, question->mode, question->access, NULL)) return false;
    const struct markers_question markers = stranger_markers(question);
    if (markers_look(&markers, false, &stranger->marker) == MARKERS_NO_STRANGERS || is_for_an_instant(question) ||
        markers_look(&markers, true, &stranger->marker) == MARKERS_NO_STRANGERS)
        return false;
    stranger_see(question, stranger);
    return true;
}

static bool finds_outsider(const struct stranger_question *question, struct outsider *outsider)
{
    const struct outsiders_question outsiders = {.device = question->device,
                                                 .inode = question->inode,
                                                 .path = question->path,
                                                 .lock_descriptor = question->lock_descriptor,
                                                 .skipped = question->descriptor,
                                                 .ancestors = question->settings->family,
                                                 .marked = true,
                                                 .readers = question->mode == LOCK_EXCLUSIVE};
    return outsiders_find(&outsiders, outsider) == OUTSIDERS_FOUND;
}

void stranger_see(const struct stranger_question *question, struct stranger *stranger)
{
    const struct marker *marker = &stranger->marker;
    stranger->outsider = (struct outsider){.kind = OUTSIDER_UNSEEN};
    stranger->counted = !marker->pid && !marker->use && finds_outsider(question, &stranger->outsider);
    stranger->outside = stranger->counted ? !stranger->outsider.library : marker->outside;
}

enum stranger_verdict stranger_judge(const struct settings *settings, const struct stranger *stranger)
{
    if (!stranger->outside || settings->outsiders == OUTSIDERS_DENY) return STRANGER_IN_THE_WAY;
    return settings->outsiders == OUTSIDERS_WARN ? STRANGER_LET_PAST : STRANGER_IGNORED;
}

void stranger_tell(const struct settings *settings, const char *path, const char *action, int lock_descriptor,
                   const struct stranger *stranger, const struct message_advice *advice)
{
    if (stranger->counted)
        message_outsider(settings, path, action, &stranger->outsider);
    else
        message_conflict(settings, path, action, lock_descriptor, LOCK_EXCLUSIVE, 0, &stranger->marker, advice);
}
