/* real.h: the next definition of every symbol that we interpose: libc's, or another preload's; and of what we call
 * rarely.
 *
 * Looked up once each, at the first call (lookup.h), for a third of what the dynamic linker takes. */
#ifndef IMGLOCK_REAL_H
#define IMGLOCK_REAL_H

#include <stdatomic.h>

/* clang-format off */
#define REAL_SYMBOLS(X) \
    X(open) X(open64) X(__open) X(__open64) X(__open_2) X(__open64_2) X(openat) X(openat64) X(__openat_2) \
    X(__openat64_2) X(creat) X(creat64) X(open_by_handle_at) X(fopen) X(fopen64) X(_IO_fopen) X(freopen) \
    X(freopen64) X(fclose) X(_IO_fclose) X(pclose) X(mkstemp) X(mkstemp64) X(mkostemp) X(mkostemp64) \
    X(mkstemps) X(mkstemps64) X(mkostemps) X(mkostemps64) X(close) X(__close) X(close_range) X(closefrom) \
    X(dup) X(dup2) X(__dup2) X(dup3) X(fcntl) X(fcntl64) X(__fcntl) X(ioctl) X(lockf) X(lockf64) X(syscall) \
    X(truncate) X(truncate64) X(unlink) X(unlinkat) X(rename) X(renameat) X(renameat2) X(remove) X(_Fork) \
    X(vfork) X(clone) X(__clone) X(posix_spawn) X(posix_spawnp) X(system) X(popen) X(_IO_popen) X(daemon) X(login_tty) \
    X(forkpty) X(execve) X(execveat) X(fexecve) X(execv) X(execvp) X(execvpe) X(readdir) X(readdir64) \
    X(readdir_r) X(readdir64_r) X(ftruncate) X(ftruncate64) X(fallocate) X(fallocate64) X(posix_fallocate) \
    X(posix_fallocate64) X(dirfd) X(fileno_unlocked)
/* clang-format on */

enum real_symbol {
#define X(name) REAL_##name,
    REAL_SYMBOLS(X)
#undef X
        REAL_COUNT
};

/* For what every process writes to when it starts: in one page with the other variables that have an initial value,
 * which the dynamic linker has written to already.  Each page that is written to first costs a fault. */
#define AT_START __attribute__((section(".data.start")))

/* The addresses of the next definitions; NULL: not looked up yet. */
extern _Atomic(void *) real_addresses[REAL_COUNT];

/* Looks one up.  Leaves errno alone. */
void *real_resolve(enum real_symbol symbol);

static inline void *real_symbol(enum real_symbol symbol)
{
    void *address = atomic_load_explicit(&real_addresses[symbol], memory_order_relaxed);
    return __builtin_expect(address != 0, 1) ? address : real_resolve(symbol);
}

/* From the constructor.  Where a lookup may have to wait, all are made now. */
void real_start(void);

#define REAL(name) ((__typeof__(&name))real_symbol(REAL_##name))

/* What is defined with this is what the library exports; everything else stays inside. */
#define EXPORT __attribute__((visibility("default")))

#endif
