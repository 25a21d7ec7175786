/* status_lock.c: status_lock FILE WORD...: does to a lock file what a script or a forger may do, says "ready", and
 * waits for a signal.  The file is created when there is none.
 *
 *   x:START:LENGTH  s:START:LENGTH    an open file description lock, exclusive or shared; length 0: to the end
 *   px:START:LENGTH ps:START:LENGTH   the same with F_SETLK
 *   record:SLOT:TEXT                  writes a record with the right checksum
 *   header:PATH                       writes the header
 *   pause:MILLISECONDS                waits between one and the next
 *   readonly                          opens the file for reading only; first */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORD = 256, RECORDS = 4096 };

static void write_record(int descriptor, int slot, const char *text)
{
    char record[RECORD + 1];
    char sum[9];
    uint64_t hash = 14695981039346656037u;
    int length = snprintf(record, sizeof record, "sum=........ %s", text);
    memset(record + length, ' ', (size_t)(RECORD - length));
    record[RECORD - 1] = '\n';
    for (int i = 13; i < RECORD; i += 8) {
        uint64_t word = 0;
        memcpy(&word, record + i, RECORD - i < 8 ? (size_t)(RECORD - i) : 8);
        hash = (hash ^ word) * 1099511628211u;
        hash ^= hash >> 32;
    }
    snprintf(sum, sizeof sum, "%08x", (uint32_t)hash);
    memcpy(record + 4, sum, 8);
    if (pwrite(descriptor, record, RECORD, RECORDS + slot * RECORD) != RECORD) exit(1);
}

static void lock(int descriptor, const char *word)
{
    char letter;
    long long start, length;
    int command = *word == 'p' ? F_SETLK : F_OFD_SETLK;
    if (*word == 'p') word++;
    if (sscanf(word, "%c:%lld:%lld", &letter, &start, &length) != 3) exit(2);
    struct flock range = {
        .l_type = letter == 'x' ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(descriptor, command, &range) < 0) {
        perror(word);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    int first = argc > 2 && strcmp(argv[2], "readonly") == 0 ? 3 : 2;
    int descriptor = open(argv[1], first == 3 ? O_RDONLY : O_RDWR | O_CREAT, 0666);
    if (descriptor < 0) {
        perror(argv[1]);
        return 1;
    }
    for (int i = first; i < argc; i++) {
        const char *at = strchr(argv[i], ':');
        if (!at) return 2;
        if (strncmp(argv[i], "pause:", 6) == 0) {
            usleep((useconds_t)atoi(at + 1) * 1000);
        } else if (strncmp(argv[i], "record:", 7) == 0) {
            const char *text = strchr(at + 1, ':');
            if (!text) return 2;
            write_record(descriptor, atoi(at + 1), text + 1);
        } else if (strncmp(argv[i], "header:", 7) == 0) {
            char header[4096];
            int length = snprintf(header, sizeof header, "imglock lock file, version 1\nimage %s", at + 1);
            if (pwrite(descriptor, header, (size_t)length + 1, 0) != length + 1) return 1;
        } else {
            lock(descriptor, argv[i]);
        }
    }
    if (write(1, "ready\n", 6) != 6) return 1;
    close(1);
    for (;;) pause();
}
