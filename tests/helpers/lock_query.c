/* lock_query.c: lock_query FILE: prints the fcntl locks that others hold on a file, one a line and in
 * the order of their bytes: "write 0-1", "read 1024-1024", "write 0-end".  Ranges that several hold are printed once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* F_GETLK tells of any one lock in the range, so it is asked again on both sides of what it told. */
static int print_locks(int descriptor, off_t start, off_t end)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = end ? end - start : 0};
    if (end && start >= end) return 0;
    if (fcntl(descriptor, F_GETLK, &range) < 0) return -1;
    if (range.l_type == F_UNLCK) return 0;
    off_t behind = range.l_len ? range.l_start + range.l_len : 0;
    if (range.l_start > start && print_locks(descriptor, start, range.l_start) < 0) return -1;
    printf("%s %lld-", range.l_type == F_WRLCK ? "write" : "read", (long long)range.l_start);
    if (behind)
        printf("%lld\n", (long long)behind - 1);
    else
        puts("end");
    return behind ? print_locks(descriptor, behind, end) : 0;
}

int main(int argc, char **argv)
{
    int descriptor = argc == 2 ? open(argv[1], O_RDONLY | O_NOFOLLOW | O_NONBLOCK) : -1;
    if (descriptor < 0 || print_locks(descriptor, 0, 0) < 0) {
        fprintf(stderr, "lock_query: %s: %s\n", argc > 1 ? argv[1] : "usage: lock_query FILE", strerror(errno));
        return 1;
    }
    return 0;
}
