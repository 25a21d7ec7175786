/* fuzz_formats.c: the look at names and contents.  First byte: how long the name is; the name; the rest is the file. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image.h"
#include "look.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    size_t name_length = data[0] % 64;
    if (name_length > size - 1) name_length = size - 1;
    /* Allocated to the byte, so that a look behind its end is seen. */
    char *name = malloc(name_length + 1);
    memcpy(name, data + 1, name_length);
    name[name_length] = '\0';
    image_by_extension(name);

    static int file = -1;
    if (file < 0) file = memfd_create("image", MFD_CLOEXEC);
    const uint8_t *content = data + 1 + name_length;
    size_t content_size = size - 1 - name_length;
    /* Mostly small files; every fourth one as large as the formats that look far in. */
    off_t file_size = (off_t)content_size;
    if (data[1] % 4 == 0) file_size = (off_t[]){174848, 819200, 143360, 1474560, 1 << 20}[data[1] / 4 % 5];
    struct stat status;
    if (ftruncate(file, 0) < 0 || pwrite(file, content, content_size, 0) < 0 || ftruncate(file, file_size) < 0) abort();
    /* The same bytes at the end, where footers are. */
    if ((off_t)content_size < file_size && data[1] % 8 == 0 &&
        pwrite(file, content, content_size, file_size - (off_t)content_size) < 0)
        abort();
    if (fstat(file, &status) < 0) abort();
    const char *first = image_by_content(name, file, &status, O_RDWR, &(int){0});
    if (first != image_by_content(name, file, &status, O_RDWR, &(int){0})) abort();
    /* What tells most files apart beforehand must not keep one from the table that is in it. */
    unsigned char head[HEAD_SIZE];
    struct probe probe = {.head = head, .descriptor = file, .size = status.st_size};
    look_read(&probe, 0);
    if (look_match(name, &probe) != first) abort();
    free(name);
    return 0;
}
