/* handoff_end.c: one end of a hand-over: opens and closes images as it is told, a line each:
 *
 *   read PATH, write PATH, truncate PATH   opens it; answers "open", or the errno's name
 *   close                                  closes what was opened last; answers "closed"
 *   fork                                   answers with the pid of a child that keeps everything open
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int flags_of(const char *word)
{
    return strcmp(word, "read") == 0 ? O_RDONLY : strcmp(word, "write") == 0 ? O_RDWR : O_RDWR | O_TRUNC;
}

int main(void)
{
    int opened[64];
    int count = 0;
    char word[16], path[4096];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (scanf("%15s", word) == 1) {
        if (strcmp(word, "close") == 0 && count > 0) {
            close(opened[--count]);
            puts("closed");
        } else if (strcmp(word, "fork") == 0) {
            pid_t child = fork();
            if (child == 0)
                for (;;) pause();
            printf("%d\n", child);
        } else if (scanf("%4095s", path) == 1 && count < 64) {
            int descriptor = open(path, flags_of(word) | O_CLOEXEC);
            if (descriptor >= 0) opened[count++] = descriptor;
            puts(descriptor >= 0 ? "open" : strerrorname_np(errno));
        }
    }
    return 0;
}
