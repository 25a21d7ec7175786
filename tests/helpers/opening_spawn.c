/* opening_spawn.c: opening_spawn open|chdir|fchdir DIRECTORY NAME: has posix_spawn open the file of that name there,
 * truncated, for echo to write to; by its path, or after a change of directory.  Prints the errno of a spawn that
 * fails. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv)
{
    char path[4096];
    posix_spawn_file_actions_t actions;
    pid_t child;
    if (argc != 4) return 2;
    snprintf(path, sizeof path, "%s/%s", argv[2], argv[3]);
    posix_spawn_file_actions_init(&actions);
    if (strcmp(argv[1], "chdir") == 0) posix_spawn_file_actions_addchdir_np(&actions, argv[2]);
    if (strcmp(argv[1], "fchdir") == 0)
        posix_spawn_file_actions_addfchdir_np(&actions, open(argv[2], O_RDONLY | O_DIRECTORY));
    posix_spawn_file_actions_addopen(&actions, 1, strcmp(argv[1], "open") == 0 ? path : argv[3], O_WRONLY | O_TRUNC, 0);
    char *const arguments[] = {"echo", "written", NULL};
    int error = posix_spawn(&child, "/bin/echo", &actions, NULL, arguments, environ);
    if (error) {
        printf("%s\n", strerrorname_np(error));
        return 1;
    }
    int status;
    waitpid(child, &status, 0);
    return status != 0;
}
