/* complain.c: what imglock itself says on standard error, and how it ends. */
#include "complain.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

static const char *helped = "";

char *words_in_line(const char *start, const char *format, va_list list)
{
    char *words = NULL;
    int length = vasprintf(&words, format, list);
    if (length < 0) return NULL;
    /* Names come from the command line, from files and from the environment: none of them may end the line or drive the
     * terminal. */
    size_t size = strlen(start) + 4 * (size_t)length + sizeof "\n";
    char *bytes = malloc(size);
    if (bytes) {
        struct text line = text_in(bytes, size);
        text_append(&line, start);
        text_append_untrusted(&line, words, (size_t)length);
        text_append(&line, "\n");
    }
    free(words);
    return bytes;
}

static int complain_list(const char *format, va_list list)
{
    char *line = words_in_line("imglock: ", format, list);
    if (!line) return STATUS_FAILED;
    fflush(stdout);
    if (write(STDERR_FILENO, line, strlen(line)) < 0) {
        /* Nobody is left to tell; the exit status says it. */
    }
    free(line);
    return STATUS_FAILED;
}

int complain(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    complain_list(format, list);
    va_end(list);
    return STATUS_FAILED;
}

int complain_usage(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    complain_list(format, list);
    va_end(list);
    return point_to_help();
}

void complain_as(const char *subcommand)
{
    helped = subcommand;
}

int point_to_help(void)
{
    fprintf(stderr, "Try 'imglock %s%s--help' for more information.\n", helped, *helped ? " " : "");
    return STATUS_FAILED;
}

const char *word_shown(const char *word)
{
    return *word ? word : "''";
}

int finish_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    return complain("cannot write to standard output: %m");
}
