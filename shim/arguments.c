#include "arguments.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "sys.h"

enum { ONE_OF_SEVERAL = '.' }; /* a machine's disks: each has options of its own */

/* The short options as each program gives them to getopt: a colon follows those that take an argument.  Only where U is
 * among them is there a --force-share.  A command that is not here has image options alone. */
static const struct syntax {
    const char *program; /* one that ends in a dash or a dot: all whose names begin so */
    const char *command; /* of qemu-img; or NULL */
    const char *options;
    char shares;         /* the option by which QEMU reads beside a writer; ONE_OF_SEVERAL */
    const char *purpose; /* what it writes after it has read; or NULL */
    const char *only;    /* ... told one of these options; "-r": not told that one */
} syntaxes[] = {
    {"qemu-img", NULL, "hVT:", 'U', NULL, NULL},
    {"qemu-img", "amend", "ho:qf:t:", 'U', "to amend it", NULL},
    {"qemu-img", "bench", "hc:d:f:ni:o:qs:S:t:wU", 'U', "to write to it", "w"},
    {"qemu-img", "check", "hf:r:T:qU", 'U', "to repair it", "r"},
    {"qemu-img", "commit", "f:ht:b:dpqr:", 'U', "to commit it", NULL},
    {"qemu-img", "compare", "hf:F:T:pqsU", 'U', NULL, NULL},
    {"qemu-img", "convert", "hf:O:B:CcF:o:l:S:pt:T:qnm:WUr:", 'U', NULL, NULL},
    {"qemu-img", "create", "F:b:f:ho:qu", 'b', "to create it", NULL},
    {"qemu-img", "dd", "hf:O:U", 'U', NULL, NULL},
    {"qemu-img", "info", "hf:U", 'U', NULL, NULL},
    {"qemu-img", "map", "f:s:l:hU", 'U', NULL, NULL},
    {"qemu-img", "measure", "hf:O:o:l:U", 'U', NULL, NULL},
    {"qemu-img", "rebase", "hf:F:b:upt:T:qU", 'U', "to rebase it", NULL},
    {"qemu-img", "resize", "f:hq", 'U', "to resize it", NULL},
    {"qemu-img", "snapshot", "la:c:d:hqU", 'U', "to change its snapshots", "acd"},
    {"qemu-io", NULL, "hVc:d:f:rsnCmki:t:T:U", 'U', "to write to it", "-r"},
    {"qemu-nbd", NULL, "hVb:o:p:rsnc:dvk:e:f:tl:x:T:D:AB:L", 'U', "to serve it for writing", "-r"},
    {"qemu-storage-daemon", NULL, "", 'U', NULL, NULL},
    {"qemu-system-", NULL, "", ONE_OF_SEVERAL, "to run a machine with it", NULL},
    {"qemu-kvm", NULL, "", ONE_OF_SEVERAL, "to run a machine with it", NULL},
    {"mkfs.", NULL, "", 0, "to make a file system on it", NULL},
    {"mke2fs", NULL, "", 0, "to make a file system on it", NULL},
};

/* Where in the arguments we are. */
struct reading {
    const struct syntax *syntax; /* the program's, or, behind it, that of its command; NULL: the command has none */
    const char *image;           /* the name that is looked for; or NULL */
    uint32_t letters;            /* the small ones among the options, a bit each */
    bool command_follows;        /* qemu-img's first word that is no option */
    bool named;                  /* the program's name is behind us */
    bool ended;                  /* so is a "--" */
    bool is_argument;            /* the next word belongs to the option before it */
    bool found;                  /* it reads beside a writer: all images, a machine the one that is looked for */
    bool found_for_one;          /* a machine one of its disks */
    bool found_for_backing;      /* backing files */
    bool names_image;
};

static bool is_program(const char *name, const char *program)
{
    size_t length = strlen(program);
    bool start = program[length - 1] == '-' || program[length - 1] == '.';
    return strncmp(name, program, start ? length : length + 1) == 0;
}

static const struct syntax *find_syntax(const char *program, const char *command)
{
    for (size_t i = 0; i < sizeof syntaxes / sizeof *syntaxes; i++) {
        const char *its = syntaxes[i].command;
        if (!its != !command || *program != *syntaxes[i].program) continue;
        if ((!its || strcmp(its, command) == 0) && is_program(program, syntaxes[i].program)) return &syntaxes[i];
    }
    return NULL;
}

/* "on", and what else QEMU takes for it. */
static bool is_on(const char *value)
{
    static const char *const words[] = {"on", "yes", "true", "y"};
    size_t length = strcspn(value, ", \t\n\"}");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == length && memcmp(words[i], value, length) == 0) return true;
    return false;
}

/* Does an option's name start here?  After a comma, of which two are one in a value; after the name of a child, as in
 * file.force-share; or in the first place, which in qemu-io's commands is behind a blank. */
static bool starts_option(const char *word, const char *at)
{
    size_t commas = 0;
    if (at == word || at[-1] == '.' || at[-1] == ' ') return true;
    while (at > word && at[-1] == ',') at--, commas++;
    return commas % 2;
}

/* Does the option that starts here belong to a backing file, as in file.backing.file.locking? */
static bool is_of_backing(const char *word, const char *at)
{
    static const char backing[] = "backing.";
    const char *start = at;
    while (start > word && start[-1] != ',' && start[-1] != ' ') start--;
    const char *found = starts_option(word, start) ? strstr(start, backing) : NULL;
    return found && found < at;
}

/* backing.file.locking=off: what is behind an overlay is read beside who writes to it.  libguestfs says so, guestfish
 * --ro, for instance.  Of an image that is named QEMU's own locks are not the question. */
static bool is_backing_option(const char *word)
{
    static const char locking[] = "locking=off", sharing[] = "force-share=";
    for (const char *at = word; (at = strstr(at, locking)); at++) {
        const char end = at[strlen(locking)];
        if ((!end || end == ',' || end == ' ') && starts_option(word, at) && is_of_backing(word, at)) return true;
    }
    for (const char *at = word; (at = strstr(at, sharing)); at++)
        if (starts_option(word, at) && is_on(at + strlen(sharing)) && is_of_backing(word, at)) return true;
    return false;
}

/* driver=qcow2,force-share=on, or {"force-share": true} in a json: name. */
static bool is_image_option(const char *word)
{
    static const char plain[] = "force-share=", json[] = "\"force-share\"";
    for (const char *at = word; (at = strstr(at, plain)); at++)
        if (starts_option(word, at) && is_on(at + strlen(plain)) && !is_of_backing(word, at)) return true;
    const char *at = strstr(word, json);
    if (!at) return false;
    at += strlen(json);
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == ':') at++;
    return is_on(at + (*at == '"'));
}

/* Does the word name a file of this base name?  Not "disk.img.bak" where it is "disk.img". */
static bool names_file(const char *word, const char *base)
{
    const size_t length = strlen(base);
    for (const char *at = word; length && (at = strstr(at, base)); at++)
        if ((at == word || strchr("/=:\"", at[-1])) && strchr(",\"", at[length])) return true; /* or the end */
    return false;
}

/* "--force-share", or a beginning of it.  One that is ambiguous for the program is an error there. */
static bool is_long_option(const char *word)
{
    static const char option[] = "--force-share";
    size_t length = strlen(word);
    return length >= strlen("--f") && length < sizeof option && memcmp(word, option, length) == 0;
}

/* One word of short options: -U, -pU, -fqcow2. */
static void read_short_options(struct reading *reading, const char *word)
{
    for (const char *at = word + 1; reading->syntax && *at; at++) {
        const char *option = strchr(reading->syntax->options, *at);
        if (!option || *at == ':') return;
        reading->found |= *at == reading->syntax->shares;
        if (*at >= 'a' && *at <= 'z') reading->letters |= 1u << (*at - 'a');
        if (option[1] == ':') {
            reading->is_argument = !at[1];
            return;
        }
    }
}

static bool is_create(const struct reading *reading)
{
    return reading->syntax && reading->syntax->shares == 'b';
}

static void read_word(struct reading *reading, const char *word)
{
    bool is_argument = reading->is_argument;
    reading->is_argument = false;
    if (!reading->named) {
        reading->named = true;
        return;
    }
    const bool names = reading->image && names_file(word, reading->image), shares = is_image_option(word);
    const bool one = reading->syntax && reading->syntax->shares == ONE_OF_SEVERAL;
    reading->names_image |= names;
    reading->found |= (shares && (!one || names)) || (is_create(reading) && strstr(word, "backing_file="));
    reading->found_for_one |= shares && one;
    reading->found_for_backing |= is_backing_option(word);
    if (reading->ended || is_argument) return;
    if (word[0] != '-' || !word[1]) {
        if (!reading->command_follows) return;
        reading->syntax = find_syntax(reading->syntax->program, word);
        reading->command_follows = false;
    } else if (word[1] != '-') {
        read_short_options(reading, word);
    } else if (!word[2]) {
        reading->ended = true;
    } else {
        reading->found |= reading->syntax && strchr(reading->syntax->options, 'U') && is_long_option(word);
        /* --repair and --read-only; no other that begins so means anything here. */
        if (word[2] == 'r') reading->letters |= 1u << ('r' - 'a');
    }
}

/* Looks at the words one after the other. */
static void read_memory(struct reading *reading, const char *word, const char *end)
{
    for (; word < end; word += strlen(word) + 1) read_word(reading, word);
}

/* The arguments where the kernel has put them (fs/binfmt_elf.c): sixteen random bytes, then the words one after the
 * other, behind them the environment's, behind these the path that was executed.  All of it is mapped as one.  False
 * where libc's pointers no longer say where: a library's constructor has set the first variable, or the program's name,
 * and they are elsewhere.  To ask /proc takes a tenth of what a first image costs. */
static bool find_in_memory(const char **first, const char **end)
{
    int saved = errno;
    const uintptr_t before = getauxval(AT_RANDOM);
    const uintptr_t start = (uintptr_t)program_invocation_name;
    const uintptr_t behind = environ ? (uintptr_t)environ[0] : 0;
    const uintptr_t path = getauxval(AT_EXECFN);
    errno = saved;
    if (!before || start <= before || start >= behind || behind >= path) return false;
    *first = program_invocation_name;
    *end = environ[0];
    return (*end)[-1] == '\0';
}

/* The same in a file, through a window; of a longer word, at its first part. */
static void read_words(struct reading *reading, int descriptor)
{
    char bytes[2048];
    size_t have = 0;
    bool skipping = false; /* the rest of a word that filled the window */
    for (;;) {
        ssize_t got = sys_read(descriptor, bytes + have, sizeof bytes - 1 - have);
        if (got <= 0) return;
        have += (size_t)got;
        bytes[have] = '\0';
        char *word = bytes;
        for (char *end; (end = memchr(word, '\0', have - (size_t)(word - bytes))); word = end + 1) {
            if (!skipping) read_word(reading, word);
            skipping = false;
        }
        have -= (size_t)(word - bytes);
        memmove(bytes, word, have);
        if (have < sizeof bytes - 1) continue;
        bytes[have] = '\0';
        if (!skipping) read_word(reading, bytes);
        skipping = true;
        have = 0;
    }
}

/* Reads all of it.  False: this program has no row in the table, or none with an option to share. */
static bool read_arguments(struct reading *reading, bool to_share)
{
    /* Set by libc before any library's constructor runs. */
    const char *name = program_invocation_short_name;
    const char *first, *end;
    reading->syntax = name ? find_syntax(name, NULL) : NULL;
    if (!reading->syntax || (to_share && !reading->syntax->shares)) return false;
    reading->command_follows = strcmp(name, "qemu-img") == 0;
    if (find_in_memory(&first, &end)) {
        read_memory(reading, first, end);
        return true;
    }
    int descriptor = sys_openat(AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) return false;
    read_words(reading, descriptor);
    sys_close(descriptor);
    return true;
}

enum arguments_sharing arguments_sharing(void)
{
    struct reading reading = {.image = NULL};
    if (!read_arguments(&reading, true)) return SHARING_NONE;
    if (reading.found) return SHARING_ALL;
    return reading.found_for_one || reading.found_for_backing ? SHARING_SOME : SHARING_NONE;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool arguments_share(const char *image)
{
    struct reading reading = {.image = base_name(image)};
    return read_arguments(&reading, true) && (reading.found || (reading.found_for_backing && !reading.names_image));
}

const char *arguments_purpose(const char *image)
{
    struct reading reading = {.image = base_name(image)};
    if (!read_arguments(&reading, false) || !reading.syntax || !reading.names_image) return NULL;
    const char *only = reading.syntax->only;
    bool without = only && *only == '-', told = !only;
    for (const char *at = only ? only + without : ""; *at; at++) told |= reading.letters >> (*at - 'a') & 1;
    return told != without ? reading.syntax->purpose : NULL;
}
