/* status.h: imglock status and its watch, which share what a list comes to. */
#ifndef IMGLOCK_STATUS_H
#define IMGLOCK_STATUS_H

#include "status_table.h"
#include "usage.h"

/* Shows the list whenever it changes, until SIGINT or SIGTERM: in place on a terminal, else again and again, or as a
 * line for each change.  Returns the exit status. */
int status_watch(struct question *question, const struct table_options *options);

/* The exit status that a list stands for. */
int status_of_list(const struct usage_list *list);

/* The line about processes that could not be looked into. */
void status_note_unseen(const struct usage_list *list);

#endif
