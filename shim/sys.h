/* sys.h: system calls made by imglock itself.
 *
 * The library must not call the libc functions that it interposes, must not touch errno, and must never
 * become a cancellation point of its own: a thread that is cancelled inside our bookkeeping would leave a
 * lock behind.  So every call that is ours goes straight to the kernel and returns what the kernel returns:
 * a value >= 0, or -errno.  All of it is safe in a signal handler and in a vfork child.
 *
 * Calls that belong to the program (its open, its close) never come through here. */
#ifndef IMGLOCK_SYS_H
#define IMGLOCK_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#ifdef IMGLOCK_FAULTS
/* The library that the tests build makes one call fail: tests/fault/fault.c.  0: let it through, else what it returns.
 */
long sys_fault(long number, long a, long b, long c);
#else
static inline long sys_fault(long number, long a, long b, long c)
{
    (void)number;
    (void)a;
    (void)b;
    (void)c;
    return 0;
}
#endif

#ifdef __clang_analyzer__
/* "make lint" does not see what a system call does with an address that is a number; of a function it expects that it
 * writes there. */
long sys_call_seen(long number, void *a, void *b, void *c, void *d, void *e, void *f);
#endif

static inline long sys_call(long number, long a, long b, long c, long d, long e, long f)
{
    long fault = sys_fault(number, a, b, c);
    if (fault) return fault;
#ifdef __clang_analyzer__
    return sys_call_seen(number, (void *)a, (void *)b, (void *)c, (void *)d, (void *)e, (void *)f);
#elif defined(__x86_64__) && !defined(__ILP32__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#elif defined(__s390x__)
    register long r1 __asm__("1") = number;
    register long r2 __asm__("2") = a;
    register long r3 __asm__("3") = b;
    register long r4 __asm__("4") = c;
    register long r5 __asm__("5") = d;
    register long r6 __asm__("6") = e;
    register long r7 __asm__("7") = f;
    __asm__ volatile("svc 0" : "+d"(r2) : "d"(r1), "d"(r3), "d"(r4), "d"(r5), "d"(r6), "d"(r7) : "memory", "cc");
    return r2;
#elif defined(__i386__)
    /* The sixth goes into ebp, which may be the frame's. */
    long result;
    __asm__ volatile("pushl %[six]\n\tpushl %%ebp\n\tmovl 4(%%esp), %%ebp\n\tint $0x80\n\tpopl %%ebp\n\taddl $4, %%esp"
                     : "=a"(result)
                     : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), [six] "g"(f)
                     : "memory", "cc");
    return result;
#else
#error "imglock knows the system call convention of x86-64, i386, aarch64 and s390x; add this machine's to sys.h"
#endif
}

/* Where long has 32 bits the calls of old take files of 2 GiB; these take libc's structures for all files
 * (compat/narrow.h), and an offset as two arguments.  Everywhere else the second is one that nobody reads. */
#ifdef __LP64__
#define SYS_OFFSET(offset) (offset), 0
enum {
    SYS_WIDE_FCNTL = SYS_fcntl,
    SYS_WIDE_FSTAT = SYS_fstat,
    SYS_WIDE_FSTATAT = SYS_newfstatat,
    SYS_WIDE_FTRUNCATE = SYS_ftruncate,
    SYS_WIDE_GETEUID = SYS_geteuid
};
#else
#define SYS_OFFSET(offset) (long)(offset), (long)((int64_t)(offset) >> 32)
enum {
    SYS_WIDE_FCNTL = SYS_fcntl64,
    SYS_WIDE_FSTAT = SYS_fstat64,
    SYS_WIDE_FSTATAT = SYS_fstatat64,
    SYS_WIDE_FTRUNCATE = SYS_ftruncate64,
    SYS_WIDE_GETEUID = SYS_geteuid32
};
#endif

/* Files of 2 GiB and more as well, where that has to be asked for: i386. */
static inline int sys_openat(int directory, const char *path, int flags, mode_t mode)
{
    return (int)sys_call(SYS_openat, directory, (long)path, flags | O_LARGEFILE, mode, 0, 0);
}

static inline int sys_close(int descriptor)
{
    return (int)sys_call(SYS_close, descriptor, 0, 0, 0, 0, 0);
}

static inline int sys_fcntl(int descriptor, int command, long argument)
{
    return (int)sys_call(SYS_WIDE_FCNTL, descriptor, command, argument, 0, 0, 0);
}

/* The kernel's struct stat is libc's on all of these machines. */
static inline int sys_fstat(int descriptor, struct stat *status)
{
    return (int)sys_call(SYS_WIDE_FSTAT, descriptor, (long)status, 0, 0, 0, 0);
}

static inline int sys_fstatat(int directory, const char *path, struct stat *status, int flags)
{
    return (int)sys_call(SYS_WIDE_FSTATAT, directory, (long)path, (long)status, flags, 0, 0);
}

/* One entry of a directory. */
struct sys_entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length; /* of the entry */
    uint8_t type;
    char name[];
};

/* bytes has to be aligned to 8.  The size of the entries that were read, 0 behind the last, or -errno. */
static inline long sys_getdents(int directory, char *bytes, size_t size)
{
    return sys_call(SYS_getdents64, directory, (long)bytes, (long)size, 0, 0, 0);
}

static inline ssize_t sys_readlinkat(int directory, const char *path, char *target, size_t size)
{
    return sys_call(SYS_readlinkat, directory, (long)path, (long)target, (long)size, 0, 0);
}

static inline ssize_t sys_read(int descriptor, void *bytes, size_t size)
{
    return sys_call(SYS_read, descriptor, (long)bytes, (long)size, 0, 0, 0);
}

static inline ssize_t sys_pread(int descriptor, void *bytes, size_t size, off_t offset)
{
    return sys_call(SYS_pread64, descriptor, (long)bytes, (long)size, SYS_OFFSET(offset), 0);
}

static inline ssize_t sys_write(int descriptor, const void *bytes, size_t size)
{
    return sys_call(SYS_write, descriptor, (long)bytes, (long)size, 0, 0, 0);
}

static inline ssize_t sys_pwrite(int descriptor, const void *bytes, size_t size, off_t offset)
{
    return sys_call(SYS_pwrite64, descriptor, (long)bytes, (long)size, SYS_OFFSET(offset), 0);
}

static inline int sys_fstatfs(int descriptor, struct statfs *about)
{
#ifdef __LP64__
    return (int)sys_call(SYS_fstatfs, descriptor, (long)about, 0, 0, 0, 0);
#else
    return (int)sys_call(SYS_fstatfs64, descriptor, sizeof *about, (long)about, 0, 0, 0);
#endif
}

static inline int sys_fchmod(int descriptor, mode_t mode)
{
    return (int)sys_call(SYS_fchmod, descriptor, mode, 0, 0, 0, 0);
}

static inline int sys_ftruncate(int descriptor, off_t size)
{
    return (int)sys_call(SYS_WIDE_FTRUNCATE, descriptor, SYS_OFFSET(size), 0, 0, 0);
}

/* Both times to now, as utime(NULL) does: needs write permission only, not ownership. */
static inline int sys_touch(int descriptor)
{
    return (int)sys_call(SYS_utimensat, descriptor, 0, 0, 0, 0, 0);
}

/* May this string of the program's be read, and does it end within its page?  False: ask by a call that takes it as a
 * path.  rt_sigprocmask copies eight bytes before it finds that it is not told what to do with them (kernel/signal.c),
 * which takes a sixth of the time of the cheapest call on a path. */
static inline bool sys_reads_string(const char *string)
{
    const uintptr_t address = (uintptr_t)string;
    const uintptr_t page = 4096; /* or larger */
    if (sys_call(SYS_rt_sigprocmask, -1, (long)(address & ~(uintptr_t)7), 0, 8, 0, 0) != -EINVAL) return false;
    return memchr(string, 0, page - address % page) != NULL;
}

/* The same for a byte of a structure. */
static inline bool sys_reads_byte(const void *byte)
{
    return sys_call(SYS_rt_sigprocmask, -1, (long)((uintptr_t)byte & ~(uintptr_t)7), 0, 8, 0, 0) == -EINVAL;
}

static inline void *sys_mmap(size_t size)
{
    enum { PROTECTION = PROT_READ | PROT_WRITE, FLAGS = MAP_PRIVATE | MAP_ANONYMOUS };
#if defined(__SANITIZE_THREAD__)
    /* ThreadSanitizer has to see that an address was given back before another thread gets it. */
    const int saved = errno;
    void *const mapped = mmap(NULL, size, PROTECTION, FLAGS, -1, 0);
    errno = saved;
    long address = mapped == MAP_FAILED ? -ENOMEM : (long)mapped;
#elif defined(__s390x__)
    const long arguments[] = {0, (long)size, PROTECTION, FLAGS, -1, 0};
    long address = sys_call(SYS_mmap, (long)arguments, 0, 0, 0, 0, 0);
#elif defined(__i386__)
    long address = sys_call(SYS_mmap2, 0, (long)size, PROTECTION, FLAGS, -1, 0);
#else
    long address = sys_call(SYS_mmap, 0, (long)size, PROTECTION, FLAGS, -1, 0);
#endif
    return address < 0 && address > -4096 ? NULL : (void *)address;
}

static inline void sys_munmap(void *address, size_t size)
{
#ifdef __SANITIZE_THREAD__
    const int saved = errno;
    munmap(address, size);
    errno = saved;
#else
    sys_call(SYS_munmap, (long)address, (long)size, 0, 0, 0, 0);
#endif
}

static inline int sys_madvise(void *address, size_t size, int advice)
{
    return (int)sys_call(SYS_madvise, (long)address, (long)size, advice, 0, 0, 0);
}

static inline pid_t sys_getpid(void)
{
    return (pid_t)sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static inline pid_t sys_gettid(void)
{
    return (pid_t)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

/* 0 when a thread of that id exists anywhere, -ESRCH when none does. */
static inline int sys_thread_exists(pid_t tid)
{
    return (int)sys_call(SYS_tkill, tid, 0, 0, 0, 0, 0);
}

static inline uid_t sys_geteuid(void)
{
    return (uid_t)sys_call(SYS_WIDE_GETEUID, 0, 0, 0, 0, 0, 0);
}

static inline _Noreturn void sys_exit(int status)
{
    for (;;) sys_call(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

static inline void sys_yield(void)
{
    sys_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

static inline int sys_clock(clockid_t clock, struct timespec *time)
{
    return (int)sys_call(SYS_clock_gettime, clock, (long)time, 0, 0, 0, 0);
}

/* CLOCK_MONOTONIC in nanoseconds: what deadlines are given in.  INT64_MAX: for ever. */
static inline int64_t sys_monotonic(void)
{
    struct timespec now = {0};
    sys_clock(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* So many nanoseconds, less than a second; a signal ends it. */
static inline void sys_sleep(int64_t ns)
{
    const struct timespec time = {.tv_nsec = (long)ns};
    sys_call(SYS_nanosleep, (long)&time, 0, 0, 0, 0, 0);
}

/* A moment for somebody else to finish what is over soon.  False once the deadline is reached. */
static inline bool sys_pause(int64_t deadline)
{
    enum { MOMENT_NS = 200 * 1000 };
    if (deadline != INT64_MAX && sys_monotonic() >= deadline) return false;
    sys_sleep(MOMENT_NS);
    return true;
}

static inline int sys_nofile_limit(struct rlimit *limit)
{
    return (int)sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)limit, 0, 0);
}

/* Signal sets as the kernel has them: 64 bits, the internal signals 32 and 33 of the thread library among
 * them, which libc's own functions refuse to block. */
typedef uint64_t sys_signals;
#define SYS_ALL_SIGNALS (~(sys_signals)0)

static inline void sys_sigmask(int how, const sys_signals *change, sys_signals *before)
{
    sys_call(SYS_rt_sigprocmask, how, (long)change, (long)before, sizeof(sys_signals), 0, 0);
}

/* Takes one pending signal of the set off the queue, if there is one: of this thread's before the process's.  Its
 * number, or -EAGAIN. */
static inline int sys_sigtake(const sys_signals *set, siginfo_t *signal)
{
    static const struct timespec at_once;
    return (int)sys_call(SYS_rt_sigtimedwait, (long)set, (long)signal, (long)&at_once, sizeof(sys_signals), 0, 0);
}

static inline int sys_sigpending(sys_signals *pending)
{
    return (int)sys_call(SYS_rt_sigpending, (long)pending, sizeof(sys_signals), 0, 0, 0, 0);
}

#endif
