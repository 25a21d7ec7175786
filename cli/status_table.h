/* status_table.h: the columns of imglock status, and how they are printed. */
#ifndef IMGLOCK_STATUS_TABLE_H
#define IMGLOCK_STATUS_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "settings.h"
#include "text.h"
#include "usage.h"

enum table_format { TABLE_PLAIN, TABLE_RAW, TABLE_JSON };

struct table_options {
    enum table_format format;
    bool headings;
    bool chosen; /* the user has said which columns */
    bool wrap;   /* what is too long for the terminal goes on in the next line */
    bool colour;
    bool words;    /* times in words: "3 h" */
    bool marks;    /* a column of what is new and what is gone */
    bool follow;   /* a line for each change */
    bool one_line; /* a JSON document is one line */
    const struct settings *settings;
    int columns[32];
    size_t column_count;
};

/* The columns that are printed unless others are asked for. */
void table_default_columns(struct table_options *options);

/* The columns of a list, "A,B", or of the default ones and more, "+A,B".  False, after a complaint. */
bool table_parse_columns(struct table_options *options, const char *list);

void table_all_columns(struct table_options *options);

void table_list_columns(void);

/* Their names, separated by blanks. */
const char *table_column_names(void);

/* Prints the list to standard output.  0, or an errno. */
int table_print(const struct table_options *options, const struct usage_list *list);

/* The table as a text, which the caller frees.  NULL: there is no memory. */
char *table_text(const struct table_options *options, const struct usage_list *list);

/* Prints one usage as a raw line: the time, its mark, and the columns. */
void table_print_change(const struct table_options *options, const struct usage *usage);

const char *usage_kind_name(enum usage_kind kind);

/* What it has of the image if not its lock, in words: "QEMU's own lock: writes, shares nothing"; or nothing. */
void usage_append_has(struct text *text, const struct usage *usage);

/* The mode's name; "unlocked" for an open that imglock has nothing to do with. */
const char *usage_mode_name(const struct usage *usage);

#endif
