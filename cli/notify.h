/* notify.h: IMGLOCK_LOG=notify: refusals as notifications of the desktop, for programs that are started without a
 * terminal.
 *
 * The library only writes a log.  The command gives it one, and leaves a process behind that passes each line on: to
 * standard error as always, and to notify-send(1) where that is installed. */
#ifndef IMGLOCK_NOTIFY_H
#define IMGLOCK_NOTIFY_H

/* Starts the process, if the environment asks for it, and points IMGLOCK_LOG at its file.  It ends with this process,
 * whatever that executes.  Where it cannot be started, the lines go to standard error alone. */
void notify_start(void);

#endif
