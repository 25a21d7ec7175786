#include "musl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void list(const char *loader, const char *program, const char *library, int errors)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
        dup2(errors, STDERR_FILENO) >= 0 && setenv("LD_PRELOAD", library, 1) == 0)
        execl(loader, loader, "--list", program, (char *)NULL);
    _exit(126);
}

bool musl_loads(const char *loader, const char *program, const char *library, char *reason, size_t size)
{
    int errors[2], status = 0;
    snprintf(reason, size, "its loader %s cannot be asked", loader);
    if (pipe2(errors, O_CLOEXEC) < 0) return false;
    pid_t child = fork();
    if (child == 0) list(loader, program, library, errors[1]);
    close(errors[1]);
    FILE *stream = fdopen(errors[0], "r");
    char line[1024];
    if (child > 0 && stream) {
        /* The first line says what is missing; the others have to be read, too, so that the loader does not wait. */
        if (fgets(line, sizeof line, stream)) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(reason, size, "%s", line);
        }
        while (fgets(line, sizeof line, stream)) continue;
    }
    if (stream)
        fclose(stream);
    else
        close(errors[0]);
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
