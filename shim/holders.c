#include "holders.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/utsname.h>

#include "lock.h"
#include "sys.h"
#include "text.h"

static const char header_start[] = "imglock lock file, version 1\nimage ";

/* ---- this process --------------------------------------------------------------------------------------- */

static ssize_t read_file(const char *path, char *bytes, size_t size)
{
    int descriptor = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return descriptor;
    ssize_t length = sys_read(descriptor, bytes, size - 1);
    sys_close(descriptor);
    bytes[length > 0 ? length : 0] = '\0';
    return length;
}

/* Of the process with this number in /proc, or of this one with 0, whose number in /proc is another than its pid where
 * /proc belongs to another PID namespace. */
static void process_path(pid_t number, const char *name, char path[32])
{
    struct text text = text_in(path, 32);
    text_append(&text, "/proc/");
    if (number)
        text_append_number(&text, number);
    else
        text_append(&text, "self");
    text_append(&text, name);
}

bool holders_look_up(pid_t number, uint64_t *start, pid_t *parent, char *command)
{
    char path[32];
    char stat[512];
    process_path(number, "/stat", path);
    ssize_t length = read_file(path, stat, sizeof stat);
    if (length <= 0) return false;
    /* "pid (command) state ppid ... starttime": the command may hold blanks and brackets, so the fields are
     * counted from the last bracket. */
    const char *open = memchr(stat, '(', (size_t)length);
    const char *close = memrchr(stat, ')', (size_t)length);
    if (!open || !close || close < open) return false;
    if (command) {
        size_t size = (size_t)(close - open - 1) < 16 ? (size_t)(close - open - 1) : 16;
        memcpy(command, open + 1, size);
        command[size] = '\0';
    }
    uint64_t value = 0;
    const char *at = close + 1;
    for (int field = 3; field <= 22; field++) {
        while (*at == ' ') at++;
        const char *cursor = at;
        if (field == 4 || field == 22)
            if (!text_parse_number(&cursor, &value)) return false;
        if (field == 4) *parent = (pid_t)value;
        at += strcspn(at, " ");
    }
    *start = value;
    return true;
}

/* From "NSpid:" in /proc/PID/status, proc_pid_status(5), which comes after the groups, of which there may be thousands.
 */
int holders_space_pids(pid_t number, uint64_t *innermost)
{
    static const char key[] = "\nNSpid:";
    enum { LONGEST_LINE = 512 }; /* of 32 namespaces, MAX_PID_NS_LEVEL */
    char path[32], bytes[2 * LONGEST_LINE];
    size_t have = 0;
    int count = 0;
    process_path(number, "/status", path);
    int descriptor = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return 0;
    for (ssize_t got; (got = sys_read(descriptor, bytes + have, sizeof bytes - 1 - have)) > 0;) {
        have += (size_t)got;
        bytes[have] = '\0';
        const char *at = strstr(bytes, key);
        if (at && strchr(at + 1, '\n')) {
            for (at += sizeof key - 1; *at == '\t'; count++) {
                at++;
                if (!text_parse_number(&at, innermost)) break;
            }
            break;
        }
        if (have <= LONGEST_LINE) continue;
        memmove(bytes, bytes + have - LONGEST_LINE, LONGEST_LINE);
        have = LONGEST_LINE;
    }
    sys_close(descriptor);
    return count;
}

bool holders_is_process(pid_t pid, pid_t number)
{
    uint64_t own, others;
    int depth = holders_space_pids(0, &own);
    uint64_t start;
    pid_t parent;
    /* Before Linux 4.1; or /proc does not have this process, and nobody in it is who we mean. */
    if (depth == 0) return pid == number && holders_look_up(0, &start, &parent, NULL);
    return holders_space_pids(number, &others) == depth && others == (uint64_t)pid;
}

static uint64_t read_boot_id(void)
{
    char text[64];
    uint64_t id = 0;
    if (read_file("/proc/sys/kernel/random/boot_id", text, sizeof text) <= 0) return 0;
    int digits = 0;
    for (const char *at = text; *at && digits < 16; at++) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0' : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : -1;
        if (digit < 0) continue;
        id = id << 4 | (unsigned)digit;
        digits++;
    }
    return id;
}

/* The inode number of the PID namespace, from the text of the link, "pid:[4026531836]" (namespaces(7)): to follow it
 * makes the inode, which takes twice as long. */
static uint64_t read_pid_space(void)
{
    static const char start[] = "pid:[";
    char link[32];
    uint64_t space;
    ssize_t length = sys_readlinkat(AT_FDCWD, "/proc/self/ns/pid", link, sizeof link - 1);
    if (length <= (ssize_t)sizeof start - 1 || memcmp(link, start, sizeof start - 1) != 0) return 0;
    link[length] = '\0';
    const char *at = link + sizeof start - 1;
    return text_parse_number(&at, &space) ? space : 0;
}

static void append_word(struct text *text, const char *word, size_t longest)
{
    /* Records are words between blanks. */
    size_t end = text->length + longest;
    for (; *word && text->length < end; word++) {
        if (*word == ' ')
            text_append(text, "_");
        else
            text_append_untrusted(text, word, 1);
    }
}

static void append_process(struct text *text, const struct holder *holder)
{
    text_append(text, "sum=........ pid=");
    text_append_number(text, holder->pid);
    text_append(text, " start=");
    text_append_number(text, (long long)holder->start);
    text_append(text, " boot=");
    text_append_hex(text, holder->boot, 16);
    text_append(text, " pidns=");
    text_append_number(text, (long long)holder->pid_space);
    text_append(text, " uid=");
}

/* Stands for the start time where /proc does not tell it: else two processes with one pid, in PID namespaces of their
 * own, would be the same. */
static _Atomic uint64_t random_start;

static uint64_t choose_start(void)
{
    uint64_t none = 0, random = 0;
    struct timespec now = {0};
    if (sys_call(SYS_getrandom, (long)&random, sizeof random, GRND_NONBLOCK, 0, 0, 0) != sizeof random) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        random = ((uint64_t)now.tv_sec << 30 | (uint64_t)now.tv_nsec) * 1099511628211u;
    }
    random = (random & INT64_MAX) | UINT64_C(1) << 62; /* later than any start time */
    return atomic_compare_exchange_strong(&random_start, &none, random) ? random : none;
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
    uid_t uid;
    int descriptor;
    enum lock_mode mode;
    int family;
    unsigned block;
    const char *reason;
} last;

static struct holder this_process;

void holders_forget_self(void)
{
    __atomic_store_n(&this_process.pid, 0, __ATOMIC_RELEASE);
    random_start = 0;
    last.process = 0;
}

static const struct holder *self_of(pid_t pid)
{
    /* The guard comes here outside the track's section: what is filled in by two threads at once is the same, and the
     * pid, which says that it is there, comes last. */
    if (__atomic_load_n(&this_process.pid, __ATOMIC_ACQUIRE) == pid) return &this_process;
    struct holder found = {0};
    char command[17] = "";
    pid_t parent;
    if (!holders_look_up(0, &found.start, &parent, command)) {
        found.start = choose_start();
        sys_call(SYS_prctl, PR_GET_NAME, (long)command, 0, 0, 0, 0);
    }
    found.boot = read_boot_id();
    found.pid_space = read_pid_space();
    struct utsname names;
    struct text host = text_in(found.host, sizeof found.host);
    if (sys_call(SYS_uname, (long)&names, 0, 0, 0, 0, 0) == 0) append_word(&host, names.nodename, 32);
    struct text word = text_in(found.command, sizeof found.command);
    append_word(&word, command, 48);
    this_process = found;
    __atomic_store_n(&this_process.pid, pid, __ATOMIC_RELEASE);
    return &this_process;
}

const struct holder *holders_self(void)
{
    return self_of(sys_getpid());
}

uid_t holders_user(const struct holder *holder)
{
    const struct holder *self = holders_self();
    char path[32], status[512];
    uint64_t start, uid;
    pid_t parent;
    if (holder->boot != self->boot || holder->pid_space != self->pid_space ||
        !holders_look_up(holder->pid, &start, &parent, NULL) || start != holder->start)
        return holder->uid;
    process_path(holder->pid, "/status", path);
    if (read_file(path, status, sizeof status) <= 0) return holder->uid;
    /* "Uid:\treal\teffective\t..."; the command, which comes first, has its newlines escaped. */
    const char *at = strstr(status, "\nUid:\t");
    if (at) at = strchr(at + sizeof "\nUid:\t" - 1, '\t');
    if (!at++) return holder->uid;
    return text_parse_number(&at, &uid) ? (uid_t)uid : holder->uid;
}

/* ---- records -------------------------------------------------------------------------------------------- */

static const sys_signals too_large = (sys_signals)1 << (SIGXFSZ - 1);

/* Writes where a limit on the size of files (RLIMIT_FSIZE) may be in force: the SIGXFSZ that it sends is not the
 * program's. */
static void write_parts(int lock_descriptor, const struct iovec *parts, int count, off_t offset)
{
    sys_signals before;
    sys_sigmask(SIG_BLOCK, &too_large, &before);
    if (sys_call(SYS_pwritev, lock_descriptor, (long)parts, count, offset, 0, 0) == -EFBIG) sys_sigtake(&too_large);
    sys_sigmask(SIG_SETMASK, &before, NULL);
}

/* The same for one part, with all signals blocked already. */
static void write_masked(int lock_descriptor, const char *bytes, size_t length, off_t offset)
{
    if (sys_pwrite(lock_descriptor, bytes, length, offset) == -EFBIG) sys_sigtake(&too_large);
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

static void append_operations(struct text *text, unsigned block)
{
    for (int i = 0; i < OPERATIONS; i++) {
        if (!(block & 1u << i)) continue;
        text_append(text, policy_operation_name((enum operation)i));
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
    append_process(&text, holder);
    text_append_number(&text, holder->uid);
    text_append(&text, " mode=");
    text_append(&text, policy_mode_name(holder->mode));
    if (holder->family) {
        text_append(&text, " family=");
        text_append_number(&text, holder->family);
    }
    text_append(&text, " since=");
    size_t since = text.length;
    char digits[SINCE_DIGITS];
    put_digits(digits, SINCE_DIGITS, (uint64_t)holder->since_ms);
    text_append_bytes(&text, digits, sizeof digits);
    text_append(&text, " fd=");
    text_append_number(&text, holder->descriptor);
    text_append(&text, " host=");
    text_append_bytes(&text, holder->host, strnlen(holder->host, reason ? SHORT_HOST : sizeof holder->host));
    text_append(&text, " cmd=");
    text_append_bytes(&text, holder->command,
                      strnlen(holder->command, reason ? SHORT_COMMAND : sizeof holder->command));
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

int64_t holders_now(void)
{
    struct timespec now = {0};
    /* libc's, which asks no kernel.  What it says to a program whose clock is faked, it says to us. */
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct holder describe_self(int lock_descriptor, uid_t uid, const struct holder_note *note)
{
    pid_t pid = note->process ? note->process : sys_getpid();
    struct holder self = *self_of(pid);
    self.pid = pid; /* another thread may be filling in the same */
    self.uid = uid;
    self.mode = note->mode;
    self.family = note->family;
    self.block = note->block;
    self.since_ms = note->since_ms ? note->since_ms : holders_now();
    self.descriptor = lock_descriptor;
    return self;
}

static bool says_the_same(int lock_descriptor, uid_t uid, const struct holder_note *note)
{
    return last.process == note->process && last.uid == uid && last.descriptor == lock_descriptor &&
           last.mode == note->mode && last.family == note->family && last.block == note->block &&
           last.reason == note->reason;
}

/* The record of last for this process, anew. */
static void renew_last(int lock_descriptor, uid_t uid, const struct holder_note *note)
{
    const struct holder self = describe_self(lock_descriptor, uid, note);
    last.since = build_record(last.record, &self, note->reason);
    last.since_ms = (uint64_t)self.since_ms;
    last.summed = (last.since - SUM_LENGTH) / sizeof(uint64_t) * sizeof(uint64_t);
    last.sum = add_words(CHECKSUM_START, last.record + SUM_LENGTH, last.summed);
    last.process = note->process;
    last.uid = uid;
    last.descriptor = lock_descriptor;
    last.mode = note->mode;
    last.family = note->family;
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

static void write_own_record(int lock_descriptor, int slot, const struct holder_note *note)
{
    uid_t uid = sys_geteuid();
    if (!note->process) {
        char record[RECORD_SIZE + 1];
        const struct holder self = describe_self(lock_descriptor, uid, note);
        build_record(record, &self, note->reason);
        put_checksum(record, checksum(record));
        write_record(lock_descriptor, slot, record, false);
        return;
    }
    if (says_the_same(lock_descriptor, uid, note))
        set_last_since((uint64_t)(note->since_ms ? note->since_ms : holders_now()));
    else
        renew_last(lock_descriptor, uid, note);
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
    uint64_t family = 0;
    char mode[16], boot[17], sum[9];
    char block[48] = "";
    struct text expected = text_in(sum, sizeof sum);
    text_append_hex(&expected, checksum(record), 8);
    if (memcmp(record, "sum=", 4) != 0 || memcmp(record + 4, sum, 8) != 0) return false;
    take_reason(record, holder);
    if (!number_field(record, " pid=", &pid) || !number_field(record, " start=", &start) ||
        !number_field(record, " pidns=", &pid_space) || !number_field(record, " uid=", &uid) ||
        !number_field(record, " since=", &since) || !number_field(record, " fd=", &descriptor) ||
        !word_field(record, " mode=", mode, sizeof mode) || !word_field(record, " boot=", boot, sizeof boot) ||
        !word_field(record, " host=", holder->host, sizeof holder->host) ||
        !word_field(record, " cmd=", holder->command, sizeof holder->command))
        return false;
    number_field(record, " family=", &family);
    holder->block = 0;
    if (word_field(record, " block=", block, sizeof block) && !policy_parse_operations(block, &holder->block))
        return false;
    if (pid == 0 || pid > INT_MAX || uid > UINT32_MAX || descriptor > INT_MAX || since > INT64_MAX ||
        family > FAMILY_PAIRS || !parse_mode(mode, &holder->mode))
        return false;
    holder->boot = 0;
    for (const char *at = boot; *at; at++)
        holder->boot = holder->boot << 4 | (unsigned)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
    holder->pid = (pid_t)pid;
    holder->start = start;
    holder->pid_space = pid_space;
    holder->uid = (uid_t)uid;
    holder->family = (int)family;
    holder->since_ms = (int64_t)since;
    holder->descriptor = (int)descriptor;
    return true;
}

static void read_record(int lock_descriptor, struct holder *holder)
{
    char record[RECORD_SIZE + 1];
    ssize_t got = sys_pread(lock_descriptor, record, RECORD_SIZE, RECORD_OFFSET + (off_t)holder->slot * RECORD_SIZE);
    record[RECORD_SIZE] = '\0';
    holder->recorded = got == RECORD_SIZE && strlen(record) == RECORD_SIZE && parse_record(record, holder);
}

/* ---- slots ---------------------------------------------------------------------------------------------- */

static int lock_slots(int lock_descriptor, int command, short type, int slot, int count, struct flock *range)
{
    *range = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = SLOT_BYTE + slot, .l_len = count};
    return sys_fcntl(lock_descriptor, command, (long)range);
}

/* The slots that a process tries first: the one it had last; 0, so that the file of an image with one holder stays
 * short enough to read, then one of 8, of 64, of 512 and of all, by pid, so that a thousand holders find theirs without
 * trying hundreds. */
enum { FIRST_TRIES = 6 };
static _Atomic int last_slot;

static int slot_to_try(pid_t pid, int try)
{
    if (try-- == 0) return last_slot;
    if (try < FIRST_TRIES - 1) return (int)((unsigned)pid % (1u << 3 * try));
    /* An odd step comes to every slot, and one that depends on the pid parts neighbours at once. */
    return (int)(((unsigned)pid + (unsigned)try * ((unsigned)pid * 2654435761u >> 16 | 1)) % SLOTS);
}

int holders_claim(int lock_descriptor, const struct holder_note *note)
{
    pid_t pid = 0; /* asked for when slot 0 is not to be had */
    struct flock range;
    for (int try = 0; try < FIRST_TRIES + SLOTS; try++) {
        if (try == 2) pid = note->process ? note->process : sys_getpid();
        int slot = slot_to_try(pid, try);
        int result = lock_slots(lock_descriptor, F_OFD_SETLK, F_WRLCK, slot, 1, &range);
        if (result == 0) {
            write_own_record(lock_descriptor, slot, note);
            /* Until now the slot's record was that of whoever had the slot before: it counts from here on.  And shared,
             * the slot goes together with a shared lock on the whole file, as flock --fcntl -s takes it. */
            lock_slots(lock_descriptor, F_OFD_SETLK, F_RDLCK, slot, 1, &range);
            if (slot != last_slot) last_slot = slot;
            return slot;
        }
        if (result != -EAGAIN && result != -EACCES) return -1; /* a read-only descriptor, no memory */
        /* flock --fcntl has all of them. */
        if (try == FIRST_TRIES && lock_slots(lock_descriptor, F_OFD_GETLK, F_WRLCK, slot, 1, &range) == 0 &&
            range.l_type != F_UNLCK && range.l_start <= SLOT_BYTE && range.l_len == 0)
            return -1;
    }
    return -1;
}

void holders_rewrite(int lock_descriptor, int slot, const struct holder_note *note)
{
    struct flock range;
    if (slot < 0) return;
    lock_slots(lock_descriptor, F_OFD_SETLK, F_WRLCK, slot, 1, &range);
    write_own_record(lock_descriptor, slot, note);
    lock_slots(lock_descriptor, F_OFD_SETLK, F_RDLCK, slot, 1, &range);
}

void holders_rewrite_for(int lock_descriptor, const struct holder *holder, enum lock_mode mode)
{
    struct flock range;
    struct holder changed = *holder;
    changed.mode = mode;
    changed.since_ms = holders_now();
    lock_slots(lock_descriptor, F_OFD_SETLK, F_WRLCK, holder->slot, 1, &range);
    char record[RECORD_SIZE + 1];
    build_record(record, &changed, *holder->reason ? holder->reason : NULL);
    put_checksum(record, checksum(record));
    write_record(lock_descriptor, holder->slot, record, false);
    lock_slots(lock_descriptor, F_OFD_SETLK, F_RDLCK, holder->slot, 1, &range);
}

bool holders_read(int lock_descriptor, int slot, struct holder *holder)
{
    memset(holder, 0, sizeof *holder);
    holder->slot = slot;
    read_record(lock_descriptor, holder);
    return holder->recorded;
}

bool holders_next(int lock_descriptor, int from, struct holder *holder)
{
    /* GETLK reports any one lock of the range, in the order of the kernel's list.  Asking again below the one
     * found until nothing is left there gives the lowest, in a few calls. */
    struct flock range;
    int end = SLOTS;
    int lowest = -1;
    bool claimed = false;
    while (from < end) {
        if (lock_slots(lock_descriptor, F_OFD_GETLK, F_WRLCK, from, end - from, &range) < 0 || range.l_type == F_UNLCK)
            break;
        int found = (int)(range.l_start - SLOT_BYTE);
        lowest = found > from ? found : from;
        /* An exclusive lock is a claim whose record is not written yet.  One on more than the slot is none: flock
         * --fcntl locks the whole file, old records and all. */
        claimed = range.l_type == F_RDLCK && found == lowest && range.l_len == 1;
        end = lowest;
    }
    if (lowest < 0) return false;
    memset(holder, 0, sizeof *holder);
    holder->slot = lowest;
    if (claimed) read_record(lock_descriptor, holder);
    return true;
}

bool holders_find_own(int lock_descriptor, struct holder *holder)
{
    /* A slot is ours when others find it locked and we find nobody in the way: a lock does not conflict with itself.
     * Others are asked for through an open file description made for that. */
    char link[32];
    struct text text = text_in(link, sizeof link);
    text_append(&text, "/proc/self/fd/");
    text_append_number(&text, lock_descriptor);
    int other = sys_openat(AT_FDCWD, link, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
    if (other < 0) return false;
    bool found = false;
    for (int slot = 0; !found && holders_next(other, slot, holder); slot = holder->slot + 1) {
        struct flock range;
        found = holder->recorded && lock_slots(lock_descriptor, F_OFD_GETLK, F_WRLCK, holder->slot, 1, &range) == 0 &&
                range.l_type == F_UNLCK;
    }
    sys_close(other);
    return found;
}

/* ---- header --------------------------------------------------------------------------------------------- */

void holders_write_header(int lock_descriptor, const char *image_path)
{
    /* The path as it is, then a NUL: paths hold newlines.  The header ends where the records begin; the longest
     * paths lose their end.  In one call: a file that has a size and no header yet is taken for somebody else's. */
    size_t start = sizeof header_start - 1;
    size_t length = strlen(image_path) + 1;
    if (length > RECORD_OFFSET - start) length = RECORD_OFFSET - start;
    const struct iovec parts[2] = {{(void *)header_start, start}, {(void *)image_path, length}};
    write_parts(lock_descriptor, parts, 2, 0);
}

bool holders_has_header(int lock_descriptor)
{
    char start[sizeof header_start - 1];
    return sys_pread(lock_descriptor, start, sizeof start, 0) == (ssize_t)sizeof start &&
           memcmp(start, header_start, sizeof start) == 0;
}

bool holders_read_header(int lock_descriptor, char *path)
{
    const size_t start = sizeof header_start - 1;
    if (!holders_has_header(lock_descriptor)) return false;
    ssize_t got = sys_pread(lock_descriptor, path, RECORD_OFFSET - start, (off_t)start);
    return got > 0 && path[0] == '/' && memchr(path, '\0', (size_t)got);
}
