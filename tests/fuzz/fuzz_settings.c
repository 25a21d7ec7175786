/* fuzz_settings.c: the settings parser and the questions asked of what it took.  The input is an environment: entries
 * between NULs, each with IMGLOCK_ put in front. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *entries[9] = {0};
    unsigned count = 0;
    for (size_t at = 0; at < size && count < 8;) {
        size_t length = strnlen((const char *)data + at, size - at);
        char *entry = malloc(length + 9);
        memcpy(entry, "IMGLOCK_", 8);
        memcpy(entry + 8, data + at, length);
        entry[8 + length] = '\0';
        entries[count++] = entry;
        at += length + 1;
    }
    struct settings settings;
    bool sensible = settings_parse(entries, &settings, false);
    if (sensible != !settings.bad_variable) abort();
    if (settings.bad_variable && (!settings.bad_value || !settings.bad_expects)) abort();
    if (settings.wait_ns < 0 || settings.directory[0] == '\0') abort();
    static const int flags[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC};
    for (unsigned i = 0; sensible && i < 4; i++) {
        struct policy_decision decision = policy_decide(&settings, "/srv/vm/disk.qcow2", flags[i], true);
        /* Nobody writes without an exclusive lock unless somebody said so. */
        if (i && decision.mode != LOCK_EXCLUSIVE && settings.mode == MODE_AUTO && !settings.rules) abort();
        policy_names_image(&settings, "/srv/vm/disk.qcow2");
    }
    while (count) free(entries[--count]);
    return 0;
}
