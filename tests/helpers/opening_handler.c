/* opening_handler.c: opening_handler DIRECTORY: on a signal stack of 8 KiB, as a program of old has it that ends on
 * SIGTERM: opens its log, renames and truncates, deletes its pid file.  Prints each call that came back. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STACK = 8192, GUARD = 4096 };

static char pid_file[4096], log_file[4096], old_log[4096];

static void say(const char *call, int result)
{
    char line[32];
    int length = snprintf(line, sizeof line, "%s%s\n", call, result < 0 ? " fails" : "");
    (void)!write(1, line, (size_t)length);
}

static void end(int number)
{
    (void)number;
    say("open", open(pid_file, O_RDWR));
    say("create", open(log_file, O_WRONLY | O_CREAT | O_APPEND, 0600));
    say("truncate", truncate(log_file, 0));
    say("rename", rename(log_file, old_log));
    say("unlink", unlink(pid_file));
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    snprintf(pid_file, sizeof pid_file, "%s/program.pid", argv[1]);
    snprintf(log_file, sizeof log_file, "%s/program.log", argv[1]);
    snprintf(old_log, sizeof old_log, "%s/program.log.1", argv[1]);
    close(open(pid_file, O_WRONLY | O_CREAT, 0600));
    char *memory = mmap(NULL, GUARD + STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory + GUARD, STACK, PROT_READ | PROT_WRITE);
    const stack_t stack = {.ss_sp = memory + GUARD, .ss_size = STACK};
    const struct sigaction action = {.sa_handler = end, .sa_flags = SA_ONSTACK};
    sigaltstack(&stack, NULL);
    sigaction(SIGTERM, &action, NULL);
    raise(SIGTERM);
    return 0;
}
