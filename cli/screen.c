/* screen.c: a text that is drawn in place on a terminal. */
#include "screen.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static bool entered, quiet;

void screen_leave(void)
{
    if (!entered) return;
    entered = false;
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (quiet) tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

void screen_enter(void)
{
    static bool registered;
    if (!registered) atexit(screen_leave);
    registered = true;
    /* What is typed is neither shown nor kept for the shell. */
    quiet = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
    if (quiet) {
        struct termios raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    entered = true;
    fputs("\033[?1049h\033[?25l", stdout);
}

void screen_draw(const char *head, const char *text)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    int room = size.ws_row > 2 ? size.ws_row - 2 : 1, lines = 0;
    for (const char *at = text; *at; at += *at == '\n') {
        at += strcspn(at, "\n");
        lines++;
    }
    int shown = lines <= room ? lines : room - 1;
    printf("\033[H%.*s\033[K\n\033[K", size.ws_col, head);
    for (int i = 0; i < shown; i++) {
        size_t length = strcspn(text, "\n");
        printf("\n%.*s\033[K", (int)length, text);
        text += length + (text[length] != '\0');
    }
    if (shown < lines) printf("\n... and %d more\033[K", lines - shown);
    fputs("\033[J", stdout);
    fflush(stdout);
}

bool screen_wants_to_quit(void)
{
    struct pollfd typed = {.fd = STDIN_FILENO, .events = POLLIN};
    char key;
    while (quiet && poll(&typed, 1, 0) == 1 && read(STDIN_FILENO, &key, 1) == 1)
        if (key == 'q' || key == 'Q') return true;
    return false;
}
