// link: -Ishim build/shim/image.o
/* identify.c: identify [-d] FILE...: what the library takes each file for, one line a file:
 *
 *   by name: FORMAT|-  by content: FORMAT|-  FILE
 *
 * Opens and asks as the open wrappers do; -d adds O_DIRECT.  Exit status 1, with a line on stderr, where a file
 * cannot be opened, and where the look has left a trace on the descriptor. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "image.h"

static const char *name_by_content(const char *path, int descriptor, int flags)
{
    struct stat status;
    if (fstat(descriptor, &status) < 0 || !image_possible(&status)) return NULL;
    if (!image_may_be_read(descriptor, &status)) return NULL;
    return image_by_content(path, descriptor, &status, flags, &(int){0});
}

int main(int argc, char **argv)
{
    int result = 0;
    int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int first = 1;
    if (argc > 1 && strcmp(argv[1], "-d") == 0) {
        flags |= O_DIRECT;
        first = 2;
    }
    for (int i = first; i < argc; i++) {
        int descriptor = open(argv[i], flags);
        if (descriptor < 0) {
            perror(argv[i]);
            result = 1;
            continue;
        }
        int before = fcntl(descriptor, F_GETFL);
        const char *name = image_by_extension(argv[i]);
        const char *content = name_by_content(argv[i], descriptor, flags);
        printf("by name: %s  by content: %s  %s\n", name ? name : "-", content ? content : "-", argv[i]);
        if (fcntl(descriptor, F_GETFL) != before) {
            fprintf(stderr, "%s: the look has changed the flags of the descriptor\n", argv[i]);
            result = 1;
        }
        close(descriptor);
    }
    return result;
}
