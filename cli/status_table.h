/* status_table.h: the table of imglock status, printed: for people, as raw lines, as JSON. */
#ifndef IMGLOCK_STATUS_TABLE_H
#define IMGLOCK_STATUS_TABLE_H

#include "status_columns.h"
#include "usage.h"

/* Prints the list to standard output.  0, or an errno. */
int table_print(const struct table_options *options, const struct usage_list *list);

/* The table as a text, which the caller frees.  NULL: there is no memory. */
char *table_text(const struct table_options *options, const struct usage_list *list);

/* Prints one usage as a raw line: the time, its mark, and the columns. */
void table_print_change(const struct table_options *options, const struct usage *usage);

#endif
