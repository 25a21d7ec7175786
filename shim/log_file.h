/* log_file.h: a log, opened for lines that are appended to it.
 *
 * The name of a log is known beforehand, and a directory that everybody may write is a place to wait for it: with a
 * symbolic link, a hard link or a file of one's own under that name.  So the rules of the kernel's
 * fs.protected_symlinks and fs.protected_regular (Documentation/admin-guide/sysctl/fs.rst) hold here whether they are
 * switched on or not. */
#ifndef IMGLOCK_LOG_FILE_H
#define IMGLOCK_LOG_FILE_H

/* Opens the log with these flags and O_CREAT, never waiting for a reader.  A descriptor; -ELOOP: a symbolic link in a
 * directory that everybody may write; -EPERM: in such a directory, a file that is neither this user's nor the
 * directory's owner's, or one with a second name; or another -errno.  Async-signal-safe; leaves errno alone. */
int log_file_open(const char *path, int flags);

#endif
