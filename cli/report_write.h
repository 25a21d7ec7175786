/* report_write.h: the forms in which a report is written, and what they share. */
#ifndef IMGLOCK_REPORT_WRITE_H
#define IMGLOCK_REPORT_WRITE_H

#include <stdio.h>

#include "report_model.h"

void report_write_text(const struct report *report, FILE *stream);
void report_write_json(const struct report *report, FILE *stream);
void report_write_trace(const struct report *report, FILE *stream);
void report_write_svg(const struct report *report, FILE *stream);

/* ---- times and durations ------------------------------------------------------------------------------------ */

enum { TIME_SIZE = 64 };

/* RFC 3339, UTC, with microseconds. */
const char *utc_time(int64_t time, char text[TIME_SIZE]);

/* Local time of day with so many digits of the second's fraction, 0 to 6; with the date on request. */
const char *local_time(int64_t time, int digits, bool date, char text[TIME_SIZE]);

const char *local_date(int64_t time, char text[TIME_SIZE]);
const char *local_zone(int64_t time, char text[TIME_SIZE]);

/* Seconds to add to UTC at that time. */
long local_offset(int64_t time);

/* Do the two lie on one local day? */
bool is_same_day(int64_t one, int64_t other);

/* "850 us", "12 ms", "3.9 s", "3 h 12 min". */
const char *duration_words(int64_t duration, char text[TIME_SIZE]);

/* ---- words -------------------------------------------------------------------------------------------------- */

/* "1 overlap", "2 overlaps", in a buffer that lasts for the next seven calls. */
const char *counted(size_t count, const char *one, const char *many);

/* "read", "write", "no lock": what a process does that has this mode. */
const char *mode_verb(enum lock_mode mode);

/* The user's name, or the number, or "?"; lasts until the next call. */
const char *user_name(int64_t uid);

/* The command line, the directory of the program cut off; shown form. */
const char *short_command(const struct report_name *cmdline);

/* The end of a path behind its last slash, shown form. */
const char *base_name(const struct report_name *path);

/* ---- widths ------------------------------------------------------------------------------------------------- */

/* The columns that text, valid UTF-8, takes on a terminal. */
size_t text_columns(const char *text);

/* Writes text, cut at its end to so many columns with an ellipsis, and padded with blanks on request. */
void put_columns(FILE *stream, const char *text, size_t columns, bool pad);

/* The width of text in a proportional face of this size, in the same unit: that of DejaVu Sans and Verdana, the widest
 * of the usual ones. */
double text_width(const char *text, double size, bool bold);

/* Text cut to a width with an ellipsis, at its beginning or at its end; lasts until the next call. */
const char *cut_to_width(const char *text, double width, double size, bool bold, bool at_beginning);

#endif
