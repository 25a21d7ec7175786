/* holder.c: holder read|write IMAGE: opens it, says "ready", and waits for a signal. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    int descriptor = open(argv[2], (strcmp(argv[1], "read") == 0 ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (descriptor < 0) {
        perror(argv[2]);
        return 1;
    }
    if (write(1, "ready\n", 6) != 6) return 1;
    close(1);
    for (;;) pause();
}
