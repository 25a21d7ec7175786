/* proc.h: going through /proc.
 *
 * Async-signal-safe; errno is left alone. */
#ifndef IMGLOCK_PROC_H
#define IMGLOCK_PROC_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Calls act with each number that a directory of /proc lists, until it says false or the deadline, on CLOCK_MONOTONIC
 * in ns, is there. */
void proc_each_number(int64_t deadline, int directory, bool (*act)(uint64_t number, void *argument), void *argument);

/* The same with each process. */
void proc_each_process(int64_t deadline, bool (*act)(uint64_t number, void *argument), void *argument);

/* This process's number there; 0: it cannot be told. */
pid_t proc_self(void);

/* "fd/12", of a process's directory. */
enum { PROC_NAME_SIZE = 32 };
void proc_name(char name[PROC_NAME_SIZE], const char *where, uint64_t number);

/* The directory "/proc/NUMBER" with the name behind it; or -errno. */
int proc_open(uint64_t number, const char *name);

/* The directory of the process's parent, which stands for that very process from now on.  *number: of the process, 0:
 * of this one; and then of the parent.  -ESRCH: there is no parent. */
int proc_open_parent(pid_t *number);

/* Calls visit for each line of a file there, without its newline, until it says false.  line[size] is room for one; one
 * that is longer is cut.  0, or -errno: it cannot be opened. */
enum { PROC_LINE_SIZE = PATH_MAX + 256 };
int proc_each_line(int directory, const char *name, char *line, size_t size,
                   bool (*visit)(const char *line, void *argument), void *argument);

/* Where the next word of such a line begins. */
const char *proc_next_word(const char *word);

/* Which file a link there leads to, without a question to a server that may be dead.  0 or -errno. */
int proc_identify(int directory, const char *name, dev_t *device, ino_t *inode);

/* Is the library in the process whose directory this is?  1, 0, or -errno: that cannot be told; -ESRCH: it has ended.
 */
int proc_has_library(int process);

#endif
