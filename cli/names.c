/* names.c: a process by the names that people know it by: as the library has them, and as libsystemd does. */
#include "names.h"

#include <stdlib.h>
#include <string.h>
#include <systemd/sd-login.h>

#include "text.h"
#include "who.h"

/* Takes over a string of libsystemd's. */
static void keep(struct text *text, char *name)
{
    text_append_untrusted(text, name, strlen(name));
    free(name);
}

static void ask_systemd(pid_t pid, struct text *unit, struct text *machine)
{
    char *name;
    /* A login session is none: nobody would stop that. */
    if (sd_pid_get_user_unit(pid, &name) >= 0)
        keep(unit, name);
    else if (sd_pid_get_session(pid, &name) >= 0)
        free(name);
    else if (sd_pid_get_unit(pid, &name) >= 0)
        keep(unit, name);
    if (sd_pid_get_machine_name(pid, &name) >= 0) keep(machine, name);
}

void names_of_process(pid_t pid, struct usage *usage)
{
    struct text guest = text_in(usage->guest, sizeof usage->guest);
    struct text unit = text_in(usage->unit, sizeof usage->unit);
    struct text machine = text_in(usage->machine, sizeof usage->machine);
    who_guest(&guest, pid);
    /* It reads the same file anew for each answer, with ten useless calls each time. */
    if (who_may_have_unit(pid)) ask_systemd(pid, &unit, &machine);
    if (!machine.length) who_container(&machine, pid);
}
