/* status_table.c: the table of imglock status, printed: for people, as raw lines, as JSON. */
#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "status_table.h"
#include "text.h"

static const char *colour_of(const struct usage *usage)
{
    static const char *const colours[] = {[LOCK_NONE] = "magenta",
                                          [LOCK_FORCE_SHARE] = "cyan",
                                          [LOCK_INACTIVE] = "lightblue",
                                          [LOCK_SHARED] = "green",
                                          [LOCK_EXCLUSIVE] = "red"};
    return usage->mode == LOCK_NONE && !usage->noted ? "yellow" : colours[usage->mode];
}

static int add_line(struct libscols_table *table, const struct table_options *options, const struct usage *usage)
{
    static char bytes[4 * PATH_MAX + 1]; /* a path, each byte of it escaped */
    struct libscols_line *line = scols_table_new_line(table, NULL);
    if (!line) return -ENOMEM;
    size_t first = options->marks;
    if (options->marks && usage->mark) {
        const char mark[] = {usage->mark, '\0'};
        int error = scols_line_set_data(line, 0, mark);
        if (!error && options->colour) error = scols_line_set_color(line, usage->mark == '+' ? "bold" : "darkgray");
        if (error) return error;
    }
    for (size_t i = 0; i < options->column_count; i++) {
        struct text cell = text_in(bytes, sizeof bytes);
        status_columns[options->columns[i]].append(&cell, usage, options);
        int error = cell.length ? scols_line_set_data(line, first + i, cell.bytes) : 0;
        if (!error && options->columns[i] == COLUMN_MODE && options->colour && usage->mark != '-')
            error = scols_cell_set_color(scols_line_get_cell(line, first + i), colour_of(usage));
        if (error) return error;
    }
    return 0;
}

static int fill_table(struct libscols_table *table, const struct table_options *options, const struct usage_list *list)
{
    scols_table_set_name(table, "locks");
    scols_table_enable_json(table, options->format == TABLE_JSON);
    scols_table_enable_noheadings(table, !options->headings);
    scols_table_enable_colors(table, options->colour);
    /* Every cell is escaped by then, in one way in all formats. */
    scols_table_enable_noencoding(table, 1);
    if (options->marks && !scols_table_new_column(table, "", 1, 0)) return -ENOMEM;
    for (size_t i = 0; i < options->column_count; i++) {
        int number = options->columns[i];
        struct libscols_column *column =
            scols_table_new_column(table, status_columns[number].name, status_columns[number].width,
                                   status_columns[number].flags & (options->wrap ? ~0 : ~SCOLS_FL_WRAP));
        if (!column) return -ENOMEM;
        if (status_columns[number].number) scols_column_set_json_type(column, SCOLS_JSON_NUMBER);
    }
    for (size_t i = 0; i < list->count; i++) {
        int error = add_line(table, options, &list->usages[i]);
        if (error) return error;
    }
    return 0;
}

/* One line of fields with a blank between them; one in a field is \x20, and what is not known is a dash, since a field
 * that is empty would shift those behind it.  Printed here: libsmartcols would escape once more what is escaped
 * already. */
static void print_raw_line(const struct table_options *options, const struct usage *usage)
{
    static char bytes[4 * PATH_MAX + 1];
    for (size_t i = 0; i < options->column_count; i++) {
        struct text cell = text_in(bytes, sizeof bytes);
        if (usage)
            status_columns[options->columns[i]].append(&cell, usage, options);
        else
            text_append(&cell, status_columns[options->columns[i]].name);
        if (i) putchar(' ');
        if (!cell.length) putchar('-');
        for (const char *at = cell.bytes; *at; at++) {
            if (*at == ' ')
                fputs("\\x20", stdout);
            else
                putchar(*at);
        }
    }
    putchar('\n');
}

static void print_raw(const struct table_options *options, const struct usage_list *list)
{
    if (options->headings && list->count) print_raw_line(options, NULL);
    for (size_t i = 0; i < list->count; i++) print_raw_line(options, &list->usages[i]);
}

/* The document without the line breaks between its parts; those in strings are escaped. */
static void print_in_one_line(const char *document)
{
    for (const char *at = document; *at;) {
        size_t length = strcspn(at, "\n");
        fwrite(at, 1, length, stdout);
        at += length;
        at += strspn(at, "\n ");
    }
    putchar('\n');
}

void table_print_change(const struct table_options *options, const struct usage *usage)
{
    char bytes[64];
    struct timespec now;
    struct text time = text_in(bytes, sizeof bytes);
    clock_gettime(CLOCK_REALTIME, &now);
    column_append_time(&time, now.tv_sec * INT64_C(1000), true);
    printf("%s %c ", bytes, usage->mark);
    print_raw_line(options, usage);
}

char *table_text(const struct table_options *given, const struct usage_list *list)
{
    struct table_options filled = *given;
    char *text = NULL;
    table_add_columns(&filled, list);
    struct libscols_table *table = scols_new_table();
    if (table && fill_table(table, &filled, list) == 0) scols_print_table_to_string(table, &text);
    scols_unref_table(table);
    return text;
}

int table_print(const struct table_options *given, const struct usage_list *list)
{
    struct table_options filled = *given;
    const struct table_options *options = &filled;
    table_add_columns(&filled, list);
    if (options->format == TABLE_RAW) {
        print_raw(options, list);
        return 0;
    }
    struct libscols_table *table = scols_new_table();
    if (!table) return ENOMEM;
    int error = fill_table(table, options, list);
    char *document = NULL;
    if (!error && options->format == TABLE_JSON && !list->count) {
        fputs(options->one_line ? "{\"locks\": []}\n" : "{\n   \"locks\": []\n}\n", stdout);
    } else if (!error && options->one_line) {
        error = scols_print_table_to_string(table, &document);
        if (!error) print_in_one_line(document);
    } else if (!error && list->count) {
        error = scols_print_table(table);
    }
    free(document);
    scols_unref_table(table);
    return -error;
}
