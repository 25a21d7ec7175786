#include "who.h"

#include <fcntl.h>
#include <string.h>

#include "sys.h"

enum { WORD_MAX = 120, CHUNK = 400, LONGEST_COMMAND = 64 * 1024 };

static int open_of(pid_t pid, const char *file)
{
    char name[48];
    struct text path = text_in(name, sizeof name);
    text_append(&path, "/proc/");
    text_append_number(&path, pid);
    text_append(&path, file);
    return sys_openat(AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
}

/* ---- the guest ---------------------------------------------------------------------------------------------- */

/* A command line, an argument after the other; a long one is cut. */
struct arguments {
    int descriptor;
    ssize_t got, at;
    off_t total;
    char chunk[CHUNK];
    char word[WORD_MAX];
};

static bool next_argument(struct arguments *arguments)
{
    size_t length = 0;
    for (bool any = false;; any = true) {
        if (arguments->at == arguments->got) {
            arguments->got = sys_read(arguments->descriptor, arguments->chunk, sizeof arguments->chunk);
            arguments->at = 0;
            if (arguments->got <= 0 || arguments->total > LONGEST_COMMAND) {
                arguments->got = 0;
                arguments->word[length] = '\0';
                return any;
            }
            arguments->total += arguments->got;
        }
        char byte = arguments->chunk[arguments->at++];
        if (!byte) break;
        if (length < sizeof arguments->word - 1) arguments->word[length++] = byte;
    }
    arguments->word[length] = '\0';
    return true;
}

static bool is_qemu(const char *program)
{
    const char *slash = strrchr(program, '/');
    const char *name = slash ? slash + 1 : program;
    return strncmp(name, "qemu-system-", 12) == 0 || strcmp(name, "qemu-kvm") == 0 || strcmp(name, "kvm") == 0;
}

/* "web", "guest=web,debug-threads=on" or "web,process=x": the name, whose commas QEMU wants doubled. */
static void append_name(struct text *text, const char *value)
{
    const char *guest = strstr(value, "guest=");
    if (guest && (guest == value || guest[-1] == ',')) value = guest + 6;
    for (const char *at = value; *at; at++) {
        if (*at == ',' && *++at != ',') return;
        size_t length = text_utf8_sequence(at, strlen(at));
        if (!length) length = 1;
        text_append_untrusted(text, at, length);
        at += length - 1;
    }
}

bool who_guest(struct text *text, pid_t pid)
{
    struct arguments arguments = {.descriptor = open_of(pid, "/cmdline")};
    size_t before = text->length;
    if (arguments.descriptor < 0) return false;
    if (next_argument(&arguments) && is_qemu(arguments.word))
        while (next_argument(&arguments)) {
            if (strcmp(arguments.word, "-name") != 0 && strcmp(arguments.word, "--name") != 0) continue;
            if (next_argument(&arguments)) append_name(text, arguments.word);
            break;
        }
    sys_close(arguments.descriptor);
    return text->length > before;
}

/* ---- the unit and the container ----------------------------------------------------------------------------- */

static bool ends_with(const char *part, size_t length, const char *ending)
{
    size_t wanted = strlen(ending);
    return length > wanted && memcmp(part + length - wanted, ending, wanted) == 0;
}

static bool starts_with(const char *part, size_t length, const char *start)
{
    size_t wanted = strlen(start);
    return length > wanted && memcmp(part, start, wanted) == 0;
}

/* A login session, a user's manager and the first process are nothing to stop. */
static bool is_unit(const char *part, size_t length)
{
    if (ends_with(part, length, ".service")) return !starts_with(part, length, "user@");
    return ends_with(part, length, ".scope") && !starts_with(part, length, "session-") &&
           !starts_with(part, length, "init.");
}

static bool is_id(const char *part, size_t length)
{
    return length == 64 && strspn(part, "0123456789abcdef") >= length;
}

/* A container's name in a part of the path, and its length; NULL: it is none's. */
static const char *container_in(const char *part, size_t *length)
{
    static const char *const starts[] = {"docker-", "libpod-", "cri-containerd-", "crio-"};
    size_t left = *length;
    const char *scope = left > 6 && ends_with(part, left, ".scope") ? part + left - 6 : NULL;
    for (size_t i = 0; scope && i < sizeof starts / sizeof *starts; i++) {
        size_t start = strlen(starts[i]);
        if (!starts_with(part, left, starts[i]) || !is_id(part + start, (size_t)(scope - part) - start)) continue;
        *length = 12;
        return part + start;
    }
    if (is_id(part, left)) {
        *length = 12;
        return part;
    }
    if (starts_with(part, left, "lxc.payload.")) {
        *length = left - 12;
        return part + 12;
    }
    return NULL;
}

/* Where a process stands in the tree of control groups. */
struct cgroup {
    char bytes[512];
    const char *unit; /* the last one of the path; NULL: none */
    size_t unit_length;
    bool of_user; /* it belongs to a user's own systemd */
    const char *container;
    size_t container_length;
};

/* Reads its path, "/system.slice/nightly.service"; of version 1, that of systemd's own hierarchy. */
static void read_cgroup(struct cgroup *cgroup, pid_t pid)
{
    int descriptor = open_of(pid, "/cgroup");
    cgroup->unit = cgroup->container = NULL;
    cgroup->of_user = false;
    if (descriptor < 0) return;
    ssize_t got = sys_read(descriptor, cgroup->bytes, sizeof cgroup->bytes - 1);
    sys_close(descriptor);
    cgroup->bytes[got > 0 ? got : 0] = '\0';
    const char *row = strncmp(cgroup->bytes, "0::", 3) == 0 ? cgroup->bytes : strstr(cgroup->bytes, "\n0::");
    const char *part = strstr(cgroup->bytes, ":name=systemd:");
    part = part ? part + 14 : row ? strstr(row, "::") + 2 : "";
    bool of_user = false;
    while (*part == '/') {
        part++;
        size_t length = strcspn(part, "/\n");
        if (is_unit(part, length)) {
            cgroup->unit = part;
            cgroup->unit_length = length;
            cgroup->of_user = of_user;
        }
        of_user |= starts_with(part, length, "user@");
        if (!cgroup->container) {
            cgroup->container_length = length;
            cgroup->container = container_in(part, &cgroup->container_length);
        }
        part += length;
    }
}

bool who_may_have_unit(pid_t pid)
{
    char bytes[512];
    const int descriptor = open_of(pid, "/cgroup");
    if (descriptor < 0) return false;
    const ssize_t got = sys_read(descriptor, bytes, sizeof bytes);
    sys_close(descriptor);
    return got == sizeof bytes || (got > 0 && memchr(bytes, '.', (size_t)got));
}

bool who_container(struct text *text, pid_t pid)
{
    struct cgroup cgroup;
    read_cgroup(&cgroup, pid);
    if (cgroup.container) text_append_untrusted(text, cgroup.container, cgroup.container_length);
    return cgroup.container;
}

bool who_stop(struct text *text, pid_t pid)
{
    struct cgroup cgroup, own;
    read_cgroup(&cgroup, pid);
    if (!cgroup.unit || !ends_with(cgroup.unit, cgroup.unit_length, ".service") || cgroup.container) return false;
    /* Who asks would end with it. */
    read_cgroup(&own, (pid_t)sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0));
    if (own.unit && own.unit_length == cgroup.unit_length && memcmp(own.unit, cgroup.unit, own.unit_length) == 0)
        return false;
    text_append(text, cgroup.of_user ? "--user stop " : "stop ");
    text_append_untrusted(text, cgroup.unit, cgroup.unit_length);
    return true;
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

static void append_cgroup(struct text *text, pid_t pid)
{
    struct cgroup cgroup;
    read_cgroup(&cgroup, pid);
    if (cgroup.unit) {
        text_append(text, ", unit ");
        text_append_untrusted(text, cgroup.unit, cgroup.unit_length);
    }
    if (cgroup.container) {
        text_append(text, ", container ");
        text_append_untrusted(text, cgroup.container, cgroup.container_length);
    }
}

void who_append(struct text *text, pid_t pid)
{
    const size_t before = text->length;
    text_append(text, ", guest ");
    if (!who_guest(text, pid)) {
        text->length = before;
        text->bytes[before] = '\0';
    }
    append_cgroup(text, pid);
}

void who_append_user(struct text *text, uid_t uid)
{
    char wanted[16];
    struct text digits = text_in(wanted, sizeof wanted);
    text_append_number(&digits, uid);
    char bytes[1024];
    size_t have = 0;
    int descriptor = sys_openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC, 0);
    bool found = false;
    while (descriptor >= 0 && !found) {
        ssize_t got = sys_read(descriptor, bytes + have, sizeof bytes - 1 - have);
        if (got <= 0) break;
        have += (size_t)got;
        bytes[have] = '\0';
        char *entry = bytes;
        for (char *end; !found && (end = strchr(entry, '\n')); entry = end + 1) {
            *end = '\0';
            const char *name_end = strchr(entry, ':');
            const char *number = name_end ? strchr(name_end + 1, ':') : NULL;
            if (!number || strncmp(number + 1, wanted, digits.length) != 0 || number[1 + digits.length] != ':')
                continue;
            text_append_untrusted(text, entry, (size_t)(name_end - entry));
            found = true;
        }
        have -= (size_t)(entry - bytes);
        memmove(bytes, entry, have);
        if (have == sizeof bytes - 1) have = 0;
    }
    if (descriptor >= 0) sys_close(descriptor);
    if (!found) text_append(text, wanted);
}
