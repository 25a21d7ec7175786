/* screen.h: a text that is drawn in place on a terminal, as htop(1) and watch(1) do it. */
#ifndef IMGLOCK_SCREEN_H
#define IMGLOCK_SCREEN_H

#include <stdbool.h>

/* Takes the terminal of standard output over: another screen, no cursor, no echo.  It is left as it was when the
 * program exits or calls screen_leave. */
void screen_enter(void);
void screen_leave(void);

/* Draws a head of one line and a text, as much of it as there is room for. */
void screen_draw(const char *head, const char *text);

/* Has somebody pressed q?  Takes what was typed. */
bool screen_wants_to_quit(void);

#endif
