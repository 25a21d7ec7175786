/* unwatched.h: notes in the audit log that a program is about to be executed into which the library does not get. */
#ifndef IMGLOCK_UNWATCHED_H
#define IMGLOCK_UNWATCHED_H

/* When the library is loaded: learns how it got in, and makes the memory that children share. */
void unwatched_start(void);

/* Before an exec of this path, with this environment: adds a line to the audit log where the program will not be
 * watched, one for each program file.  Without an audit it returns at once.  Safe in a signal handler and in a vfork
 * child; leaves errno alone. */
void unwatched_path(int directory, const char *path, char *const environment[]);

/* The same where the file is looked for in PATH, as execvp(3) does. */
void unwatched_command(const char *file, char *const environment[]);

/* The same for an open program. */
void unwatched_descriptor(int descriptor, char *const environment[]);

/* The same for what execveat(2) takes. */
void unwatched_at(int directory, const char *path, char *const environment[], int flags);

#endif
