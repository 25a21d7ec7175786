// link: -static
/* outsider.c: outsider read|write|map IMAGE: as holder does, but a static program, which no library gets into; map:
 * keeps nothing but a mapping of it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    const int descriptor = open(argv[2], strcmp(argv[1], "read") == 0 ? O_RDONLY : O_RDWR);
    if (descriptor < 0) {
        perror(argv[2]);
        return 1;
    }
    if (strcmp(argv[1], "map") == 0) {
        if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) == MAP_FAILED) return 1;
        close(descriptor);
    }
    if (write(1, "ready\n", 6) != 6) return 1;
    close(1);
    for (;;) pause();
}
