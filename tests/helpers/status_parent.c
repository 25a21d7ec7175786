/* status_parent.c: status_parent IMAGE COMMAND...: opens the image, keeps it for itself, and runs the command. */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3 || open(argv[1], O_RDWR | O_CLOEXEC) < 0) return 2;
    pid_t child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    close(1);
    return child > 0 && waitpid(child, NULL, 0) == child ? 0 : 1;
}
