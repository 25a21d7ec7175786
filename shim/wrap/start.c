/* start.c: what happens when the library is loaded.  Everything here can also happen later, at the first call that
 * needs it: other libraries' constructors run before this one. */
#include <errno.h>

#include "../descriptor.h"
#include "../message_line.h"
#include "../policy.h"
#include "../track_process.h"
#include "inherit.h"
#include "real.h"
#include "unwatched.h"

__attribute__((constructor)) static void start(void)
{
    int saved = errno;
    if (settings_get()->off) return;
    message_line_remember_stderr();
    real_start();
    track_start();
    descriptor_start();
    inherit_images();
    unwatched_start();
    errno = saved;
}
