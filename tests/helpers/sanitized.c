// link: -fsanitize=address -fno-omit-frame-pointer
/* sanitized.c: sanitized IMAGE: a program that is built with AddressSanitizer, which interposes much itself. */
#include "check.h"

#include <sys/wait.h>

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    char *name = strdup(argv[1]);
    int descriptor = open(name, O_RDWR);
    check_lock("exclusive", "open");
    FILE *stream = fdopen(dup(descriptor), "r+");
    close(descriptor);
    check_lock("exclusive", "a stream is left");
    pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, NULL, 0);
    fclose(stream);
    check_lock("free", "fclose");
    stream = fopen(name, "r");
    check_lock("shared", "fopen");
    fclose(stream);
    free(name);
    check_lock("free", "all is closed");
    return checked();
}
