/* fuzz_records.c: reading a lock file that anybody may have written: header, records, and the lines printed from them.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "holders.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t checksum(const uint8_t *bytes, size_t length)
{
    uint64_t sum = 14695981039346656037u;
    for (; length; length -= length < 8 ? length : 8, bytes += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes, length < 8 ? length : 8);
        sum = (sum ^ word) * 1099511628211u;
        sum ^= sum >> 32;
    }
    return (uint32_t)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1, locker = -1;
    char path[PATH_MAX];
    if (file < 0) {
        file = memfd_create("lock", MFD_CLOEXEC);
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        locker = open(link, O_RDWR | O_CLOEXEC);
        struct flock slot = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = SLOT_BYTE, .l_len = 2};
        if (locker < 0 || fcntl(locker, F_OFD_SETLK, &slot) < 0) abort();
    }
    /* A record whose checksum is right, so that the parser behind it is reached. */
    uint8_t record[RECORD_SIZE];
    memset(record, ' ', sizeof record);
    memcpy(record + 13, data, size < sizeof record - 14 ? size : sizeof record - 14);
    record[sizeof record - 1] = '\n';
    char sum[16];
    snprintf(sum, sizeof sum, "sum=%08x ", checksum(record + 13, sizeof record - 13));
    memcpy(record, sum, 13);
    if (ftruncate(file, 0) < 0 || pwrite(file, data, size, 0) < 0 ||
        pwrite(file, record, sizeof record, RECORD_OFFSET) < 0)
        abort();
    struct holder holder;
    for (int slot = 0; holders_next(file, slot, &holder); slot = holder.slot + 1) {
        if (!holder.recorded) continue;
        if (holder.process.pid <= 0 || memchr(holder.process.host, '\0', sizeof holder.process.host) == NULL) abort();
        char line[512];
        struct text text = text_in(line, sizeof line);
        text_append_untrusted(&text, holder.process.command, strlen(holder.process.command));
        text_append_duration(&text, holder.since_ms);
        for (size_t i = 0; i < text.length; i++)
            if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) abort();
    }
    record_read_header(file, path);
    return 0;
}
