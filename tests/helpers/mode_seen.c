/* mode_seen.c: mode_seen LOCKFILE PID: what another process sees of a lock: free, shared or exclusive, and under which
 * mode that process is on record, "unseen" without a record: "shared shared". */
#include "check.h"

enum { SLOTS = 4096, SLOT_BYTE = 1024, RECORD_OFFSET = 4096, RECORD_SIZE = 256 };

/* A record counts while its byte is locked. */
static bool is_claimed(int descriptor, int slot)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = SLOT_BYTE + slot, .l_len = 1};
    return fcntl(descriptor, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

static bool read_mode(int descriptor, int slot, const char *pid, char *mode)
{
    char record[RECORD_SIZE + 1] = "";
    char key[32];
    if (pread(descriptor, record, RECORD_SIZE, RECORD_OFFSET + (off_t)slot * RECORD_SIZE) <= 0) return false;
    snprintf(key, sizeof key, " pid=%s ", pid);
    const char *at = strstr(record, key) ? strstr(record, " mode=") : NULL;
    return at && is_claimed(descriptor, slot) && sscanf(at, " mode=%31s", mode) == 1;
}

int main(int argc, char **argv)
{
    char mode[32] = "unseen";
    if (argc != 3) return 2;
    int descriptor = open(argv[1], O_RDONLY | O_CLOEXEC);
    for (int slot = 0; descriptor >= 0 && slot < SLOTS; slot++)
        if (read_mode(descriptor, slot, argv[2], mode)) break;
    printf("%s %s\n", lock_state(argv[1]), mode);
    return 0;
}
