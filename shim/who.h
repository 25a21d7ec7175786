/* who.h: a process by the names that people know it by: its user, a virtual machine's guest, a systemd unit, a
 * container.
 *
 * Read from /proc/PID/cmdline and cgroup, which every user may read; whoever runs the process may write the first, so
 * these are words for people, and nothing is decided by them.  Raw system calls, no allocation, little more than
 * 1 KiB of stack; async-signal-safe; errno is left alone.  Where /proc does not tell, nothing is appended. */
#ifndef IMGLOCK_WHO_H
#define IMGLOCK_WHO_H

#include <stdbool.h>
#include <sys/types.h>

#include "text.h"

/* Appends all that is known, each behind a comma: ", guest web, unit nightly.service, container 3f2a99d0c1b7".  It fits
 * behind "pid 504, user root". */
void who_append(struct text *text, pid_t pid);

/* The guest of a QEMU: its -name NAME, or guest=NAME,....  False, and nothing, when it has none. */
bool who_guest(struct text *text, pid_t pid);

/* What systemctl takes to end the service that the process belongs to: "stop nightly.service", with --user before it
 * for a user's own.  False, and nothing, when it is in none: a scope is no program that one would stop to get at an
 * image, and what runs in a container is another systemd's. */
bool who_stop(struct text *text, pid_t pid);

/* May libsystemd know a unit, a session or a machine of it?  These are control groups whose names end as a unit's does,
 * with ".service" and the like; where no group that it is in has a dot, libsystemd need not be asked. */
bool who_may_have_unit(pid_t pid);

/* The container: docker's and podman's by the first twelve digits of the id, lxc's by its name. */
bool who_container(struct text *text, pid_t pid);

/* The user's name from /etc/passwd, else the number: the name service is nothing for a signal handler. */
void who_append_user(struct text *text, uid_t uid);

#endif
