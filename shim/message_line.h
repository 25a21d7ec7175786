/* message_line.h: one line that imglock writes, from its start to where it goes.
 *
 * IMGLOCK_LOG says whether there is a line at all, and where: standard error, a file or syslog.  One write, whatever
 * the number of threads.  Async-signal-safe; errno is left alone; no SIGPIPE reaches the program. */
#ifndef IMGLOCK_MESSAGE_LINE_H
#define IMGLOCK_MESSAGE_LINE_H

#include <stdbool.h>

#include "settings.h"
#include "text.h"

/* Remembers what standard error is when the program starts.  A program may close it and open a file that gets its
 * number: no line may go there. */
void message_line_remember_stderr(void);

/* "imglock: PATH: ", in memory mapped for this one line: refusals are rare, and a signal handler's stack may be 8 KiB.
 * False when there is nothing to say or no memory to say it. */
bool message_line_begin(const struct settings *settings, enum log_level level, struct text *line, const char *path);

/* Writes the line, and gives its memory back. */
void message_line_end(const struct settings *settings, struct text *line);

/* Programs try again: qemu-img opens an image twice before it gives up, losetup as often as it can.  One line a second
 * on one image is enough; where opens are let through, one for each thing that was done to it. */
bool message_line_was_said(const struct settings *settings, const char *path, const char *action);

#endif
