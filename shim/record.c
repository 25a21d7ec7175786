#include "record.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "policy.h"
#include "sys.h"
#include "text.h"

static const char header_start[] = "imglock lock file, version 1\nimage ";

static const sys_signals too_large = (sys_signals)1 << (SIGXFSZ - 1);

/* Writes where a limit on the size of files (RLIMIT_FSIZE) may be in force: the SIGXFSZ that it sends is not the
 * program's. */
static void write_parts(int lock_descriptor, const struct iovec *parts, int count, off_t offset)
{
    sys_signals before;
    sys_sigmask(SIG_BLOCK, &too_large, &before);
    if (sys_call(SYS_pwritev, lock_descriptor, (long)parts, count, offset, 0, 0) == -EFBIG)
        sys_sigtake(&too_large, NULL);
    sys_sigmask(SIG_SETMASK, &before, NULL);
}

/* The same for one part, with all signals blocked already. */
static void write_masked(int lock_descriptor, const char *bytes, size_t length, off_t offset)
{
    if (sys_pwrite(lock_descriptor, bytes, length, offset) == -EFBIG) sys_sigtake(&too_large, NULL);
}

/* FNV-1a, eight bytes at a time: against torn and half-written records, not against forgers.  Byte by byte it took a
 * tenth of an image's open. */
#define CHECKSUM_START 14695981039346656037u

static uint64_t add_word(uint64_t sum, uint64_t word)
{
    sum = (sum ^ le64toh(word)) * 1099511628211u;
    return sum ^ sum >> 32;
}

/* All of a record's words, from one on. */
static uint64_t add_words(uint64_t sum, const char *bytes, size_t length)
{
    uint64_t word;
    for (; length >= sizeof word; bytes += sizeof word, length -= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        sum = add_word(sum, word);
    }
    if (length == 0) return sum;
    word = 0;
    memcpy(&word, bytes, length);
    return add_word(sum, word);
}

enum { SUM_LENGTH = 4 + 8 + 1 }; /* "sum=xxxxxxxx " */

/* Words for a record that has a reason, so that of 256 bytes some are left for it. */
enum { SHORT_HOST = 12, SHORT_COMMAND = 20 };

static void append_process(struct text *text, const struct process_identity *process)
{
    text_append(text, "sum=........ pid=");
    text_append_number(text, process->pid);
    text_append(text, " start=");
    text_append_number(text, (long long)process->start);
    text_append(text, " boot=");
    text_append_hex(text, process->boot, 16);
    text_append(text, " pidns=");
    text_append_number(text, (long long)process->pid_space);
    text_append(text, " uid=");
}

static void append_operations(struct text *text, unsigned block)
{
    for (int i = 0; i < OPERATIONS; i++) {
        if (!(block & 1u << i)) continue;
        text_append(text, settings_operation_name((enum operation)i));
        if (block >> (i + 1)) text_append(text, ",");
    }
}

/* The last part of a record, since it may hold blanks.  What is cut is cut between characters. */
static void append_reason(struct text *text, const char *reason)
{
    static const char cut[] = "...";
    char escaped[4 * RECORD_SIZE];
    size_t room = RECORD_SIZE - 1 - text->length;
    struct text whole = text_in(escaped, sizeof escaped);
    text_append_untrusted(&whole, reason, strnlen(reason, RECORD_SIZE));
    if (whole.length <= room) {
        text_append_bytes(text, whole.bytes, whole.length);
        return;
    }
    size_t kept = room < sizeof cut ? 0 : room - (sizeof cut - 1);
    while (kept && (whole.bytes[kept] & 0xc0) == 0x80) kept--;
    text_append_bytes(text, whole.bytes, kept);
    text_append(text, cut);
}

enum { SINCE_DIGITS = 13 }; /* milliseconds, from 2001 to 2286 */

static void put_digits(char *at, int count, uint64_t number)
{
    for (int i = count; i-- > 0; number /= 10) at[i] = (char)('0' + number % 10);
}

/* sum: that of what the record starts with, of so many bytes, a multiple of eight. */
static uint32_t checksum_from(uint64_t sum, size_t summed, const char *record)
{
    return (uint32_t)add_words(sum, record + SUM_LENGTH + summed, RECORD_SIZE - SUM_LENGTH - summed);
}

static uint32_t checksum(const char *record)
{
    return checksum_from(CHECKSUM_START, 0, record);
}

/* Eight digits at once, each in a byte of a word. */
static void put_checksum(char *record, uint32_t sum)
{
    uint64_t digits = sum;
    digits = (digits << 16 | digits) & 0x0000ffff0000ffff;
    digits = (digits << 8 | digits) & 0x00ff00ff00ff00ff;
    digits = (digits << 4 | digits) & 0x0f0f0f0f0f0f0f0f;
    /* From ten on six more bring the fifth bit about, and the letters lie 39 behind the digits. */
    uint64_t letters = (digits + 0x0606060606060606) >> 4 & 0x0101010101010101;
    digits = htobe64(digits + 0x3030303030303030 + letters * ('a' - '0' - 10));
    memcpy(record + 4, &digits, sizeof digits);
}

/* Builds a record, RECORD_SIZE bytes and a NUL, but for its checksum; returns where its since= is. */
static size_t build_record(char *record, const struct holder *holder, const char *reason)
{
    struct text text = text_in(record, RECORD_SIZE + 1);
    append_process(&text, &holder->process);
    text_append_number(&text, holder->uid);
    text_append(&text, " mode=");
    text_append(&text, policy_mode_name(holder->mode));
    if (holder->beside) text_append(&text, " beside=relative");
    text_append(&text, " since=");
    size_t since = text.length;
    char digits[SINCE_DIGITS];
    put_digits(digits, SINCE_DIGITS, (uint64_t)holder->since_ms);
    text_append_bytes(&text, digits, sizeof digits);
    text_append(&text, " fd=");
    text_append_number(&text, holder->descriptor);
    text_append(&text, " host=");
    text_append_bytes(&text, holder->process.host,
                      strnlen(holder->process.host, reason ? SHORT_HOST : sizeof holder->process.host));
    text_append(&text, " cmd=");
    text_append_bytes(&text, holder->process.command,
                      strnlen(holder->process.command, reason ? SHORT_COMMAND : sizeof holder->process.command));
    if (holder->block) {
        text_append(&text, " block=");
        append_operations(&text, holder->block);
    }
    text_append(&text, reason ? " reason=" : " ");
    if (reason) append_reason(&text, reason);
    if (text.length < RECORD_SIZE - 1) memset(record + text.length, ' ', RECORD_SIZE - 1 - text.length);
    record[RECORD_SIZE - 1] = '\n';
    record[RECORD_SIZE] = '\0';
    return since;
}

static void write_record(int lock_descriptor, int slot, const char *record, bool masked)
{
    const off_t offset = RECORD_OFFSET + (off_t)slot * RECORD_SIZE;
    const struct iovec part = {(void *)record, RECORD_SIZE};
    if (masked)
        write_masked(lock_descriptor, record, RECORD_SIZE, offset);
    else
        write_parts(lock_descriptor, &part, 1, offset);
}

int64_t record_now(void)
{
    struct timespec now = {0};
    /* libc's, which asks no kernel.  What it says to a program whose clock is faked, it says to us. */
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The record that this process wrote last.  One that opens an image again and again says the same each time, but for
 * the time.  Only with all signals blocked and in the track's section, which is when the caller knows the process. */
static struct {
    char record[RECORD_SIZE + 1];
    size_t since;      /* where its time is */
    uint64_t since_ms; /* its time */
    size_t summed;     /* the words before the time, and their sum */
    uint64_t sum;
    pid_t process; /* 0: none yet */
    int descriptor;
    enum lock_mode mode;
    bool beside;
    unsigned block;
    const char *reason;
} last;

void record_forget(void)
{
    last.process = 0;
}

static struct holder describe_self(int lock_descriptor, const struct holder_note *note)
{
    const pid_t pid = note->section ? note->section : sys_getpid();
    struct holder self = {.process = *process_self_of(pid),
                          .uid = sys_geteuid(),
                          .mode = note->mode,
                          .beside = note->beside,
                          .block = note->block,
                          .since_ms = note->since_ms ? note->since_ms : record_now(),
                          .descriptor = lock_descriptor};
    self.process.pid = pid; /* another thread may be filling in the same */
    return self;
}

/* The user is not asked for again, which would take a system call more of each open of an image.  A process that
 * changes its user afterwards is told of by its old one where it is not seen in /proc. */
static bool says_the_same(int lock_descriptor, const struct holder_note *note)
{
    return last.process == note->section && last.descriptor == lock_descriptor && last.mode == note->mode &&
           last.beside == note->beside && last.block == note->block && last.reason == note->reason;
}

/* The record of last for this process, anew. */
static void renew_last(int lock_descriptor, const struct holder_note *note)
{
    const struct holder self = describe_self(lock_descriptor, note);
    last.since = build_record(last.record, &self, note->reason);
    last.since_ms = (uint64_t)self.since_ms;
    last.summed = (last.since - SUM_LENGTH) / sizeof(uint64_t) * sizeof(uint64_t);
    last.sum = add_words(CHECKSUM_START, last.record + SUM_LENGTH, last.summed);
    last.process = note->section;
    last.descriptor = lock_descriptor;
    last.mode = note->mode;
    last.beside = note->beside;
    last.block = note->block;
    last.reason = note->reason;
}

/* The time in last: where the second is the same, its last three digits. */
static void set_last_since(uint64_t since_ms)
{
    enum { MILLISECONDS = 3 };
    if (since_ms / 1000 == last.since_ms / 1000)
        put_digits(last.record + last.since + SINCE_DIGITS - MILLISECONDS, MILLISECONDS, since_ms % 1000);
    else
        put_digits(last.record + last.since, SINCE_DIGITS, since_ms);
    last.since_ms = since_ms;
}

void record_write(int lock_descriptor, int slot, const struct holder_note *note)
{
    if (!note->section) {
        char record[RECORD_SIZE + 1];
        const struct holder self = describe_self(lock_descriptor, note);
        build_record(record, &self, note->reason);
        put_checksum(record, checksum(record));
        write_record(lock_descriptor, slot, record, false);
        return;
    }
    if (says_the_same(lock_descriptor, note))
        set_last_since((uint64_t)(note->since_ms ? note->since_ms : record_now()));
    else
        renew_last(lock_descriptor, note);
    put_checksum(last.record, checksum_from(last.sum, last.summed, last.record));
    write_record(lock_descriptor, slot, last.record, true);
}

/* The value of " key=" in a record: where it starts, and its length up to the next blank. */
static const char *field(const char *record, const char *key, size_t *length)
{
    const char *at = strstr(record, key);
    if (!at) return NULL;
    at += strlen(key);
    *length = strcspn(at, " \n");
    return at;
}

static bool number_field(const char *record, const char *key, uint64_t *number)
{
    size_t length;
    const char *at = field(record, key, &length);
    const char *end = at;
    return at && text_parse_number(&end, number) && end == at + length;
}

static bool word_field(const char *record, const char *key, char *word, size_t size)
{
    size_t length;
    const char *at = field(record, key, &length);
    if (!at) return false;
    struct text text = text_in(word, size);
    text_append_bytes(&text, at, length);
    return true;
}

/* The reason is the rest of the record, without the blanks that fill it up.  Cuts it off, since it may read like any
 * other field. */
static void take_reason(char *record, struct holder *holder)
{
    static const char key[] = " reason=";
    holder->reason[0] = '\0';
    char *start = strstr(record, key);
    if (!start) return;
    const char *at = start + sizeof key - 1;
    size_t length = strlen(at);
    while (length && (at[length - 1] == ' ' || at[length - 1] == '\n')) length--;
    struct text text = text_in(holder->reason, sizeof holder->reason);
    text_append_bytes(&text, at, length);
    *start = '\0';
}

static bool parse_mode(const char *word, enum lock_mode *mode)
{
    for (int i = LOCK_NONE; i <= LOCK_EXCLUSIVE; i++)
        if (strcmp(word, policy_mode_name((enum lock_mode)i)) == 0) {
            *mode = (enum lock_mode)i;
            return true;
        }
    return false;
}

static bool parse_record(char *record, struct holder *holder)
{
    uint64_t pid, start, pid_space, uid, since, descriptor;
    char mode[16], boot[17], sum[9];
    char block[48] = "", beside[16];
    struct text expected = text_in(sum, sizeof sum);
    text_append_hex(&expected, checksum(record), 8);
    if (memcmp(record, "sum=", 4) != 0 || memcmp(record + 4, sum, 8) != 0) return false;
    take_reason(record, holder);
    if (!number_field(record, " pid=", &pid) || !number_field(record, " start=", &start) ||
        !number_field(record, " pidns=", &pid_space) || !number_field(record, " uid=", &uid) ||
        !number_field(record, " since=", &since) || !number_field(record, " fd=", &descriptor) ||
        !word_field(record, " mode=", mode, sizeof mode) || !word_field(record, " boot=", boot, sizeof boot) ||
        !word_field(record, " host=", holder->process.host, sizeof holder->process.host) ||
        !word_field(record, " cmd=", holder->process.command, sizeof holder->process.command))
        return false;
    holder->block = 0;
    if (word_field(record, " block=", block, sizeof block) && !settings_parse_operations(block, &holder->block))
        return false;
    if (pid == 0 || pid > INT_MAX || uid > UINT32_MAX || descriptor > INT_MAX || since > INT64_MAX ||
        !parse_mode(mode, &holder->mode))
        return false;
    holder->process.boot = 0;
    for (const char *at = boot; *at; at++)
        holder->process.boot = holder->process.boot << 4 | (unsigned)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
    holder->process.pid = (pid_t)pid;
    holder->process.start = start;
    holder->process.pid_space = pid_space;
    holder->uid = (uid_t)uid;
    holder->beside = word_field(record, " beside=", beside, sizeof beside);
    holder->since_ms = (int64_t)since;
    holder->descriptor = (int)descriptor;
    return true;
}

void record_read(int lock_descriptor, struct holder *holder)
{
    char record[RECORD_SIZE + 1];
    ssize_t got = sys_pread(lock_descriptor, record, RECORD_SIZE, RECORD_OFFSET + (off_t)holder->slot * RECORD_SIZE);
    record[RECORD_SIZE] = '\0';
    holder->recorded = got == RECORD_SIZE && strlen(record) == RECORD_SIZE && parse_record(record, holder);
}

void record_write_for(int lock_descriptor, int slot, const struct holder *holder)
{
    char record[RECORD_SIZE + 1];
    build_record(record, holder, *holder->reason ? holder->reason : NULL);
    put_checksum(record, checksum(record));
    write_record(lock_descriptor, slot, record, false);
}

uid_t record_user(const struct holder *holder)
{
    uid_t user;
    return process_look_at(&holder->process, &user, NULL) ? user : holder->uid;
}

/* ---- header --------------------------------------------------------------------------------------------- */

void record_write_header(int lock_descriptor, const char *image_path)
{
    /* The path as it is, then a NUL: paths hold newlines.  The header ends where the records begin; the longest
     * paths lose their end.  In one call: a file that has a size and no header yet is taken for somebody else's. */
    size_t start = sizeof header_start - 1;
    size_t length = strlen(image_path) + 1;
    if (length > RECORD_OFFSET - start) length = RECORD_OFFSET - start;
    const struct iovec parts[2] = {{(void *)header_start, start}, {(void *)image_path, length}};
    write_parts(lock_descriptor, parts, 2, 0);
}

bool record_has_header(int lock_descriptor)
{
    char start[sizeof header_start - 1];
    return sys_pread(lock_descriptor, start, sizeof start, 0) == (ssize_t)sizeof start &&
           memcmp(start, header_start, sizeof start) == 0;
}

bool record_read_header(int lock_descriptor, char *path)
{
    const size_t start = sizeof header_start - 1;
    if (!record_has_header(lock_descriptor)) return false;
    ssize_t got = sys_pread(lock_descriptor, path, RECORD_OFFSET - start, (off_t)start);
    return got > 0 && memchr(path, '\0', (size_t)got) &&
           (path[0] == '/' || strncmp(path, LOCK_GLUSTER, sizeof LOCK_GLUSTER - 1) == 0);
}
