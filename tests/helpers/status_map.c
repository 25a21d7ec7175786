/* status_map.c: status_map IMAGE: maps it, closes it, says "ready", and waits for a signal. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int descriptor = argc == 2 ? open(argv[1], O_RDWR) : -1;
    if (descriptor < 0) return 2;
    if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, descriptor, 0) == MAP_FAILED) return 1;
    close(descriptor);
    if (write(1, "ready\n", 6) != 6) return 1;
    close(1);
    for (;;) pause();
}
