/* uring.c: rings of io_uring, which open and change files without a call that we see (IMGLOCK_IO_URING).
 *
 * A ring that liburing makes is made disabled, gets the kernel's own restrictions, and is enabled: all that it can do
 * is allowed but for opening, renaming, unlinking and changing a size, each of which then completes with EACCES
 * (io_uring_register(2), IORING_REGISTER_RESTRICTIONS, since Linux 5.10).  liburing makes its system calls itself, so
 * its functions are wrapped.  A program that makes its own by syscall(2) has no io_uring (syscall.c): such a program is
 * ready to go without, since most sandboxes have none.
 *
 * All of them return -errno, and leave errno alone. */
#include "uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stddef.h>
#include <stdint.h>

#include "../policy.h"
#include "../sys.h"
#include "lookup.h"
#include "real.h"

/* Later than the oldest headers that we build with. */
enum {
    OP_FTRUNCATE = 55,                      /* IORING_OP_FTRUNCATE, Linux 6.9 */
    SETUP_REGISTERED_FD_ONLY = 1 << 15,     /* IORING_SETUP_REGISTERED_FD_ONLY, 6.5: the ring has no descriptor */
    REGISTER_USE_REGISTERED_RING = 1U << 31 /* IORING_REGISTER_USE_REGISTERED_RING */
};

/* What liburing's users allocate, as far as the ring's number (liburing.h).  Version 2 has put room for more before it.
 */
#define RING(reserved)       \
    struct {                 \
        void *pointers[8];   \
        unsigned head, tail; \
        size_t size;         \
        void *ring;          \
        reserved             \
    } submission;            \
    struct {                 \
        void *pointers[7];   \
        size_t size;         \
        void *ring;          \
        reserved             \
    } completion;            \
    unsigned flags;          \
    int descriptor;
struct io_uring {
    RING(unsigned reserved[4];)
};
struct io_uring_of_version_1 {
    RING()
};

typedef int init_function(unsigned entries, struct io_uring *ring, struct io_uring_params *parameters);
typedef int init_in_memory_function(unsigned entries, struct io_uring *ring, struct io_uring_params *parameters,
                                    void *memory, size_t size);
typedef int setup_function(unsigned entries, struct io_uring_params *parameters);
typedef void exit_function(struct io_uring *ring);

/* ---- the kernel ----------------------------------------------------------------------------------------- */

/* Linux 6.18 has 64 operations and 36 registrations.  What comes behind these is forbidden. */
enum { OPERATIONS_AT_MOST = 96, REGISTRATIONS_AT_MOST = 48 };

static int ring_register(int ring, unsigned how, unsigned what, const void *argument, unsigned count)
{
    return (int)sys_call(SYS_io_uring_register, ring, (long)(what | how), (long)argument, count, 0, 0);
}

static bool is_forbidden(unsigned operation)
{
    return operation == IORING_OP_OPENAT || operation == IORING_OP_OPENAT2 || operation == IORING_OP_RENAMEAT ||
           operation == IORING_OP_UNLINKAT || operation == IORING_OP_FALLOCATE || operation == OP_FTRUNCATE;
}

/* The kernel refuses a list that has an operation which it does not know.  It says itself which of those for the queue
 * there are; of those that register something nobody does, so that the list is made shorter until it is taken. */
static int restrict_ring(int ring, unsigned how)
{
    static _Atomic unsigned registrations_known = REGISTRATIONS_AT_MOST;
    struct io_uring_probe known = {0}; /* and none of its rows */
    struct io_uring_restriction list[OPERATIONS_AT_MOST + 1 + REGISTRATIONS_AT_MOST] = {0};
    unsigned count = 0;
    int result = ring_register(ring, how, IORING_REGISTER_PROBE, &known, 0);
    if (result < 0) return result;
    for (unsigned operation = 0; operation <= known.last_op && operation < OPERATIONS_AT_MOST; operation++) {
        if (is_forbidden(operation)) continue;
        list[count].opcode = IORING_RESTRICTION_SQE_OP;
        list[count++].sqe_op = (uint8_t)operation;
    }
    list[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    list[count++].sqe_flags = UINT8_MAX;
    unsigned registrations = atomic_load_explicit(&registrations_known, memory_order_relaxed);
    for (unsigned what = 0; what < registrations; what++) {
        list[count].opcode = IORING_RESTRICTION_REGISTER_OP;
        list[count++].register_op = (uint8_t)what;
    }
    do {
        result = ring_register(ring, how, IORING_REGISTER_RESTRICTIONS, list, count);
    } while (result == -EINVAL && registrations && (registrations--, count--));
    if (result == 0) atomic_store_explicit(&registrations_known, registrations, memory_order_relaxed);
    return result;
}

/* Restricts a ring that was made disabled, and enables it unless the program does that.  0 or -errno. */
static int finish(int ring, const struct io_uring_params *parameters, bool enable)
{
    const unsigned how = parameters->flags & SETUP_REGISTERED_FD_ONLY ? REGISTER_USE_REGISTERED_RING : 0;
    int result = restrict_ring(ring, how);
    return result < 0 || !enable ? result : ring_register(ring, how, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* ---- liburing ------------------------------------------------------------------------------------------- */

static _Thread_local bool being_made;

bool uring_is_being_made(void)
{
    return being_made;
}

/* liburing may come behind libc, or be loaded later; several threads find the same. */
static void *find(const char *name)
{
    void *address = lookup_next(name);
    return address ? address : lookup_anywhere(name);
}

static int descriptor_of(const struct io_uring *ring)
{
    /* The one function that all of version 2 export, and none of version 1 does. */
    if (find("io_uring_free_probe")) return ring->descriptor;
    return ((const struct io_uring_of_version_1 *)(const void *)ring)->descriptor;
}

/* A ring that cannot be restricted is none: 0, or what the program gets. */
static int finish_or_exit(struct io_uring *ring, const struct io_uring_params *parameters, bool enable)
{
    if (finish(descriptor_of(ring), parameters, enable) == 0) return 0;
    exit_function *leave = (exit_function *)find("io_uring_queue_exit");
    if (leave) leave(ring);
    return -ENOSYS;
}

/* What a ring is to be made with.  IO_URING_RESTRICT: *enable says whether it is ours to enable. */
static enum io_uring_answer begin(struct io_uring_params *parameters, bool *enable)
{
    enum io_uring_answer answer = settings_get()->io_uring;
    *enable = answer == IO_URING_RESTRICT && !(parameters->flags & IORING_SETUP_R_DISABLED);
    if (answer == IO_URING_RESTRICT) parameters->flags |= IORING_SETUP_R_DISABLED;
    return answer;
}

static int init(unsigned entries, struct io_uring *ring, struct io_uring_params *parameters, void *memory, size_t size,
                const char *name)
{
    void *real = find(name);
    bool enable;
    enum io_uring_answer answer = begin(parameters, &enable);
    if (!real || answer == IO_URING_OFF) return -ENOSYS;
    being_made = true;
    int result = memory ? ((init_in_memory_function *)real)(entries, ring, parameters, memory, size)
                        : ((init_function *)real)(entries, ring, parameters);
    being_made = false;
    /* A kernel before 5.10 knows no disabled rings. */
    if (result == -EINVAL && answer == IO_URING_RESTRICT) return -ENOSYS;
    if (result < 0 || answer == IO_URING_ALLOW) return result;
    int finished = finish_or_exit(ring, parameters, enable);
    return finished < 0 ? finished : result;
}

EXPORT int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *parameters);
EXPORT int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
EXPORT int io_uring_queue_init_mem(unsigned entries, struct io_uring *ring, struct io_uring_params *parameters,
                                   void *memory, size_t size);
EXPORT int io_uring_setup(unsigned entries, struct io_uring_params *parameters);

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *parameters)
{
    return init(entries, ring, parameters, NULL, 0, "io_uring_queue_init_params");
}

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    struct io_uring_params parameters = {.flags = flags};
    return init(entries, ring, &parameters, NULL, 0, "io_uring_queue_init_params");
}

int io_uring_queue_init_mem(unsigned entries, struct io_uring *ring, struct io_uring_params *parameters, void *memory,
                            size_t size)
{
    return init(entries, ring, parameters, memory, size, "io_uring_queue_init_mem");
}

int io_uring_setup(unsigned entries, struct io_uring_params *parameters)
{
    setup_function *real = (setup_function *)find("io_uring_setup");
    bool enable;
    enum io_uring_answer answer = begin(parameters, &enable);
    if (!real || answer == IO_URING_OFF) return -ENOSYS;
    being_made = true;
    int ring = real(entries, parameters);
    being_made = false;
    if (ring == -EINVAL && answer == IO_URING_RESTRICT) return -ENOSYS;
    if (ring < 0 || answer == IO_URING_ALLOW) return ring;
    if (finish(ring, parameters, enable) == 0) return ring;
    if (!(parameters->flags & SETUP_REGISTERED_FD_ONLY)) sys_close(ring);
    return -ENOSYS;
}
