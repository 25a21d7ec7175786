/* gluster.c: gluster OPERATION URL [OTHER]: opens an image of gluster://HOST/VOLUME/PATH by libgfapi, says "ready", and
 * waits for a signal, or ends where ONCE is in the environment.  It ends without glfs_fini, which takes ten seconds.
 *
 * libgfapi is to be preloaded, so that this can be built where it is not: LD_PRELOAD=libgfapi.so.0, behind the library.
 *
 *   read, write   open for reading, for reading and writing
 *   only          for writing alone
 *   create        create and truncate, for writing alone
 *   handle        open by its handle, for writing
 *   made          create by its handle, or open what is there
 *   twice         open for reading, then for writing; close the first
 *   copy          open for writing, copy it and close the first
 *   crowd         four threads open it and close it, for writing and for reading, a hundred times each
 *   beside        a thread opens it for writing; OTHER, too, is opened when there is a line on standard input.  It says
 *                 "first" and "second" when they are open
 *   lock          open for writing, and lock byte 200 itself, as programs do that lock for themselves
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WEAK __attribute__((weak))
struct glfs;
struct glfs_fd;
struct glfs_object;
WEAK struct glfs *glfs_new(const char *volume);
WEAK int glfs_set_volfile_server(struct glfs *fs, const char *transport, const char *host, int port);
WEAK int glfs_set_logging(struct glfs *fs, const char *file, int level);
WEAK int glfs_init(struct glfs *fs);
WEAK struct glfs_fd *glfs_open(struct glfs *fs, const char *path, int flags);
WEAK struct glfs_fd *glfs_creat(struct glfs *fs, const char *path, int flags, mode_t mode);
WEAK struct glfs_fd *glfs_dup(struct glfs_fd *fd);
WEAK struct glfs_fd *glfs_h_open(struct glfs *fs, struct glfs_object *object, int flags);
WEAK struct glfs_object *glfs_h_lookupat(struct glfs *fs, struct glfs_object *parent, const char *path, struct stat *s,
                                         int follow);
WEAK struct glfs_object *glfs_h_creat_open(struct glfs *fs, struct glfs_object *parent, const char *path, int flags,
                                           mode_t mode, struct stat *s, struct glfs_fd **fd);
WEAK int glfs_close(struct glfs_fd *fd);
WEAK int glfs_posix_lock(struct glfs_fd *fd, int command, struct flock *range);

static struct glfs *connect_to(char *url, char **path)
{
    char *host = url + strlen("gluster://"), *volume = strchr(host, '/');
    if (!volume || !glfs_new) exit(fprintf(stderr, "no libgfapi\n"));
    *volume++ = '\0';
    *path = strchr(volume, '/');
    *(*path)++ = '\0';
    struct glfs *fs = glfs_new(volume);
    if (!fs || glfs_set_volfile_server(fs, "tcp", host, 24007) || glfs_set_logging(fs, "/dev/null", 0) || glfs_init(fs))
        exit((perror("cannot connect"), 2));
    return fs;
}

static struct glfs *crowd_volume;

/* NULL: each time it was open. */
static void *open_and_close(void *path)
{
    for (int i = 0; i < 100; i++) {
        struct glfs_fd *fd = glfs_open(crowd_volume, path, i % 2 ? O_RDONLY : O_RDWR);
        if (!fd || glfs_close(fd)) return path;
    }
    return NULL;
}

static bool is_crowded(struct glfs *fs, const char *path)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    void *failed;
    bool all = true;
    crowd_volume = fs;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, open_and_close, (void *)path)) exit(3);
    for (int i = 0; i < THREADS; i++) all &= pthread_join(threads[i], &failed) == 0 && !failed;
    return all;
}

static struct glfs *first_volume;

static void *open_first(void *path)
{
    if (!glfs_open(first_volume, path, O_RDWR))
        perror("first");
    else if (write(1, "first\n", 6) != 6)
        exit(1);
    return NULL;
}

static void open_beside(char *first, char *second)
{
    char *path, *other, line;
    pthread_t thread;
    first_volume = connect_to(first, &path);
    struct glfs *fs = connect_to(second, &other);
    if (pthread_create(&thread, NULL, open_first, path)) exit(3);
    if (read(0, &line, 1) != 1) exit(1);
    if (!glfs_open(fs, other, O_RDWR))
        perror("second");
    else if (write(1, "second\n", 7) != 7)
        exit(1);
    for (;;) pause();
}

static struct glfs_fd *open_by(struct glfs *fs, const char *operation, const char *path)
{
    struct stat status;
    struct glfs_fd *fd, *other;
    if (strcmp(operation, "read") == 0) return glfs_open(fs, path, O_RDONLY);
    if (strcmp(operation, "only") == 0) return glfs_open(fs, path, O_WRONLY);
    if (strcmp(operation, "create") == 0) return glfs_creat(fs, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (strcmp(operation, "handle") == 0) return glfs_h_open(fs, glfs_h_lookupat(fs, NULL, path, &status, 1), O_RDWR);
    if (strcmp(operation, "made") == 0) {
        const char *name = strrchr(path, '/');
        char folder[4096];
        snprintf(folder, sizeof folder, "%.*s", (int)(name - path), path);
        struct glfs_object *parent = glfs_h_lookupat(fs, NULL, folder, &status, 1);
        return parent && glfs_h_creat_open(fs, parent, name + 1, O_RDWR | O_CREAT | O_TRUNC, 0600, &status, &fd) ? fd
                                                                                                                 : NULL;
    }
    if (strcmp(operation, "crowd") == 0 && !is_crowded(fs, path)) return NULL;
    if (strcmp(operation, "twice") == 0) {
        other = glfs_open(fs, path, O_RDONLY);
        fd = other ? glfs_open(fs, path, O_RDWR) : NULL;
        if (fd) glfs_close(other);
        return fd;
    }
    fd = glfs_open(fs, path, O_RDWR);
    if (!fd) return NULL;
    if (strcmp(operation, "copy") == 0) {
        other = glfs_dup(fd);
        glfs_close(fd);
        return other;
    }
    if (strcmp(operation, "lock") == 0) {
        struct flock range = {.l_type = F_WRLCK, .l_start = 200, .l_len = 1};
        if (glfs_posix_lock(fd, F_SETLK, &range)) return NULL;
    }
    return fd;
}

int main(int argc, char **argv)
{
    char *path;
    if (argc == 4 && strcmp(argv[1], "beside") == 0) open_beside(argv[2], argv[3]);
    if (argc != 3) return 2;
    struct glfs *fs = connect_to(argv[2], &path);
    errno = 0;
    if (!open_by(fs, argv[1], path)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        _exit(1);
    }
    if (write(1, "ready\n", 6) != 6) return 1;
    close(1);
    if (getenv("ONCE")) _exit(0);
    for (;;) pause();
}
