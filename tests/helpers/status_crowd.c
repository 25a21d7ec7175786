/* status_crowd.c: status_crowd COUNT read|write IMAGE: COUNT processes open the image, "%d" in its name being the
 * number of the process; says "ready" when all have it, and waits for a signal, which ends them all. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static void be_one(int number, const char *mode, const char *pattern, int report)
{
    char name[4096];
    const char *at = strstr(pattern, "%d");
    if (at)
        snprintf(name, sizeof name, "%.*s%d%s", (int)(at - pattern), pattern, number, at + 2);
    else
        snprintf(name, sizeof name, "%s", pattern);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int descriptor = open(name, strcmp(mode, "read") == 0 ? O_RDONLY : O_RDWR);
    if (write(report, descriptor < 0 ? "-" : "+", 1) != 1) _exit(1);
    close(report);
    for (;;) pause();
}

int main(int argc, char **argv)
{
    int ends[2];
    if (argc != 4 || pipe(ends) < 0) return 2;
    int count = atoi(argv[1]);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0) return 1;
        if (child == 0) {
            close(ends[0]);
            close(1);
            be_one(i, argv[2], argv[3], ends[1]);
        }
    }
    close(ends[1]);
    for (int i = 0; i < count; i++) {
        char word;
        if (read(ends[0], &word, 1) != 1 || word != '+') return 1;
    }
    if (write(1, "ready\n", 6) != 6) return 1;
    close(1);
    for (;;) pause();
}
