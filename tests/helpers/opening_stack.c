/* opening_stack.c: opening_stack DIRECTORY [LEVELS]: how much stack each wrapped call takes of what is no image, one
 * line for each: "unlink 2408".  On a stack of its own, painted before the call.  LEVELS: of directories with long
 * names below that, for paths that fit into no small room. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { STACK = 64 * 1024, PAINT = 0xa5 };

static char *stack;
static ucontext_t caller, callee;
static char text[4096], empty[4096], new[4096], other[4096], temporary[4096], link_name[4096];

static void close_opened(int descriptor)
{
    if (descriptor >= 0) close(descriptor);
}

static void open_read(void)
{
    close_opened(open(text, O_RDONLY));
}
static void open_read_write(void)
{
    close_opened(open(text, O_RDWR));
}
static void open_write(void)
{
    close_opened(open(text, O_WRONLY));
}
static void open_truncating(void)
{
    close_opened(open(empty, O_WRONLY | O_TRUNC));
}
static void open_text_truncating(void)
{
    close_opened(open(text, O_WRONLY | O_TRUNC));
}
static void open_existing(void)
{
    close_opened(open(text, O_RDWR | O_CREAT | O_APPEND, 0600));
}
static void open_new(void)
{
    close_opened(open(new, O_WRONLY | O_CREAT | O_TRUNC, 0600));
}
static void open_link(void)
{
    close_opened(open(link_name, O_WRONLY | O_CREAT, 0600));
}
static void open_missing(void)
{
    close_opened(open("/nowhere/file", O_WRONLY | O_CREAT, 0600));
}
static void open_proc(void)
{
    close_opened(open("/proc/self/maps", O_RDONLY));
}
static void open_device(void)
{
    close_opened(open("/dev/null", O_RDWR | O_TRUNC));
}
static void openat_read(void)
{
    close_opened(openat(AT_FDCWD, text, O_RDONLY));
}
static void do_openat2(void)
{
    const struct open_how how = {.flags = O_RDWR};
    close_opened((int)syscall(SYS_openat2, AT_FDCWD, text, &how, sizeof how));
}
static void do_creat(void)
{
    close_opened(creat(new, 0600));
}
static void do_mkstemp(void)
{
    snprintf(strrchr(temporary, '/'), 16, "/tmpXXXXXX");
    close_opened(mkstemp(temporary));
    remove(temporary);
}
static void do_truncate(void)
{
    (void)!truncate(text, 5);
}
static void do_unlink(void)
{
    unlink(new);
}
static void do_remove(void)
{
    remove(new);
}
static void do_unlinkat(void)
{
    unlinkat(AT_FDCWD, new, 0);
}
static void do_rename(void)
{
    rename(text, other), rename(other, text);
}
static void do_renameat2(void)
{
    renameat2(AT_FDCWD, text, AT_FDCWD, other, 0), rename(other, text);
}
static void do_copies(void)
{
    close(dup(0)), close(fcntl(0, F_DUPFD, 10)), dup2(0, 9), close(9);
}
static void do_lock(void)
{
    struct flock range = {.l_type = F_WRLCK};
    int descriptor = open(text, O_RDWR);
    fcntl(descriptor, F_SETLK, &range);
    (void)!ftruncate(descriptor, 100);
    close(descriptor);
}

static const struct {
    const char *name;
    void (*call)(void);
} calls[] = {{"open-read", open_read},
             {"open-read-write", open_read_write},
             {"open-write", open_write},
             {"open-truncating-empty", open_truncating},
             {"open-existing-creating", open_existing},
             {"open-truncating", open_text_truncating},
             {"open-new", open_new},
             {"open-link", open_link},
             {"open-missing", open_missing},
             {"open-proc", open_proc},
             {"open-device", open_device},
             {"openat", openat_read},
             {"openat2", do_openat2},
             {"unlink", do_unlink},
             {"creat", do_creat},
             {"remove", do_remove},
             {"unlinkat", do_unlinkat},
             {"mkstemp", do_mkstemp},
             {"truncate", do_truncate},
             {"rename", do_rename},
             {"renameat2", do_renameat2},
             {"copies", do_copies},
             {"lock", do_lock},
             {"open-after-lock", open_write}};

static void write_text(void)
{
    int descriptor = open(text, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (int i = 0; i < 10; i++) (void)!write(descriptor, "This is no image.\n", 18);
    close(descriptor);
    unlink(new);
}

static size_t taken(void (*call)(void))
{
    memset(stack, PAINT, STACK);
    getcontext(&callee);
    callee.uc_stack.ss_sp = stack;
    callee.uc_stack.ss_size = STACK;
    callee.uc_link = &caller;
    makecontext(&callee, call, 0);
    swapcontext(&caller, &callee);
    size_t untouched = 0;
    while (untouched < STACK && (unsigned char)stack[untouched] == PAINT) untouched++;
    return STACK - untouched;
}

int main(int argc, char **argv)
{
    char directory[3800];
    if (argc < 2 || !realpath(argv[1], directory)) return 2;
    for (int level = argc > 2 ? atoi(argv[2]) : 0; level > 0; level--) {
        size_t length = strlen(directory);
        snprintf(directory + length, sizeof directory - length, "/%0200d", level);
        if (mkdir(directory, 0700) < 0 && errno != EEXIST) return 2;
    }
    char *const names[] = {text, empty, new, other, temporary, link_name};
    const char *const lasts[] = {"text", "empty", "new", "other", "tmp", "link"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) snprintf(names[i], 4096, "%s/%s", directory, lasts[i]);
    close_opened(open(empty, O_WRONLY | O_CREAT, 0600));
    if (symlink("text", link_name) < 0 && errno != EEXIST) return 2;
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        write_text();
        if (i > 0) taken(calls[i].call); /* what is done at a first call alone: symbols are looked up */
        write_text();
        if (strstr(calls[i].name, "unlink") || strstr(calls[i].name, "remove"))
            close_opened(open(new, O_CREAT | O_RDWR, 0600));
        printf("%s %zu\n", calls[i].name, taken(calls[i].call));
    }
    return 0;
}
