/* usage_opens.h: who has an image open without its lock: processes, loop devices, mounts, and those of whom nothing is
 * to be seen but their locks on the image. */
#ifndef IMGLOCK_USAGE_OPENS_H
#define IMGLOCK_USAGE_OPENS_H

#include "mark.h"
#include "usage.h"

struct joining;

/* Adds them to the list, which has the users of the locks already. */
void join_opens(struct joining *joining);

/* Adds a usage of the image by somebody of whom nothing is known but what the image's locks say, which may be nothing.
 */
void usages_add_unknown(struct usage_list *list, const char *image, const struct mark_meaning *meaning);

#endif
