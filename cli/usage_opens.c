/* usage_opens.c: who has an image open without its lock. */
#include "usage_opens.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "block_device.h"
#include "joining.h"
#include "looked_locks.h"
#include "memory.h"
#include "other_name.h"

/* ---- what is told of one ------------------------------------------------------------------------------------ */

/* Is the process told already as one that uses the image?  Who only blocks operations may have it open as well. */
static bool is_told(const struct joining *joining, const struct looked_image *image, pid_t pid)
{
    for (size_t i = 0; i < joining->list->count; i++) {
        const struct usage *usage = &joining->list->usages[i];
        if (usage->pid == pid && usage->image == image->path && (usage->mode != LOCK_NONE || !usage->block))
            return true;
    }
    return false;
}

/* A list's word of its own. */
static const char *keep_word(struct usage_list *list, char *word)
{
    if (!word) return NULL;
    list->words = array_grow(list->words, list->word_count, &list->word_room, sizeof *list->words);
    return list->words[list->word_count++] = word;
}

/* Who announces what he does on the image itself. */
static void tell_meaning(struct usage *usage)
{
    const struct mark_meaning *meaning = &usage->meaning;
    /* The least that QEMU announces, for looking at what others write, imglock never does alone. */
    const bool looks = meaning->bytes == MARK_SAYS_READS;
    if (meaning->bytes && mark_is_imglocks(meaning) && !looks)
        usage->kind = KIND_MARKED;
    else if (meaning->qemu)
        usage->kind = KIND_QEMU;
    else if (meaning->bytes || usage->flock)
        usage->kind = KIND_LOCKED;
    else
        return;
    if (usage->kind == KIND_LOCKED)
        usage->mode = meaning->exclusive ? LOCK_EXCLUSIVE : LOCK_SHARED;
    else if (looks)
        usage->mode = LOCK_FORCE_SHARE;
    else
        usage->mode = meaning->exclusive || (meaning->writes && meaning->unshares) ? LOCK_EXCLUSIVE : LOCK_SHARED;
}

static void add_meaning(struct mark_meaning *all, const struct mark_meaning *one)
{
    if (one->bytes) all->keeper = (all->keeper || !all->bytes) && one->keeper;
    all->bytes |= one->bytes;
    all->qemu |= one->qemu;
    all->writes |= one->writes;
    all->unshares |= one->unshares;
    all->exclusive |= one->exclusive;
    all->posix |= one->posix;
}

/* What all findings of one process say, from the first one on.  Returns how many they are. */
static size_t add_findings(const struct finding *findings, size_t count, struct usage *usage)
{
    size_t i = 0;
    usage->seen = true;
    usage->mapped = findings[0].descriptor < 0;
    usage->descriptor = findings[0].descriptor;
    for (; i < count && findings[i].pid == findings[0].pid; i++) {
        /* The one that has the locks is the one to be told of. */
        if (findings[i].meaning.bytes && !usage->meaning.bytes) usage->descriptor = findings[i].descriptor;
        usage->writes |= findings[i].writes;
        usage->flock |= findings[i].flock;
        if (findings[i].waits) usage->kind = KIND_WAITING;
        add_meaning(&usage->meaning, &findings[i].meaning);
    }
    return i;
}

static struct usage open_of(const struct looked_image *image)
{
    return (struct usage){.image = image->path, .name = &image->name, .kind = KIND_OPEN, .descriptor = -1, .loop = -1};
}

/* ---- those who are seen ------------------------------------------------------------------------------------- */

/* Those who have the image open and do not hold its lock. */
static void join_image(struct joining *joining, const struct looked_image *image)
{
    struct usage_list *list = joining->list;
    size_t count;
    if (!image->exists) return;
    const struct finding *findings = scan_findings(joining->scan, image->file, &count);
    for (size_t i = 0, next; i < count; i = next) {
        const struct finding *finding = &findings[i];
        struct usage usage = open_of(image);
        next = i + 1;
        if (finding->loop >= 0) {
            snprintf(usage.command, sizeof usage.command, "loop%d", finding->loop);
            memcpy(usage.host, joining->self->host, sizeof usage.host);
            usage.boot = joining->self->boot;
            usage.loop = finding->loop;
            usage.writes = finding->writes;
            usage.seen = true;
        } else {
            struct process_facts process;
            next = i + add_findings(finding, count - i, &usage);
            if (is_told(joining, image, finding->pid) || !joining_look_up(joining, finding->pid, &process)) continue;
            joining_tell_process(joining, &usage, &process);
            tell_meaning(&usage);
            usage.noted = usage.kind == KIND_WAITING;
            if (usage.kind == KIND_MARKED)
                usage.as = keep_word(list, other_name_of(joining->question->settings->directory, image->path,
                                                         finding->pid, usage.descriptor));
        }
        joining_add(list, &usage);
    }
}

/* A mount has a block device for itself: its own, its disk's or a partition's. */
static void join_mount(struct joining *joining, const struct looked_image *image)
{
    char point[PATH_MAX];
    struct stat status;
    if (stat(image->path, &status) < 0 || !S_ISBLK(status.st_mode) ||
        !block_device_mount_point(status.st_rdev, point, sizeof point))
        return;
    struct usage usage = open_of(image);
    usage.kind = KIND_MOUNTED;
    usage.mode = LOCK_EXCLUSIVE;
    usage.as = keep_word(joining->list, string_keep(point));
    strcpy(usage.command, "kernel");
    memcpy(usage.host, joining->self->host, sizeof usage.host);
    joining_add(joining->list, &usage);
}

void join_opens(struct joining *joining)
{
    for (size_t i = 0; i < joining->list->image_count; i++) {
        join_image(joining, &joining->list->images[i]);
        join_mount(joining, &joining->list->images[i]);
    }
}

/* ---- what no process shows ---------------------------------------------------------------------------------- */

/* Marks that no descriptor shows are a loop device's that a wrapped program has made, or a mapping's that it has kept.
 * False: there is none. */
static bool give_marks(struct usage_list *list, const char *image, const struct mark_meaning *meaning)
{
    for (size_t i = 0; mark_is_imglocks(meaning) && i < list->count; i++) {
        struct usage *usage = &list->usages[i];
        if ((usage->loop < 0 && !usage->mapped) || !usage->image || strcmp(usage->image, image) != 0) continue;
        usage->meaning = *meaning;
        tell_meaning(usage);
        return true;
    }
    return false;
}

void usages_add_unknown(struct usage_list *list, const char *image, const struct mark_meaning *meaning)
{
    if (give_marks(list, image, meaning)) return;
    for (size_t i = 0; i < list->image_count; i++) {
        if (strcmp(list->images[i].path, image) != 0) continue;
        struct usage usage = open_of(&list->images[i]);
        usage.meaning = *meaning;
        tell_meaning(&usage);
        joining_add(list, &usage);
    }
}
