/* vfork_first.c: vfork_first OTHER IMAGE: a vfork child opens OTHER before this process has opened any image; then this
 * process opens IMAGE, closes all descriptors from 50 on, which are none of its own, and says "open"; at the first line
 * on standard input it closes the image and says "closed"; at the second it ends. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char byte;
    if (argc != 3) return 2;
    pid_t child = vfork();
    if (child == 0) {
        close(open(argv[1], O_RDONLY));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    int descriptor = open(argv[2], O_RDWR);
    if (descriptor < 0) return 1;
    closefrom(50);
    if (write(STDOUT_FILENO, "open\n", 5) != 5) return 1;
    if (read(STDIN_FILENO, &byte, 1) != 1) return 1;
    close(descriptor);
    if (write(STDOUT_FILENO, "closed\n", 7) != 7) return 1;
    return read(STDIN_FILENO, &byte, 1) < 0;
}
