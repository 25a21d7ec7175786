// link: -luring
/* uring.c: uring IMAGE OTHER: what a ring that liburing makes can do: prints a line for each operation and what it
 * completes with.  OTHER is a name in the same directory.  HOW: flags, polled or disabled, as the ring is made.
 * uring raw: makes a ring by syscall(2) and says why there is none. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What liburing 0.7 lacks, which Debian 11 has. */
#ifndef IORING_SETUP_R_DISABLED
#define IORING_SETUP_R_DISABLED (1U << 6)
#define IORING_REGISTER_ENABLE_RINGS 12
#define io_uring_free_probe free
static void io_uring_prep_renameat(struct io_uring_sqe *entry, int from_directory, const char *from, int to_directory,
                                   const char *to, unsigned flags)
{
    io_uring_prep_rw(35, entry, from_directory, from, (unsigned)to_directory, (unsigned long)to);
    entry->rw_flags = (int)flags;
}
static void io_uring_prep_unlinkat(struct io_uring_sqe *entry, int directory, const char *path, int flags)
{
    io_uring_prep_rw(36, entry, directory, path, 0, 0);
    entry->rw_flags = flags;
}
#endif

static struct io_uring ring;

static int wait_for(const char *what)
{
    struct io_uring_cqe *done;
    int result = io_uring_submit_and_wait(&ring, 1);
    if (result >= 0) result = io_uring_wait_cqe(&ring, &done);
    if (result >= 0) {
        result = done->res;
        io_uring_cqe_seen(&ring, done);
    }
    printf("%s: %s\n", what, result < 0 ? strerrorname_np(-result) : "0");
    return result;
}

#define DO(what, prepare, ...) (prepare(io_uring_get_sqe(&ring), __VA_ARGS__), wait_for(what))

static int make(void)
{
    struct io_uring_params parameters = {0};
    const char *how = getenv("HOW") ?: "flags";
    if (strcmp(how, "flags") == 0) return io_uring_queue_init(8, &ring, 0);
    if (strcmp(how, "polled") == 0) parameters.flags = IORING_SETUP_SQPOLL;
    if (strcmp(how, "disabled") == 0) parameters.flags = IORING_SETUP_R_DISABLED;
    int result = io_uring_queue_init_params(8, &ring, &parameters);
    if (result == 0 && strcmp(how, "disabled") == 0)
        result = (int)syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0L);
    return result;
}

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "raw") == 0) {
        struct io_uring_params parameters = {0};
        long result = syscall(SYS_io_uring_setup, 4L, &parameters);
        printf("io_uring_setup: %s\n", result < 0 ? strerrorname_np(errno) : "0");
        return 0;
    }
    if (count != 3) return 2;
    int result = make();
    if (result < 0) {
        printf("no ring: %s\n", strerrorname_np(-result));
        return 0;
    }
    char bytes[512] = "";
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring);
    printf("probe: %s\n", probe && io_uring_opcode_supported(probe, IORING_OP_READ) ? "0" : "none");
    io_uring_free_probe(probe);
    struct open_how how = {.flags = O_RDWR};
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    wait_for("nop");
    DO("openat", io_uring_prep_openat, AT_FDCWD, arguments[1], O_RDWR, 0);
    DO("openat2", io_uring_prep_openat2, AT_FDCWD, arguments[1], &how);
    DO("renameat", io_uring_prep_renameat, AT_FDCWD, arguments[1], AT_FDCWD, arguments[2], 0);
    DO("unlinkat", io_uring_prep_unlinkat, AT_FDCWD, arguments[1], 0);
    int file = open(arguments[2], O_RDWR | O_CREAT, 0600);
    DO("fallocate", io_uring_prep_fallocate, file, 0, 0, 8192);
    DO("write", io_uring_prep_write, file, bytes, sizeof bytes, 0);
    DO("read", io_uring_prep_read, file, bytes, sizeof bytes, 0);
    DO("fsync", io_uring_prep_fsync, file, 0);
    printf("register: %d\n", io_uring_register_files(&ring, &file, 1));
    struct iovec buffer = {bytes, sizeof bytes};
    printf("register: %d\n", io_uring_register_buffers(&ring, &buffer, 1));
    DO("read of what is registered", io_uring_prep_read_fixed, file, bytes, sizeof bytes, 0, 0);
    DO("close", io_uring_prep_close, file);
    io_uring_queue_exit(&ring);
    return 0;
}
