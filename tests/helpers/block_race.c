/* block_race.c: one process changes an image's size without a pause, another blocks that and lets it go again.
 *
 *   block_race resize IMAGE STATE          with the library and IMGLOCK_MODE=shared
 *   block_race block IMAGE STATE ROUNDS    with the library, IMGLOCK_BLOCK=resize and IMGLOCK_WAIT
 *
 * Both map the file STATE.  A blocker is acknowledged by the return of the open; from then until the close begins, no
 * ftruncate may succeed, and none that began before may change the size any more.  Without a blocker each succeeds. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum phase { PHASE_FREE, PHASE_BLOCKED, PHASE_CHANGING, PHASES };
enum { PAUSE_US = 50, ATTEMPTS = 2 };

struct state {
    _Atomic unsigned moment; /* PHASES * round + phase */
    _Atomic unsigned refused;
    _Atomic unsigned done;
    _Atomic unsigned over;
    _Atomic unsigned failed;
    _Atomic unsigned ready;
};

static struct state *map_state(const char *path)
{
    int descriptor = open(path, O_RDWR | O_CREAT, 0600);
    if (descriptor < 0 || ftruncate(descriptor, sizeof(struct state)) < 0) return NULL;
    void *state = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    return state == MAP_FAILED ? NULL : state;
}

static int resize(const char *image, struct state *state)
{
    int descriptor = open(image, O_RDWR);
    if (descriptor < 0) {
        perror(image);
        return 1;
    }
    state->ready = 1;
    for (unsigned long i = 0; !state->over; i++) {
        unsigned before = state->moment;
        int result = ftruncate(descriptor, (off_t)(4096 + i % 1000));
        int error = errno;
        unsigned after = state->moment;
        if (before == after && before % PHASES == PHASE_BLOCKED && result == 0) {
            fprintf(stderr, "round %u: ftruncate succeeded beside the blocker\n", before / PHASES);
            state->failed = 1;
        }
        if (before == after && before % PHASES == PHASE_FREE && result < 0) {
            fprintf(stderr, "round %u: ftruncate failed without a blocker: %s\n", before / PHASES, strerror(error));
            state->failed = 1;
        }
        if (result < 0 && error != EBUSY) {
            fprintf(stderr, "ftruncate: %s\n", strerror(error));
            state->failed = 1;
        }
        if (result < 0)
            state->refused++;
        else
            state->done++;
    }
    return 0;
}

static off_t size_of(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) < 0 ? -1 : status.st_size;
}

/* Until the other one has made some more attempts of this kind. */
static void await(struct state *state, _Atomic unsigned *attempts)
{
    unsigned before = *attempts;
    while (*attempts - before < ATTEMPTS && !state->failed) usleep(PAUSE_US);
}

static void set_moment(struct state *state, unsigned round, enum phase phase)
{
    state->moment = PHASES * round + phase;
}

static int block(const char *image, struct state *state, unsigned rounds)
{
    while (!state->ready) usleep(PAUSE_US);
    for (unsigned round = 1; round <= rounds && !state->failed; round++) {
        set_moment(state, round, PHASE_CHANGING);
        int descriptor = open(image, O_RDONLY);
        if (descriptor < 0) {
            perror(image);
            state->failed = 1;
            break;
        }
        off_t size = size_of(descriptor);
        set_moment(state, round, PHASE_BLOCKED);
        await(state, &state->refused);
        if (size_of(descriptor) != size) {
            fprintf(stderr, "round %u: the size changed beside the blocker\n", round);
            state->failed = 1;
        }
        set_moment(state, round, PHASE_CHANGING);
        close(descriptor);
        set_moment(state, round, PHASE_FREE);
        await(state, &state->done);
    }
    state->over = 1;
    printf("%u refused, %u done\n", state->refused, state->done);
    return state->failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc < 4) return 2;
    struct state *state = map_state(argv[3]);
    if (!state) {
        perror(argv[3]);
        return 1;
    }
    if (strcmp(argv[1], "resize") == 0) return resize(argv[2], state);
    return argc == 5 ? block(argv[2], state, (unsigned)atoi(argv[4])) : 2;
}
