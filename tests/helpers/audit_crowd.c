/* audit_crowd.c: audit_crowd PROCESSES OPENS IMAGE: so many processes, all at once, each open the image for reading and
 * close it again, so many times.  Status 1 when an open fails. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void open_over_and_over(const char *image, int opens, int start)
{
    char byte;
    if (read(start, &byte, 1) != 0) _exit(1);
    for (int i = 0; i < opens; i++) {
        int descriptor = open(image, O_RDONLY);
        if (descriptor < 0) {
            perror(image);
            _exit(1);
        }
        close(descriptor);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    int start[2], status, failed = 0;
    if (argc != 4 || pipe(start) < 0) return 2;
    for (int i = 0; i < atoi(argv[1]); i++) {
        pid_t child = fork();
        if (child < 0) return 2;
        if (child == 0) {
            close(start[1]);
            open_over_and_over(argv[3], atoi(argv[2]), start[0]);
        }
    }
    close(start[1]);
    while (wait(&status) > 0) failed |= status != 0;
    return failed;
}
