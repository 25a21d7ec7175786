/* compat.h: what glibc and the kernel's headers lack on the oldest release that we build on, Debian 11: glibc 2.31,
 * Linux 5.10.  Read before every file; on later ones it is empty.  sys/ beside it stands in for headers that are not
 * there. */
#ifndef IMGLOCK_COMPAT_H
#define IMGLOCK_COMPAT_H

/* Sizes of files have 64 bits.  The library, which wraps the functions for both, has a way of its own. */
#if !defined(__LP64__) && !defined(IMGLOCK_LIBRARY) && !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64
#endif

#include <features.h>
#include <linux/magic.h>
#include <sys/syscall.h>

/* glibc names the calls of the kernel that it was built for.  The numbers are those of every machine. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

#ifndef CEPH_SUPER_MAGIC
#define CEPH_SUPER_MAGIC 0x00c36400
#endif
#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xff534d42
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xfe534d42
#endif

#if !__GLIBC_PREREQ(2, 34)
#include <sys/types.h>
#ifdef IMGLOCK_LIBRARY
/* The wrappers are there whatever libc has. */
pid_t _Fork(void);
int close_range(unsigned first, unsigned last, int flags);
void closefrom(int lowest);
int execveat(int directory, const char *path, char *const arguments[], char *const environment[], int flags);
#else
#include <signal.h>
#include <unistd.h>
static inline __attribute__((unused)) pid_t _Fork(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0L, 0L, 0L, 0L);
}
static inline __attribute__((unused)) int close_range(unsigned first, unsigned last, int flags)
{
    return (int)syscall(SYS_close_range, first, last, flags);
}
static inline __attribute__((unused)) void closefrom(int lowest)
{
    close_range(lowest < 0 ? 0 : (unsigned)lowest, ~0U, 0);
}
static inline __attribute__((unused)) int execveat(int directory, const char *path, char *const arguments[],
                                                   char *const environment[], int flags)
{
    return (int)syscall(SYS_execveat, directory, path, arguments, environment, flags);
}
#endif
#endif

#if !__GLIBC_PREREQ(2, 32) && !defined(IMGLOCK_LIBRARY)
#define strerrorname_np error_name
#define strerrordesc_np error_description
const char *error_name(int error);
const char *error_description(int error);
#endif

#if !defined(__LP64__) && defined(IMGLOCK_LIBRARY)
#include "narrow.h"
#endif

#endif
