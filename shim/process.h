/* process.h: what the kernel says of a process, in /proc.
 *
 * The numbers in /proc are pids only where /proc belongs to this process's PID namespace: unshare -p without
 * --mount-proc leaves another's.  Everything is async-signal-safe and leaves errno alone. */
#ifndef IMGLOCK_PROCESS_H
#define IMGLOCK_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What tells a process from every other, and what people know it by. */
struct process_identity {
    pid_t pid;
    uint64_t start;     /* clock ticks since boot, /proc/PID/stat field 22 */
    uint64_t boot;      /* first 64 bits of the boot id */
    uint64_t pid_space; /* inode of the PID namespace */
    char host[33];      /* escaped words, as records have them */
    char command[49];
};

/* This process.  Reads /proc at the first call in a process; where there is no /proc, boot and pid_space are 0 and
 * start is a random number.  From any thread. */
const struct process_identity *process_self(void);

/* The same for a caller that knows its pid. */
const struct process_identity *process_self_of(pid_t pid);

/* This process is a fork child: what is remembered is the parent's, whose pid it may have as well, in a PID namespace
 * of its own. */
void process_forget_self(void);

/* Start time and parent of the process with this number in /proc, from /proc/PID/stat; 0: of this process.  command may
 * be NULL, else 17 bytes.  False when the process is gone or /proc is not there. */
bool process_read_stat(pid_t number, uint64_t *start, pid_t *parent, char *command);

/* How many PID namespaces from that of /proc to its own the process with this number in /proc has a pid in, and the
 * last of these; 0: not told. */
int process_space_pids(pid_t number, uint64_t *innermost);

/* Is the process with this number in /proc the one that has this pid in the PID namespace of this process? */
bool process_is(pid_t pid, pid_t number);

/* Is the process of another host?  By the hosts' names, since a machine's clone has its boot id; beside a reason, a
 * record has room for the first letters alone. */
bool process_is_of_another_host(const struct process_identity *process);

/* Are its pid and start numbers of this host, this boot and this PID namespace?  Others are never looked up here, where
 * they are other processes'. */
bool process_is_of_here(const struct process_identity *process);

/* The effective user of this process, as it is now, and its command, up to 16 bytes in command[17], which may be NULL.
 * False: it cannot be seen from here, or is another process by now. */
bool process_look_at(const struct process_identity *process, uid_t *user, char *command);

#endif
