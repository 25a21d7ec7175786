/* mode_read.c: mode_read [WORD]...: opens $IMAGE for reading, whatever the words are, and tells what came of it:
 * "reads", or an errno.  For what the library makes of a program's name and words. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    const char *image = getenv("IMAGE");
    int descriptor = image ? open(image, O_RDONLY | O_CLOEXEC) : -1;
    puts(descriptor >= 0 ? "reads" : strerrorname_np(errno));
    return descriptor < 0;
}
