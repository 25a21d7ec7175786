/* text.h: building short texts without stdio and without allocation.
 *
 * A struct text is a window on the caller's buffer.  What does not fit is cut, never written past the end;
 * the text is always NUL-terminated.  Everything here is safe in a signal handler and leaves errno alone. */
#ifndef IMGLOCK_TEXT_H
#define IMGLOCK_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
    char *bytes;
    size_t size;   /* of the buffer */
    size_t length; /* of the text, NUL not counted */
};

/* An empty text in buffer, size >= 1. */
struct text text_in(char *buffer, size_t size);

void text_append(struct text *text, const char *string);
void text_append_bytes(struct text *text, const char *bytes, size_t length);
void text_append_number(struct text *text, long long number);
void text_append_hex(struct text *text, uint64_t number, int digits);

/* Appends bytes of unknown origin so that they stay on one line and cannot drive a terminal: control
 * characters, invalid UTF-8 and C1 controls become \n, \t or \xHH; a backslash becomes \\. */
void text_append_untrusted(struct text *text, const char *bytes, size_t length);

/* The same for what should be escaped already, and comes from a file that anybody may have written: backslashes stay as
 * they are. */
void text_append_escaped(struct text *text, const char *string);

/* The length of the valid UTF-8 sequence that starts here, or 0. */
size_t text_utf8_sequence(const char *bytes, size_t left);

/* A duration in words a person reads: "3 h 12 min", "45 s", "2 d 4 h". */
void text_append_duration(struct text *text, long long seconds);

/* Reads a decimal number from *cursor, moves *cursor past it.  False when there is no digit or it does not
 * fit. */
bool text_parse_number(const char **cursor, uint64_t *number);

/* Shell-style match of the whole string: * (any bytes, slashes too), ?, [set], [!set], backslash quotes.
 * The pattern ends at pattern_end. */
bool text_glob(const char *pattern, const char *pattern_end, const char *string);

#endif
