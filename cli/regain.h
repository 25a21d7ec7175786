/* regain.h: locks of this host's programs that a server may have lost, asked for again from outside. */
#ifndef IMGLOCK_REGAIN_H
#define IMGLOCK_REGAIN_H

/* lock_file: open on a lock file.  Where a server keeps its locks, shows none of them here, and nobody has the lock any
 * more: whoever has a record of having it, and its own descriptor still, gets it again, as far as this user may reach
 * that descriptor.  Nothing is told: whoever looks afterwards sees it held. */
void regain_locks(int lock_file);

#endif
