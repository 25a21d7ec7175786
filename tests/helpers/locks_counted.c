// link: build/shim/lock_list.o build/shim/fdinfo.o build/shim/proc.o build/shim/text.o build/shim/process.o
/* locks_counted.c: locks_counted FILE READERS TIMES BEFORE...: so many descriptions lock a file for reading; for each
 * BEFORE, so many locks stand before them in the list of all locks, and the readers are counted there. Says for each
 * BEFORE how often that was too few, and how often too many or not told. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../shim/lock_list.h"

static int lock(int descriptor, short type, off_t start, off_t length)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(descriptor, F_OFD_SETLK, &lock);
}

static void count_reader(const struct fdinfo_lock *lock, void *argument, struct lock_counts *counts)
{
    const struct stat *file = argument;
    counts->of[0] += lock->inode == file->st_ino && lock->end == 1;
}

/* Whatever is locked last stands first. */
static int lock_before(int many)
{
    static int other = -1;
    if (other >= 0) close(other);
    other = open("before", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (int i = 0; i < many; i++)
        if (lock(other, F_WRLCK, 100 + 2 * i, 1) < 0) return -1;
    return other;
}

int main(int argc, char **argv)
{
    if (argc < 5) return 2;
    const int readers = atoi(argv[2]), times = atoi(argv[3]);
    struct stat file;
    for (int i = 0; i < readers; i++)
        if (lock(open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600), F_RDLCK, 0, 2) < 0) return 1;
    if (stat(argv[1], &file) < 0) return 1;
    for (int i = 4; i < argc; i++) {
        struct lock_counts counts = {{0}};
        int low = 0, high = 0;
        if (lock_before(atoi(argv[i])) < 0) return 1;
        for (int time = 0; time < times; time++) {
            const enum lock_list_answer answer = lock_list_count(count_reader, &file, &counts);
            low += answer == LOCK_LIST_TOLD && counts.of[0] < readers;
            high += answer != LOCK_LIST_TOLD || counts.of[0] > readers;
        }
        printf("%d %d\n", low, high);
    }
}
