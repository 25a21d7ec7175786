/* complain.h: what imglock itself says on standard error, and how it ends. */
#ifndef IMGLOCK_COMPLAIN_H
#define IMGLOCK_COMPLAIN_H

#include <stdarg.h>
#include <stddef.h>

/* Exit statuses of imglock's own, as env(1) and stdbuf(1) have them. */
enum { STATUS_FAILED = 125, STATUS_NOT_EXECUTABLE = 126, STATUS_NOT_FOUND = 127 };

/* Writes "imglock: " and the text to standard error, as one line whatever names the text contains.  Returns
 * STATUS_FAILED, for "return complain(...)". */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* complain, then how to get help. */
int complain_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How to get help, after getopt_long has said what is wrong.  Returns STATUS_FAILED. */
int point_to_help(void);

/* The subcommand whose help complain_usage and point_to_help name from now on; "" for imglock's own. */
void complain_as(const char *subcommand);

/* A word of the command line as messages show it: an empty one, which nobody would see, in quotes. */
const char *word_shown(const char *word);

/* start, and the words as one line whatever names they contain.  The caller frees it; NULL: no memory. */
char *words_in_line(const char *start, const char *format, va_list list) __attribute__((format(printf, 2, 0)));

/* The status to end with once everything has been written to standard output: failed where it could not be written. */
int finish_output(int status);

#endif
