/* ways_in.c: ways_in list | ways_in WAY IMAGE: tries to change the image's bytes, size or name in that way.  Status 0
 * when it went through, 1 when it was refused.  What the way was given to work with lies in the current directory:
 * "other", a file. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static const char *image;

/* Whoever has it open writes to it, so that the image shows it. */
static bool write_by(int descriptor)
{
    if (descriptor < 0) return false;
    bool written = pwrite(descriptor, "harm", 4, 0) == 4;
    return close(descriptor) == 0 && written;
}

static const char *symbolic_link(void)
{
    unlink("a-name");
    if (symlink(image, "a-name") < 0) exit(2);
    return "a-name";
}

static const char *link_to_link(void)
{
    unlink("another-name");
    symbolic_link();
    if (symlink("a-name", "another-name") < 0) exit(2);
    return "another-name";
}

/* A record lock on a file of the program's own, as a daemon has on its pid file. */
static void lock_own_file(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int descriptor = open("own.pid", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0 || fcntl(descriptor, F_SETLK, &lock) < 0) exit(2);
}

static int open_by_openat2(const char *path, int flags, size_t size)
{
    struct {
        struct open_how how;
        char more[4096 - sizeof(struct open_how)];
    } wide = {.how = {.flags = (unsigned)flags}};
    return (int)syscall(SYS_openat2, AT_FDCWD, path, &wide, size);
}

static const char *descriptor_path(int flags)
{
    static char path[64];
    int descriptor = open(image, flags);
    if (descriptor < 0) exit(1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    return path;
}

static bool spawn_with(const char *path, int flags, bool in_directory)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (in_directory) posix_spawn_file_actions_addchdir_np(&actions, ".");
    posix_spawn_file_actions_addopen(&actions, 1, path, flags, 0);
    char *words[] = {"echo", "harm", NULL};
    pid_t child;
    int status;
    if (posix_spawn(&child, "/bin/echo", &actions, NULL, words, environ) != 0) return false;
    return waitpid(child, &status, 0) == child && status == 0;
}

static bool by_child(pid_t child, int flags)
{
    int status;
    if (child == 0) _exit(!write_by(open(image, flags)));
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

#define WAY(function, expression) \
    static bool function(void)    \
    {                             \
        return expression;        \
    }

WAY(by_rw, write_by(open(image, O_RDWR)))
WAY(by_w, write_by(open(image, O_WRONLY)))
WAY(by_trunc, write_by(open(image, O_WRONLY | O_TRUNC)))
WAY(by_creat_flag, write_by(open(image, O_RDWR | O_CREAT, 0600)))
WAY(by_creat_trunc, write_by(open(image, O_WRONLY | O_CREAT | O_TRUNC, 0600)))
WAY(by_r_trunc, open(image, O_RDONLY | O_TRUNC) >= 0)
WAY(by_mode_3_trunc, open(image, O_ACCMODE | O_TRUNC) >= 0)
WAY(by_append, write_by(open(image, O_WRONLY | O_APPEND)))
WAY(by_creat, write_by(creat(image, 0600)))
WAY(by_fopen, fopen(image, "w") != NULL)
WAY(by_fopen_plus, fopen(image, "r+") != NULL)
WAY(by_freopen, freopen(image, "w", stdin) != NULL)
WAY(by_openat, write_by((int)syscall(SYS_openat, AT_FDCWD, image, O_WRONLY | O_TRUNC)))
WAY(by_openat2, write_by(open_by_openat2(image, O_WRONLY | O_TRUNC, sizeof(struct open_how))))
WAY(by_openat2_32, write_by(open_by_openat2(image, O_WRONLY | O_TRUNC, 32)))
WAY(by_openat2_page, write_by(open_by_openat2(image, O_WRONLY | O_TRUNC, 4096)))
WAY(by_truncate, truncate(image, 0) == 0)
WAY(by_raw_truncate, syscall(SYS_truncate, image, 0L) == 0)
WAY(by_unlink, unlink(image) == 0)
WAY(by_remove, remove(image) == 0)
WAY(by_rename, rename(image, "gone") == 0)
WAY(by_rename_over, rename("other", image) == 0)
WAY(by_raw_rename, syscall(SYS_rename, "other", image) == 0)
WAY(by_exchange, renameat2(AT_FDCWD, "other", AT_FDCWD, image, RENAME_EXCHANGE) == 0)
WAY(by_exchange_first, renameat2(AT_FDCWD, image, AT_FDCWD, "other", RENAME_EXCHANGE) == 0)
WAY(by_path_descriptor, write_by(open(descriptor_path(O_PATH), O_WRONLY | O_TRUNC)))
WAY(by_path_descriptor_rw, write_by(open(descriptor_path(O_PATH), O_RDWR)))
WAY(by_path_truncate, truncate(descriptor_path(O_PATH), 0) == 0)
WAY(by_spawn, spawn_with(image, O_WRONLY | O_TRUNC, false))
WAY(by_spawn_chdir, spawn_with(image, O_WRONLY | O_TRUNC, true))
WAY(by_vfork, by_child(vfork(), O_WRONLY | O_TRUNC))
WAY(by_raw_fork, by_child((pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), O_WRONLY | O_TRUNC))
WAY(by_link_rw, write_by(open(symbolic_link(), O_RDWR)))
WAY(by_link_w, write_by(open(symbolic_link(), O_WRONLY)))
WAY(by_link_trunc, write_by(open(symbolic_link(), O_WRONLY | O_TRUNC)))
WAY(by_link_creat_trunc, write_by(open(symbolic_link(), O_WRONLY | O_CREAT | O_TRUNC, 0600)))
WAY(by_link_creat, write_by(creat(symbolic_link(), 0600)))
WAY(by_link_fopen, fopen(symbolic_link(), "w") != NULL)
WAY(by_link_freopen, freopen(symbolic_link(), "w", stdin) != NULL)
WAY(by_link_openat2, write_by(open_by_openat2(symbolic_link(), O_WRONLY | O_TRUNC, sizeof(struct open_how))))
WAY(by_link_openat2_32, write_by(open_by_openat2(symbolic_link(), O_WRONLY | O_TRUNC, 32)))
WAY(by_link_truncate, truncate(symbolic_link(), 0) == 0)
WAY(by_link_spawn, spawn_with(symbolic_link(), O_WRONLY | O_TRUNC, false))
WAY(by_two_links, write_by(open(link_to_link(), O_WRONLY | O_TRUNC)))
WAY(after_lock_trunc, (lock_own_file(), write_by(open(image, O_WRONLY | O_TRUNC))))
WAY(after_lock_w, (lock_own_file(), write_by(open(image, O_WRONLY))))
WAY(after_lock_creat, (lock_own_file(), write_by(creat(image, 0600))))
WAY(after_lock_fopen, (lock_own_file(), fopen(image, "w") != NULL))
WAY(after_lock_link, (lock_own_file(), write_by(open(symbolic_link(), O_WRONLY | O_TRUNC))))

static const struct {
    const char *name;
    bool (*go)(void);
} ways[] = {
    {"rw", by_rw},
    {"w", by_w},
    {"w+trunc", by_trunc},
    {"rw+creat", by_creat_flag},
    {"w+creat+trunc", by_creat_trunc},
    {"r+trunc", by_r_trunc},
    {"mode-3+trunc", by_mode_3_trunc},
    {"append", by_append},
    {"creat", by_creat},
    {"fopen-w", by_fopen},
    {"fopen-r+", by_fopen_plus},
    {"freopen", by_freopen},
    {"syscall-openat", by_openat},
    {"openat2", by_openat2},
    {"openat2-32-bytes", by_openat2_32},
    {"openat2-a-page", by_openat2_page},
    {"truncate", by_truncate},
    {"syscall-truncate", by_raw_truncate},
    {"unlink", by_unlink},
    {"remove", by_remove},
    {"rename", by_rename},
    {"rename-over", by_rename_over},
    {"syscall-rename", by_raw_rename},
    {"exchange", by_exchange},
    {"exchange-first", by_exchange_first},
    {"path-descriptor-trunc", by_path_descriptor},
    {"path-descriptor-rw", by_path_descriptor_rw},
    {"path-descriptor-truncate", by_path_truncate},
    {"spawn", by_spawn},
    {"spawn-chdir", by_spawn_chdir},
    {"vfork", by_vfork},
    {"syscall-clone", by_raw_fork},
    {"link-rw", by_link_rw},
    {"link-w", by_link_w},
    {"link-w+trunc", by_link_trunc},
    {"link-w+creat+trunc", by_link_creat_trunc},
    {"link-creat", by_link_creat},
    {"link-fopen", by_link_fopen},
    {"link-freopen", by_link_freopen},
    {"link-openat2", by_link_openat2},
    {"link-openat2-32-bytes", by_link_openat2_32},
    {"link-truncate", by_link_truncate},
    {"link-spawn", by_link_spawn},
    {"link-to-link", by_two_links},
    {"locked-w+trunc", after_lock_trunc},
    {"locked-w", after_lock_w},
    {"locked-creat", after_lock_creat},
    {"locked-fopen", after_lock_fopen},
    {"locked-link", after_lock_link},
};

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) puts(ways[i].name);
        return 0;
    }
    for (size_t i = 0; argc == 3 && i < sizeof ways / sizeof *ways; i++)
        if (strcmp(argv[1], ways[i].name) == 0) {
            image = argv[2];
            if (ways[i].go()) return 0;
            fprintf(stderr, "%s: %s\n", ways[i].name, strerror(errno));
            return 1;
        }
    return 2;
}
