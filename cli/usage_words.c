/* usage_words.c: a usage in words. */
#include "usage_words.h"

#include <string.h>

#include "outsiders.h"
#include "policy.h"

const char *usage_mode_name(const struct usage *usage)
{
    return usage->mode == LOCK_NONE && !usage->noted ? "unlocked" : policy_mode_name(usage->mode);
}

const char *usage_kind_name(enum usage_kind kind)
{
    static const char *const names[] = {
        [KIND_HOLDER] = "holder",         [KIND_HELPER] = "helper",   [KIND_INHERITED] = "inherited",
        [KIND_UNRECORDED] = "unrecorded", [KIND_FOREIGN] = "foreign", [KIND_BLOCKER] = "blocker",
        [KIND_WAITING] = "waiting",       [KIND_MARKED] = "marked",   [KIND_QEMU] = "qemu",
        [KIND_LOCKED] = "locked",         [KIND_MOUNTED] = "mounted", [KIND_OPEN] = "open"};
    return names[kind];
}

static void append_open(struct text *text, const struct usage *usage)
{
    text_append(text, usage->loop >= 0 ? "loop device, for " : usage->mapped ? "mapped for " : "open for ");
    text_append(text, usage->writes ? "writing" : "reading");
}

/* ", mounted on /mnt", where a loop device is. */
static void append_mount(struct text *text, unsigned loop)
{
    const size_t before = text->length;
    text_append(text, ", mounted on ");
    if (outsiders_append_mount(text, loop)) return;
    text->length = before;
    text->bytes[before] = '\0';
}

/* The words are those of a refusal, shim/obstacle.c. */
void usage_append_has(struct text *text, const struct usage *usage)
{
    const struct mark_meaning *meaning = &usage->meaning;
    switch (usage->kind) {
    case KIND_MARKED:
        if (usage->loop >= 0 || usage->mapped) {
            append_open(text, usage);
            text_append(text, ", with ");
        }
        text_append(text, "imglock's marks");
        if (!usage->as) return;
        text_append(text, ", locked ");
        text_append_untrusted(text, usage->as, strlen(usage->as));
        return;
    case KIND_QEMU:
        text_append(text, "QEMU's own lock: ");
        text_append(text, meaning->writes ? "writes" : "reads");
        if (meaning->unshares) text_append(text, meaning->writes ? ", shares nothing" : ", shares no writing");
        return;
    case KIND_LOCKED:
        text_append(text, meaning->keeper      ? "virtlockd's lock, for a machine of libvirt"
                          : meaning->exclusive ? "it has locked the file for itself"
                                               : "it has locked the file");
        if (!meaning->bytes) text_append(text, " by flock");
        return;
    case KIND_OPEN:
        if (!usage->seen) return;
        append_open(text, usage);
        if (usage->loop >= 0) append_mount(text, (unsigned)usage->loop);
        return;
    case KIND_MOUNTED:
        text_append(text, "mounted on ");
        text_append_untrusted(text, usage->as, strlen(usage->as));
        return;
    default:
        return;
    }
}
