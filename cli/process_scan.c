/* process_scan.c: which processes have some files open, and what they lock in them: one pass over /proc.
 *
 * A lock's owner is an open file description, for which the kernel knows no process: /proc/locks says -1.  So it is
 * found from the other side: every descriptor of every process is identified, and where it is one of the files looked
 * for, its fdinfo tells the locks that it holds.  One pass for any number of files. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "complain.h"
#include "fdinfo.h"
#include "holders.h"
#include "memory.h"
#include "process_scan.h"

struct scanned_file {
    struct file_identity identity;
    bool lock_file;
    size_t next;  /* in the same bucket, plus one; 0: none */
    size_t first; /* its findings, after the pass */
    size_t count;
};

/* ---- which files -------------------------------------------------------------------------------------------- */

bool identify_file(int directory, const char *name, struct file_identity *identity)
{
    struct statx status;
    if (statx(directory, name, AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &status) <
        0)
        return false;
    if (S_ISREG(status.stx_mode))
        *identity = (struct file_identity){makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino};
    else if (S_ISBLK(status.stx_mode))
        *identity = (struct file_identity){makedev(status.stx_rdev_major, status.stx_rdev_minor), 0};
    else
        return false;
    return true;
}

static size_t bucket_of(const struct process_scan *scan, const struct file_identity *identity)
{
    uint64_t mixed = (identity->inode ^ identity->device << 32) * 0x9e3779b97f4a7c15;
    return (size_t)(mixed >> 32) & (scan->bucket_count - 1);
}

static struct scanned_file *find_file(const struct process_scan *scan, const struct file_identity *identity)
{
    if (!scan->bucket_count) return NULL;
    for (size_t at = scan->buckets[bucket_of(scan, identity)]; at; at = scan->files[at - 1].next) {
        struct scanned_file *file = &scan->files[at - 1];
        if (file->identity.inode == identity->inode && file->identity.device == identity->device) return file;
    }
    return NULL;
}

static void put_into_bucket(struct process_scan *scan, size_t index)
{
    size_t *bucket = &scan->buckets[bucket_of(scan, &scan->files[index].identity)];
    scan->files[index].next = *bucket;
    *bucket = index + 1;
}

size_t scan_add(struct process_scan *scan, const struct file_identity *identity, bool lock_file)
{
    struct scanned_file *known = find_file(scan, identity);
    if (known) {
        known->lock_file |= lock_file;
        return (size_t)(known - scan->files);
    }
    scan->files = array_grow(scan->files, scan->file_count, &scan->file_room, sizeof *scan->files);
    scan->files[scan->file_count++] = (struct scanned_file){.identity = *identity, .lock_file = lock_file};
    if (scan->file_count > scan->bucket_count) {
        free(scan->buckets);
        scan->bucket_count = scan->bucket_count ? 2 * scan->bucket_count : 64;
        scan->buckets = calloc(scan->bucket_count, sizeof *scan->buckets);
        if (!scan->buckets) exit(complain("%s", strerror(ENOMEM)));
        for (size_t i = 0; i < scan->file_count; i++) put_into_bucket(scan, i);
    } else {
        put_into_bucket(scan, scan->file_count - 1);
    }
    return scan->file_count - 1;
}

/* ---- what cannot be read --------------------------------------------------------------------------------------- */

/* Does the error say but that it has ended, or is closed? */
static bool is_gone(int error)
{
    return error == ENOENT || error == ESRCH || error == EBADF;
}

/* Of a file itself: one on a server that is dead, say, is none that is looked for. */
static bool says_nothing(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE || error == EINTR;
}

/* ---- one descriptor ----------------------------------------------------------------------------------------- */

static ssize_t read_text(int directory, const char *name, char *bytes, size_t size)
{
    int descriptor = openat(directory, name, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    size_t length = 0;
    ssize_t got = 0;
    while (length < size - 1 && (got = read(descriptor, bytes + length, size - 1 - length)) > 0) length += (size_t)got;
    const int error = errno;
    close(descriptor);
    errno = error;
    bytes[length] = '\0';
    return got < 0 ? -1 : (ssize_t)length;
}

/* The slots whose bytes one open file description has locked: one, unless somebody plays tricks. */
struct slots {
    int numbers[64];
    size_t count;
};

static void note_lock(const char *line, struct finding *finding, struct slots *slots)
{
    struct fdinfo_lock lock;
    if (!fdinfo_parse_lock(line, &lock) || lock.owner == FDINFO_OTHER) return;
    const enum lock_mode mode = lock.exclusive ? LOCK_EXCLUSIVE : LOCK_SHARED;
    if (lock.start < LOCK_BYTE + LOCK_BYTES && mode > finding->own) finding->own = mode;
    if (lock.start <= LOCK_BYTE) finding->first_byte = true;
    if (lock.start <= GATE_BYTE && lock.end == GATE_BYTE) finding->gate = true;
    if (lock.start < RELATIVES_BYTE + RELATIVES && lock.end >= RELATIVES_BYTE && mode > finding->beside)
        finding->beside = mode;
    if (lock.start == lock.end && lock.start >= SLOT_BYTE && lock.start < SLOT_BYTE + SLOTS)
        if (slots->count < sizeof slots->numbers / sizeof *slots->numbers)
            slots->numbers[slots->count++] = (int)(lock.start - SLOT_BYTE);
}

/* A lock on an image. */
static void note_image_lock(const char *line, struct finding *finding)
{
    struct fdinfo_lock lock;
    if (!fdinfo_parse_lock(line, &lock) || lock.waits) return;
    if (lock.owner != FDINFO_OTHER)
        mark_note(&finding->meaning, &lock);
    else if (strstr(line, ": FLOCK ")) /* and no lease */
        finding->flock = true;
}

/* Which locks the descriptor holds, and whether it is more than a name.  False: it is gone, or O_PATH. */
static bool read_fdinfo(int folder, const char *number, bool lock_file, struct finding *finding, struct slots *slots)
{
    char name[32], bytes[4096];
    unsigned flags = 0;
    snprintf(name, sizeof name, "fdinfo/%s", number);
    if (read_text(folder, name, bytes, sizeof bytes) <= 0) return false;
    const char *at = strstr(bytes, "flags:");
    if (at) sscanf(at, "flags: %o", &flags);
    if (flags & O_PATH) return false;
    finding->writes = (flags & O_ACCMODE) != O_RDONLY;
    for (char *line = bytes, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        if (strncmp(line, "lock:", 5) != 0) continue;
        if (lock_file)
            note_lock(line, finding, slots);
        else
            note_image_lock(line, finding);
    }
    return true;
}

static void add_finding(struct process_scan *scan, const struct finding *finding)
{
    scan->findings = array_grow(scan->findings, scan->finding_count, &scan->finding_room, sizeof *scan->findings);
    scan->findings[scan->finding_count++] = *finding;
}

static void scan_descriptor(struct process_scan *scan, pid_t pid, int folder, int directory, const char *number)
{
    struct file_identity identity;
    errno = 0;
    if (!identify_file(directory, number, &identity)) {
        scan->missed |= says_nothing(errno);
        return;
    }
    const struct scanned_file *file = find_file(scan, &identity);
    if (!file) return;
    struct finding finding = {
        .file = (size_t)(file - scan->files), .pid = pid, .descriptor = atoi(number), .slot = -1, .loop = -1};
    struct slots slots = {.count = 0};
    errno = 0;
    if (!read_fdinfo(folder, number, file->lock_file, &finding, &slots)) {
        scan->missed |= errno && !is_gone(errno);
        return;
    }
    size_t at = 0;
    do {
        if (slots.count) finding.slot = slots.numbers[at];
        add_finding(scan, &finding);
    } while (++at < slots.count);
}

/* ---- who waits ----------------------------------------------------------------------------------------------- */

/* Does this text, the fdinfo of an inotify descriptor, tell of a watch on the file of this inode?  Rows are "inotify
 * wd:1 ino:ab4257 sdev:fe00000 mask:...", numbers in hexadecimal (fs/notify/fdinfo.c of the kernel).  events: these and
 * no others; 0: any. */
static bool names_watch(const char *text, uint64_t inode, unsigned events)
{
    for (const char *at = text; (at = strstr(at, "inotify wd:")); at++) {
        unsigned long long watched;
        unsigned mask;
        if (sscanf(at, "inotify wd:%*x ino:%llx sdev:%*x mask:%x", &watched, &mask) == 2 && watched == inode &&
            (!events || mask == events))
            return true;
    }
    return false;
}

/* Is the process told when the file changes, as one that waits for its lock is? */
static bool is_watching(int folder, DIR *descriptors, uint64_t inode, unsigned events)
{
    char name[300], link[32], bytes[4096];
    rewinddir(descriptors);
    for (const struct dirent *entry; (entry = readdir(descriptors));) {
        ssize_t length = readlinkat(dirfd(descriptors), entry->d_name, link, sizeof link - 1);
        if (length < 0) continue;
        link[length] = '\0';
        if (strcmp(link, "anon_inode:inotify") != 0) continue;
        snprintf(name, sizeof name, "fdinfo/%s", entry->d_name);
        if (read_text(folder, name, bytes, sizeof bytes) > 0 && names_watch(bytes, inode, events)) return true;
    }
    return false;
}

/* A process that waits for a lock has the lock file open, and no lock in it but for the gate.  One that waits for
 * somebody who has marks on the image has the image open, and no marks, and watches it for just what lock_wait.c does.
 * before: where its findings start. */
static void note_waiting(struct process_scan *scan, int folder, DIR *descriptors, size_t before)
{
    for (size_t i = before; i < scan->finding_count; i++) {
        struct finding *finding = &scan->findings[i];
        const struct scanned_file *file = &scan->files[finding->file];
        if (!file->lock_file && finding->descriptor >= 0 && !finding->meaning.bytes)
            finding->waits = is_watching(folder, descriptors, file->identity.inode, IN_CLOSE | IN_ATTRIB);
        if (!file->lock_file || finding->own || finding->beside || finding->slot >= 0) continue;
        finding->waits = is_watching(folder, descriptors, file->identity.inode, 0);
    }
}

/* ---- one process -------------------------------------------------------------------------------------------- */

/* Files that are mapped: the descriptor may be closed by now.  The device here is the file system's, which is stat's on
 * all but a few (btrfs).  before: where the findings of the process's descriptors start. */
static void scan_mappings(struct process_scan *scan, pid_t pid, int folder, size_t before)
{
    static char *line;
    static size_t size;
    int descriptor = openat(folder, "maps", O_RDONLY | O_CLOEXEC);
    FILE *stream = descriptor < 0 ? NULL : fdopen(descriptor, "r");
    if (!stream) {
        scan->missed |= !is_gone(errno) && errno != EACCES && errno != EPERM;
        if (descriptor >= 0) close(descriptor);
        return;
    }
    while (getline(&line, &size, stream) > 0) {
        unsigned major_number, minor_number;
        unsigned long long inode;
        /* address, permissions ("rw-s"), offset, device, inode */
        const char *at = line;
        for (int i = 0; i < 3 && at; i++) at = strchr(at + 1, ' ');
        if (!at || sscanf(at, " %x:%x %llu", &major_number, &minor_number, &inode) != 3 || inode == 0) continue;
        struct file_identity identity = {makedev(major_number, minor_number), inode};
        const struct scanned_file *file = find_file(scan, &identity);
        if (!file || file->lock_file) continue;
        const char *permissions = strchr(line, ' ') + 1;
        bool known = false;
        struct finding finding = {.file = (size_t)(file - scan->files),
                                  .pid = pid,
                                  .descriptor = -1,
                                  .slot = -1,
                                  .loop = -1,
                                  .writes = permissions[1] == 'w' && permissions[3] == 's'};
        for (size_t i = before; i < scan->finding_count; i++) {
            struct finding *other = &scan->findings[i];
            if (other->file != finding.file) continue;
            known = true;
            if (other->descriptor < 0) other->writes |= finding.writes;
        }
        if (!known) add_finding(scan, &finding);
    }
    scan->missed |= ferror(stream) && !is_gone(errno);
    fclose(stream);
}

/* Kernel threads hold no files, and their descriptors are hidden from all but root. */
static bool is_kernel_thread(int folder)
{
    char bytes[512];
    unsigned flags;
    if (read_text(folder, "stat", bytes, sizeof bytes) <= 0) return false;
    const char *at = strrchr(bytes, ')');
    return at && sscanf(at, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && flags & 0x00200000 /* PF_KTHREAD */;
}

static void scan_process(struct process_scan *scan, pid_t pid, int proc, const char *name)
{
    int folder = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        scan->unseen += !is_gone(errno);
        return;
    }
    int directory = openat(folder, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = directory < 0 ? NULL : fdopendir(directory);
    if (!stream) {
        scan->unseen += !is_gone(errno) && !is_kernel_thread(folder);
        if (directory >= 0) close(directory);
        close(folder);
        return;
    }
    size_t before = scan->finding_count;
    scan->missed = false;
    for (const struct dirent *entry; errno = 0, (entry = readdir(stream));)
        if (isdigit((unsigned char)entry->d_name[0])) scan_descriptor(scan, pid, folder, directory, entry->d_name);
    scan->missed |= errno && !is_gone(errno);
    note_waiting(scan, folder, stream, before);
    closedir(stream);
    if (scan->mappings) scan_mappings(scan, pid, folder, before);
    close(folder);
    scan->unseen += scan->missed;
    if (scan->missed) return;
    scan->seen = array_grow(scan->seen, scan->seen_count, &scan->seen_room, sizeof *scan->seen);
    scan->seen[scan->seen_count++] = pid;
}

/* ---- all ---------------------------------------------------------------------------------------------------- */

/* A loop device has its file open by itself, whatever process attached it. */
static void scan_loop_devices(struct process_scan *scan)
{
    DIR *stream = opendir("/sys/block");
    if (!stream) return;
    for (const struct dirent *entry; (entry = readdir(stream));) {
        char name[300], path[PATH_MAX + 1];
        struct file_identity identity;
        int number;
        if (sscanf(entry->d_name, "loop%d", &number) != 1) continue;
        snprintf(name, sizeof name, "%s/loop/backing_file", entry->d_name);
        ssize_t length = read_text(dirfd(stream), name, path, sizeof path);
        if (length <= 1) continue;
        path[length - 1] = '\0'; /* the newline at its end */
        if (!identify_file(AT_FDCWD, path, &identity)) continue;
        const struct scanned_file *file = find_file(scan, &identity);
        if (!file) continue;
        struct finding finding = {.file = (size_t)(file - scan->files), .descriptor = -1, .slot = -1, .loop = number};
        snprintf(name, sizeof name, "%s/ro", entry->d_name);
        finding.writes = read_text(dirfd(stream), name, path, sizeof path) <= 0 || path[0] != '1';
        add_finding(scan, &finding);
    }
    closedir(stream);
}

static int compare(long long a, long long b)
{
    return (a > b) - (a < b);
}

static int by_file(const void *a, const void *b)
{
    const struct finding *first = a, *second = b;
    int order = compare((long long)first->file, (long long)second->file);
    if (!order) order = compare(first->pid, second->pid);
    if (!order) order = compare(first->loop, second->loop);
    return order ? order : compare(first->descriptor, second->descriptor);
}

static int by_number(const void *a, const void *b)
{
    return compare(*(const pid_t *)a, *(const pid_t *)b);
}

/* A lock that is passed on is for a moment in two hands, byte 0 in one and byte 1 in the other: it is the first's. */
static void settle_hand_over(struct process_scan *scan, const struct scanned_file *file)
{
    struct finding *findings = scan->findings + file->first;
    bool first_byte = false;
    for (size_t i = 0; i < file->count; i++) first_byte |= findings[i].own == LOCK_EXCLUSIVE && findings[i].first_byte;
    for (size_t i = 0; first_byte && i < file->count; i++)
        if (!findings[i].first_byte) findings[i].own = LOCK_NONE;
}

void scan_run(struct process_scan *scan)
{
    if (!scan->file_count) return;
    DIR *stream = opendir("/proc");
    if (!stream) {
        scan->error = errno;
        return;
    }
    pid_t self = getpid();
    for (const struct dirent *entry; errno = 0, (entry = readdir(stream));) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && pid != self) scan_process(scan, pid, dirfd(stream), entry->d_name);
    }
    scan->error = errno;
    closedir(stream);
    scan_loop_devices(scan);
    if (scan->finding_count) qsort(scan->findings, scan->finding_count, sizeof *scan->findings, by_file);
    if (scan->seen_count) qsort(scan->seen, scan->seen_count, sizeof *scan->seen, by_number);
    for (size_t i = scan->finding_count; i-- > 0;) {
        struct scanned_file *file = &scan->files[scan->findings[i].file];
        file->first = i;
        file->count++;
    }
    for (size_t i = 0; i < scan->file_count; i++)
        if (scan->files[i].lock_file && scan->files[i].count) settle_hand_over(scan, &scan->files[i]);
}

const struct finding *scan_findings(const struct process_scan *scan, size_t file, size_t *count)
{
    *count = scan->files[file].count;
    return *count ? &scan->findings[scan->files[file].first] : NULL;
}

bool scan_has_seen(const struct process_scan *scan, pid_t pid)
{
    return scan->seen_count && bsearch(&pid, scan->seen, scan->seen_count, sizeof pid, by_number);
}

void scan_free(struct process_scan *scan)
{
    free(scan->files);
    free(scan->buckets);
    free(scan->findings);
    free(scan->seen);
    *scan = (struct process_scan){0};
}

/* ---- what is known of a process ------------------------------------------------------------------------------ */

bool process_look_up(pid_t pid, struct process_facts *process)
{
    char name[48], bytes[4096];
    pid_t parent;
    *process = (struct process_facts){.pid = pid, .inner_pid = pid};
    if (!process_read_stat(pid, &process->start, &parent, process->command)) return false;
    snprintf(name, sizeof name, "/proc/%d/status", pid);
    if (read_text(AT_FDCWD, name, bytes, sizeof bytes) <= 0) return false;
    /* The name of a process, which comes first, has its newlines escaped here. */
    const char *at = strstr(bytes, "\nUid:");
    if (!at || sscanf(at, "\nUid: %*u %u", &process->uid) != 1) return false;
    uint64_t inner;
    if (process_space_pids(pid, &inner) > 0) process->inner_pid = (pid_t)inner;
    struct stat status;
    snprintf(name, sizeof name, "/proc/%d/ns/pid", pid);
    if (stat(name, &status) == 0) process->pid_space = status.st_ino;
    return true;
}
