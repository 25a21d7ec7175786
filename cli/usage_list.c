/* usage_list.c: lists who uses which image: looks at the lock files and at the processes, and puts in order what they
 * come to. */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "joining.h"
#include "looked_locks.h"
#include "process_scan.h"
#include "usage_list.h"
#include "usage_locks.h"
#include "usage_opens.h"

static int compare(long long a, long long b)
{
    return (a > b) - (a < b);
}

/* By image, those whose path is not known last; the strongest lock first, then the oldest. */
int usages_order(const void *a, const void *b)
{
    const struct usage *first = a, *second = b;
    if (!first->image != !second->image) return first->image ? -1 : 1;
    int order = first->image ? strcmp(first->image, second->image) : strcmp(first->name->hex, second->name->hex);
    if (!order) order = compare(second->mode, first->mode);
    if (!order) order = compare(second->noted, first->noted);
    if (!order) order = compare(first->kind, second->kind);
    /* The gate's writer is the next one; the others come as they happen to, the oldest process first. */
    if (!order) order = compare(second->first, first->first);
    if (!order && first->kind == KIND_WAITING) order = compare((long long)first->start, (long long)second->start);
    if (!order) order = compare(first->since_ms, second->since_ms);
    return order ? order : compare(first->pid, second->pid);
}

static bool says_the_same(const struct mark_meaning *a, const struct mark_meaning *b)
{
    return a->bytes == b->bytes && a->qemu == b->qemu && a->writes == b->writes && a->unshares == b->unshares &&
           a->exclusive == b->exclusive && a->posix == b->posix && a->keeper == b->keeper;
}

bool usages_are_alike(const struct usage *a, const struct usage *b)
{
    if (!a->image != !b->image || (a->image && strcmp(a->image, b->image) != 0)) return false;
    return strcmp(a->name->hex, b->name->hex) == 0 && a->mode == b->mode && a->kind == b->kind && a->pid == b->pid &&
           a->uid == b->uid && a->descriptor == b->descriptor && a->since_ms == b->since_ms && a->block == b->block &&
           a->writes == b->writes && says_the_same(&a->meaning, &b->meaning) && a->flock == b->flock &&
           strcmp(a->host, b->host) == 0 && strcmp(a->command, b->command) == 0 && strcmp(a->reason, b->reason) == 0;
}

/* IMGLOCK_KEY=inode makes a process take two locks of one image, by its path and by its inode: one usage. */
static void join_keys(struct usage_list *list)
{
    for (size_t i = 0; i < list->image_count; i++) {
        const size_t *locks = list->images[i].locks;
        if (!locks[1]) continue;
        const struct lock_name *first = &list->locks[locks[0] - 1].name, *second = &list->locks[locks[1] - 1].name;
        bool in_order = strcmp(first->hex, list->images[i].name.hex) == 0;
        const struct lock_name *by_path = in_order ? first : second, *by_inode = in_order ? second : first;
        size_t kept = 0;
        for (size_t j = 0; j < list->count; j++) {
            const struct usage *usage = &list->usages[j];
            bool again = false;
            if (usage->name == by_inode)
                for (size_t k = 0; k < list->count && !again; k++)
                    again = list->usages[k].name == by_path && list->usages[k].pid == usage->pid;
            if (!again) list->usages[kept++] = *usage;
        }
        list->count = kept;
    }
}

/* Who has another's open file description is told in that one's row. */
static void drop_sharers(struct usage_list *list)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (!list->usages[i].same) list->usages[kept++] = list->usages[i];
    list->count = kept;
}

static bool collect(const struct question *question, struct usage_list *list, bool last_attempt)
{
    struct process_scan scan = {.mappings = question->count > 0};
    *list = (struct usage_list){0};
    locks_look_at_all(question, list, &scan);
    scan_run(&scan);
    struct joining joining = {
        .question = question, .list = list, .scan = &scan, .self = process_self(), .last_attempt = last_attempt};
    join_locks(&joining);
    join_opens(&joining);
    drop_sharers(list);
    join_keys(list);
    if (list->count) qsort(list->usages, list->count, sizeof *list->usages, usages_order);
    list->unseen += scan.unseen;
    if (scan.error && (!joining.changed || last_attempt)) {
        complain("cannot look at processes in /proc: %s", strerror(scan.error));
        list->failed = true;
    }
    scan_free(&scan);
    return !joining.changed;
}

void usages_collect(const struct question *question, struct usage_list *list)
{
    enum { ATTEMPTS = 5 };
    for (int attempt = 1; !collect(question, list, attempt == ATTEMPTS) && attempt < ATTEMPTS; attempt++)
        usages_free(list);
}

const char *usages_image(const struct usage_list *list, size_t index)
{
    return index < list->image_count ? list->images[index].path : NULL;
}

void usages_free(struct usage_list *list)
{
    tdestroy(list->image_tree, free);
    for (size_t i = 0; i < list->lock_count; i++) free(list->locks[i].slots);
    for (size_t i = 0; i < list->image_count; i++) free(list->images[i].path);
    for (size_t i = 0; i < list->word_count; i++) free(list->words[i]);
    free(list->words);
    free(list->locks);
    free(list->images);
    free(list->usages);
    *list = (struct usage_list){0};
}
