/* hammer.c: hammer ROUNDS [fork]: eight threads of one process open, copy and close the same three images as fast as
 * they can, for the sanitizers and valgrind to watch.  None of it may be refused: a program never locks itself out. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, IMAGES = 3 };
static int rounds;
static int forks;

static void *work(void *argument)
{
    unsigned number = (unsigned)(long)argument;
    unsigned state = number * 2654435761u + 1;
    for (int round = 0; round < rounds; round++) {
        char name[16];
        state = state * 1103515245 + 12345;
        snprintf(name, sizeof name, "%u.img", (state >> 16) % IMAGES);
        int descriptor = open(name, (state >> 20) % 3 ? O_RDONLY : O_RDWR);
        if (descriptor < 0) {
            perror(name);
            exit(1);
        }
        int copy = dup(descriptor);
        close(descriptor);
        if ((state >> 22) % 2) {
            int onto = dup2(copy, 500 + (int)number);
            close(copy);
            copy = onto;
        }
        if (forks && (state >> 23) % 64 == 0) {
            pid_t child = fork();
            if (child == 0) {
                close(copy);
                _exit(0);
            }
            waitpid(child, NULL, 0);
        }
        if (close(copy) < 0) {
            perror("close");
            exit(1);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    rounds = argc > 1 ? atoi(argv[1]) : 1000;
    forks = argc > 2;
    for (int i = 0; i < IMAGES; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.img", i);
        close(open(name, O_CREAT | O_RDWR, 0600));
    }
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    puts("done");
    return 0;
}
