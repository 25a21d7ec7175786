/* status_columns.h: the columns of imglock status: what each says of a usage, and which of them are shown. */
#ifndef IMGLOCK_STATUS_COLUMNS_H
#define IMGLOCK_STATUS_COLUMNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

enum column {
    COLUMN_IMAGE,
    COLUMN_MODE,
    COLUMN_KIND,
    COLUMN_PID,
    COLUMN_USER,
    COLUMN_COMMAND,
    COLUMN_SINCE,
    COLUMN_UID,
    COLUMN_HOST,
    COLUMN_FD,
    COLUMN_LOCKFILE,
    COLUMN_BOOT,
    COLUMN_START,
    COLUMN_PIDNS,
    COLUMN_HELD,
    COLUMN_LOCKED_SINCE,
    COLUMN_SHARERS,
    COLUMN_GUEST,
    COLUMN_UNIT,
    COLUMN_MACHINE,
    COLUMN_BLOCKS,
    COLUMN_REASON,
    COLUMN_HAS,
    COLUMNS
};

/* When a column is printed that nobody asked for. */
enum shown { SHOWN_ALWAYS, SHOWN_IF_SAID /* where it has something to say, and in JSON */, SHOWN_NEVER };

struct status_column {
    const char *name;
    double width; /* as scols_table_new_column has it */
    int flags;    /* the same's; SCOLS_FL_WRAP: where lines are to be wrapped */
    bool number;  /* in JSON */
    enum shown shown;
    const char *help;
    void (*append)(struct text *cell, const struct usage *usage, const struct table_options *options);
};

extern const struct status_column status_columns[COLUMNS];

/* The columns that are printed unless others are asked for. */
void table_default_columns(struct table_options *options);

/* The columns of a list, "A,B", or of the default ones and more, "+A,B".  False, after a complaint. */
bool table_parse_columns(struct table_options *options, const char *list);

void table_all_columns(struct table_options *options);

void table_list_columns(void);

/* Their names, separated by blanks. */
const char *table_column_names(void);

/* Adds the columns that are SHOWN_IF_SAID: in JSON all of them, whose documents are all alike; in raw lines none, whose
 * fields stay where they are. */
void table_add_columns(struct table_options *options, const struct usage_list *list);

/* A time: a date, or a time of today; iso: as ISO 8601 has it. */
void column_append_time(struct text *cell, int64_t time_ms, bool iso);

#endif
