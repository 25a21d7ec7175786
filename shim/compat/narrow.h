/* narrow.h: where long has 32 bits.
 *
 * The library defines open as well as open64, so it cannot be compiled with _FILE_OFFSET_BITS=64, which would make one
 * name of the two.  Its own structures are the wide ones all the same.  Everybody's headers that know the names come
 * first; a wrapper that takes libc's narrow off_t says __off_t, which is off_t on every other machine. */
#ifndef IMGLOCK_NARROW_H
#define IMGLOCK_NARROW_H

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define stat stat64
#define statfs statfs64
#define flock flock64
#define rlimit rlimit64
#define off_t off64_t
#define ino_t ino64_t

#endif
