#include "entries.h"

#include <fcntl.h>
#include <limits.h>

#include "marks.h"
#include "sys.h"
#include "watcher.h"

void entries_drop(int descriptor, uint64_t entry)
{
    SECTION_ASSERT();
    table_set(descriptor, 0);
    images_uncount(table_image(entry), table_mode(entry), !(entry & TABLE_CLOSE_ON_EXEC));
    marks_renew(table_image(entry));
}

void entries_keep(int descriptor, uint64_t entry)
{
    SECTION_ASSERT();
    int flags = sys_fcntl(descriptor, F_GETFD, 0);
    bool close_on_exec = flags >= 0 && flags & FD_CLOEXEC;
    if (!(entry & TABLE_CLOSE_ON_EXEC) != !close_on_exec)
        images_count_inheritable(table_image(entry), close_on_exec ? -1 : 1);
    entry &= ~(TABLE_CLOSING | TABLE_CLOSE_ON_EXEC);
    table_set(descriptor, entry | (close_on_exec ? TABLE_CLOSE_ON_EXEC : 0));
    marks_renew(table_image(entry));
}

void entries_keep_or_drop(int descriptor, uint64_t entry)
{
    if (entries_is_open(descriptor, table_image(entry)))
        entries_keep(descriptor, entry);
    else
        entries_drop(descriptor, entry);
}

void entries_forget(int descriptor, uint64_t entry)
{
    SECTION_ASSERT();
    if (watcher_is(descriptor)) {
        table_set(descriptor, 0);
        watcher_move(-1);
    } else if (table_is_hold(entry)) {
        entries_drop(descriptor, entry);
    } else if (table_kind(entry) == TABLE_PRIVATE) {
        images_lost_private(descriptor);
    }
}

void entries_end_closing(void)
{
    for (int64_t at = -1; (at = table_next((unsigned)(at + 1), INT_MAX)) >= 0;) {
        uint64_t entry = table_entry((int)at);
        if (table_is_hold(entry) && entry & TABLE_CLOSING) entries_keep_or_drop((int)at, entry);
    }
}
