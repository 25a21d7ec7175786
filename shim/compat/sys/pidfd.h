/* sys/pidfd.h: glibc has it since 2.36. */
#ifndef IMGLOCK_COMPAT_PIDFD_H
#define IMGLOCK_COMPAT_PIDFD_H

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int pidfd_open(pid_t process, unsigned flags)
{
    return (int)syscall(SYS_pidfd_open, process, flags);
}

static inline int pidfd_send_signal(int pidfd, int signal, siginfo_t *about, unsigned flags)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, about, flags);
}

#endif
