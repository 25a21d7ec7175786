/* usage_list.h: lists who uses which image: lock files and processes put together. */
#ifndef IMGLOCK_USAGE_LIST_H
#define IMGLOCK_USAGE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "usage.h"

/* Lists who uses what.  Complains of what cannot be looked at. */
void usages_collect(const struct question *question, struct usage_list *list);

void usages_free(struct usage_list *list);

/* The order of a list, for qsort(3). */
int usages_order(const void *a, const void *b);

/* Do two usages say the same, but for how long? */
bool usages_are_alike(const struct usage *a, const struct usage *b);

/* Every path of an image in the list: what a watch watches. */
const char *usages_image(const struct usage_list *list, size_t index);

#endif
