// link: -Ishim build/shim/image.o
/* identify.c: identify [-d | -m FORMAT] FILE...: what the library takes each file for, one line a file:
 *
 *   by name: FORMAT|-  by content: FORMAT|-  FILE
 *
 * Opens and asks as the open wrappers do; -d adds O_DIRECT; -m asks while the first byte of the format's magic is
 * another one, if it has a magic, and restores it.  Exit status 1, with a line on stderr, where a file cannot be
 * opened, and where the look has left a trace on the descriptor. */
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

/* The first byte of the format's magic, or of what would be it: changed, and by a second call back. */
static int change_magic(const char *format, const char *path)
{
    enum where { HEAD, FAR, TAIL, SIZED, NAME };
    static const struct {
        const char *name;
        enum where where;
        off_t offset;
        size_t length;
    } rows[] = {
#define FORMAT(name, extensions, where, offset, bytes, check) {name, where, offset, sizeof(bytes) - 1},
#include "formats.def"
    };
    char byte;
    size_t row = 0;
    while (row < sizeof rows / sizeof *rows && strcmp(rows[row].name, format) != 0) row++;
    if (row == sizeof rows / sizeof *rows) return -1;
    if (rows[row].length == 0) return 0;
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    off_t at = rows[row].where == TAIL ? lseek(descriptor, 0, SEEK_END) - rows[row].offset : rows[row].offset;
    int result = pread(descriptor, &byte, 1, at) == 1 ? 0 : -1;
    byte = (char)(byte ^ 0x80);
    if (result == 0 && pwrite(descriptor, &byte, 1, at) != 1) result = -1;
    close(descriptor);
    return result;
}

int main(int argc, char **argv)
{
    const char *format = NULL;
    int result = 0;
    int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int first = 1;
    if (argc > 1 && strcmp(argv[1], "-d") == 0) {
        flags |= O_DIRECT;
        first = 2;
    }
    if (argc > 2 && strcmp(argv[1], "-m") == 0) {
        format = argv[2];
        first = 3;
    }
    for (int i = first; i < argc; i++) {
        if (format && change_magic(format, argv[i]) < 0) {
            fprintf(stderr, "%s: has no magic of %s\n", argv[i], format);
            return 1;
        }
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
        if (format) change_magic(format, argv[i]);
    }
    return result;
}
