#include "mappings.h"

#include <string.h>
#include <sys/sysmacros.h>

#include "proc.h"
#include "text.h"

static bool parse_hex(const char **at, uint64_t *number)
{
    static const char digits[] = "0123456789abcdef";
    const char *start = *at, *found;
    for (*number = 0; **at && (found = strchr(digits, **at)); ++*at)
        *number = *number << 4 | (uint64_t)(found - digits);
    return *at > start;
}

/* "7f00-7f10 rw-s 00000000 fe:00 131   /srv/x.img" */
static bool is_of_file(const struct mapped_file *file, const char *line)
{
    uint64_t high, low, inode;
    const char *at = proc_next_word(proc_next_word(proc_next_word(line)));
    if (!parse_hex(&at, &high) || *at++ != ':' || !parse_hex(&at, &low)) return false;
    at += strspn(at, " ");
    if (!text_parse_number(&at, &inode) || inode != file->inode) return false;
    at += strspn(at, " ");
    return makedev((unsigned)high, (unsigned)low) == file->device || (file->path && strcmp(at, file->path) == 0);
}

struct maps {
    const struct mapped_file *file;
    int most, count;
};

static bool note_mapping(const char *line, void *argument)
{
    struct maps *maps = argument;
    maps->count += is_of_file(maps->file, line);
    return maps->count < maps->most;
}

int mappings_of(int process, const struct mapped_file *file, int most, char *line, size_t size)
{
    struct maps maps = {file, most, 0};
    const int result = proc_each_line(process, "maps", line, size, note_mapping, &maps);
    return result < 0 ? result : maps.count;
}
