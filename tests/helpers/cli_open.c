/* cli_open.c: cli_open IMAGE: opens it for writing and says so; "cli_open" alone says "ran".  Linked in several ways by
 * the files that include it. */
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc < 2) return puts("ran") < 0;
    int descriptor = open(argv[1], O_RDWR | O_CLOEXEC);
    if (descriptor < 0) {
        perror(argv[1]);
        return 1;
    }
    return puts("opened") < 0;
}
