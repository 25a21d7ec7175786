/* commands.c: commands read|write IMAGE: opens it, close-on-exec, says "ready", and runs each line of its input as a
 * command of its own, sh -c, and says "status N".  So the test decides what a holder's helpers do. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char line[4096];
    if (argc != 3) return 2;
    int descriptor = open(argv[2], (strcmp(argv[1], "read") == 0 ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (descriptor < 0) {
        perror(argv[2]);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        int status = system(line);
        printf("status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    return 0;
}
