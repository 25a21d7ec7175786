/* client_lock.c: client_lock LOCKFILE: prints "free", "shared" or "exclusive", as any byte of the lock file is locked
 * by somebody.  Asks only: takes no lock, so that it stands in nobody's way. */
#include <fcntl.h>
#include <stdio.h>

static short find_lock(int descriptor, short wanted)
{
    struct flock whole = {.l_type = wanted, .l_whence = SEEK_SET};
    if (fcntl(descriptor, F_OFD_GETLK, &whole) < 0) {
        perror("F_OFD_GETLK");
        return -1;
    }
    return whole.l_type;
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    int descriptor = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        perror(argv[1]);
        return 1;
    }
    /* A shared lock conflicts with an exclusive one alone. */
    short against_reader = find_lock(descriptor, F_RDLCK);
    short against_writer = find_lock(descriptor, F_WRLCK);
    if (against_reader < 0 || against_writer < 0) return 1;
    puts(against_reader != F_UNLCK ? "exclusive" : against_writer != F_UNLCK ? "shared" : "free");
    return 0;
}
