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

/* The process's place in the tree of control groups, "/system.slice/nightly.service"; of version 1, that of systemd's
 * own hierarchy.  NULL: not told. */
static const char *read_group(pid_t pid, char *bytes, size_t size)
{
    int descriptor = open_of(pid, "/cgroup");
    if (descriptor < 0) return NULL;
    ssize_t got = sys_read(descriptor, bytes, size - 1);
    sys_close(descriptor);
    if (got <= 0) return NULL;
    bytes[got] = '\0';
    const char *row = strncmp(bytes, "0::", 3) == 0 ? bytes : strstr(bytes, "\n0::");
    const char *path = strstr(bytes, ":name=systemd:");
    path = path ? path + 14 : row ? strstr(row, "::") + 2 : NULL;
    if (!path) return NULL;
    *strchrnul(path, '\n') = '\0';
    return path;
}

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

/* The last unit of the path; NULL: none. */
static const char *unit_in(const char *path, size_t *unit_length)
{
    const char *unit = NULL;
    for (const char *part = path; part && *part;) {
        part++;
        size_t length = strcspn(part, "/");
        if (is_unit(part, length)) {
            unit = part;
            *unit_length = length;
        }
        part += length;
    }
    return unit;
}

bool who_unit(struct text *text, pid_t pid)
{
    char bytes[512];
    size_t length;
    const char *unit = unit_in(read_group(pid, bytes, sizeof bytes), &length);
    if (unit) text_append_untrusted(text, unit, length);
    return unit;
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

/* The container of the path, as container_in has it. */
static const char *container_of(const char *path, size_t *name_length)
{
    for (const char *part = path; part && *part;) {
        part++;
        size_t length = strcspn(part, "/");
        *name_length = length;
        const char *name = container_in(part, name_length);
        if (name) return name;
        part += length;
    }
    return NULL;
}

bool who_container(struct text *text, pid_t pid)
{
    char bytes[512];
    size_t length;
    const char *name = container_of(read_group(pid, bytes, sizeof bytes), &length);
    if (name) text_append_untrusted(text, name, length);
    return name;
}

bool who_stop(struct text *text, pid_t pid)
{
    char bytes[512], own_bytes[512];
    size_t length, own_length, container_length;
    const char *path = read_group(pid, bytes, sizeof bytes);
    const char *unit = unit_in(path, &length);
    if (!unit || !ends_with(unit, length, ".service") || container_of(path, &container_length)) return false;
    /* Who asks would end with it. */
    const char *own =
        unit_in(read_group((pid_t)sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0), own_bytes, sizeof own_bytes), &own_length);
    if (own && own_length == length && memcmp(own, unit, length) == 0) return false;
    const char *user = strstr(path, "/user@");
    text_append(text, user && user < unit ? "--user stop " : "stop ");
    text_append_untrusted(text, unit, length);
    return true;
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

static void append_part(struct text *text, const char *word, bool (*find)(struct text *, pid_t), pid_t pid)
{
    const size_t before = text->length;
    text_append(text, word);
    if (find(text, pid)) return;
    text->length = before;
    text->bytes[before] = '\0';
}

void who_append(struct text *text, pid_t pid)
{
    append_part(text, ", guest ", who_guest, pid);
    append_part(text, ", unit ", who_unit, pid);
    append_part(text, ", container ", who_container, pid);
}
