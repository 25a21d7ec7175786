/* report_write.c: what the writers of a report share. */
#include "report_write.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text.h"

#define SECOND INT64_C(1000000000)

/* ---- times and durations ------------------------------------------------------------------------------------ */

static struct tm local_parts(int64_t time)
{
    time_t seconds = (time_t)(time / SECOND);
    struct tm parts;
    localtime_r(&seconds, &parts);
    return parts;
}

const char *utc_time(int64_t time, char text[TIME_SIZE])
{
    time_t seconds = (time_t)(time / SECOND);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t length = strftime(text, TIME_SIZE, "%FT%T", &parts);
    snprintf(text + length, TIME_SIZE - length, ".%06lldZ", (long long)(time % SECOND / 1000));
    return text;
}

const char *local_time(int64_t time, int digits, bool date, char text[TIME_SIZE])
{
    struct tm parts = local_parts(time);
    size_t length = strftime(text, TIME_SIZE, date ? "%F %T" : "%T", &parts);
    char fraction[16];
    snprintf(fraction, sizeof fraction, ".%09lld", (long long)(time % SECOND));
    if (digits > 0) snprintf(text + length, TIME_SIZE - length, "%.*s", digits + 1, fraction);
    return text;
}

const char *local_date(int64_t time, char text[TIME_SIZE])
{
    struct tm parts = local_parts(time);
    strftime(text, TIME_SIZE, "%F", &parts);
    return text;
}

const char *local_zone(int64_t time, char text[TIME_SIZE])
{
    struct tm parts = local_parts(time);
    strftime(text, TIME_SIZE, "%Z", &parts);
    return text;
}

long local_offset(int64_t time)
{
    return local_parts(time).tm_gmtoff;
}

bool is_same_day(int64_t one, int64_t other)
{
    struct tm a = local_parts(one), b = local_parts(other);
    return a.tm_year == b.tm_year && a.tm_yday == b.tm_yday;
}

const char *duration_words(int64_t duration, char text[TIME_SIZE])
{
    if (duration < SECOND / 1000)
        snprintf(text, TIME_SIZE, "%lld us", (long long)duration / 1000);
    else if (duration < SECOND)
        snprintf(text, TIME_SIZE, "%lld ms", (long long)duration / 1000000);
    else if (duration < 60 * SECOND)
        snprintf(text, TIME_SIZE, "%lld.%lld s", (long long)(duration / SECOND),
                 (long long)(duration % SECOND / (SECOND / 10)));
    else {
        struct text words = text_in(text, TIME_SIZE);
        text_append_duration(&words, duration / SECOND);
    }
    return text;
}

/* ---- words -------------------------------------------------------------------------------------------------- */

const char *counted(size_t count, const char *one, const char *many)
{
    static char buffers[8][64];
    static unsigned next;
    char *buffer = buffers[next++ % 8];
    snprintf(buffer, sizeof *buffers, "%zu %s", count, count == 1 ? one : many);
    return buffer;
}

const char *mode_verb(enum lock_mode mode)
{
    return mode == LOCK_EXCLUSIVE ? "write" : mode == LOCK_SHARED ? "read" : "no lock";
}

const char *user_name(int64_t uid)
{
    static char buffer[80];
    static int64_t last = -1;
    if (uid < 0) return "?";
    if (uid == last) return buffer;
    const struct passwd *entry = getpwuid((uid_t)uid);
    if (entry)
        snprintf(buffer, sizeof buffer, "%.63s", entry->pw_name);
    else
        snprintf(buffer, sizeof buffer, "%lld", (long long)uid);
    last = uid;
    return buffer;
}

const char *short_command(const struct report_name *cmdline)
{
    const char *shown = cmdline->shown;
    size_t first = strcspn(shown, " ");
    for (size_t i = first; i-- > 0;)
        if (shown[i] == '/' && i + 1 < first) return shown + i + 1;
    return shown;
}

const char *base_name(const struct report_name *path)
{
    const char *slash = strrchr(path->shown, '/');
    return slash && slash[1] ? slash + 1 : path->shown;
}

/* ---- widths ------------------------------------------------------------------------------------------------- */

/* The code point of a valid sequence. */
static uint32_t code_point(const char *sequence, size_t length)
{
    static const unsigned char first_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t code = (unsigned char)sequence[0] & first_bits[length];
    for (size_t i = 1; i < length; i++) code = code << 6 | ((unsigned char)sequence[i] & 0x3f);
    return code;
}

static size_t sequence_at(const char *text)
{
    size_t length = text_utf8_sequence(text, strlen(text) < 4 ? strlen(text) : 4);
    return length ? length : 1;
}

static bool is_combining(uint32_t code)
{
    return (code >= 0x300 && code <= 0x36f) || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0xfe00 && code <= 0xfe0f) || (code >= 0x20d0 && code <= 0x20ff);
}

/* East Asian wide and emoji. */
static bool is_wide(uint32_t code)
{
    return (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) ||
           (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff) ||
           (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
           (code >= 0xffe0 && code <= 0xffe6) || (code >= 0x1f300 && code <= 0x1faff) ||
           (code >= 0x20000 && code <= 0x3fffd);
}

static size_t columns_of(uint32_t code)
{
    return is_combining(code) ? 0 : is_wide(code) ? 2 : 1;
}

size_t text_columns(const char *text)
{
    size_t columns = 0;
    for (size_t length; *text; text += length) {
        length = sequence_at(text);
        columns += columns_of(code_point(text, length));
    }
    return columns;
}

void put_columns(FILE *stream, const char *text, size_t columns, bool pad)
{
    size_t used = 0;
    if (columns == 0) return;
    if (text_columns(text) <= columns) {
        fputs(text, stream);
        used = text_columns(text);
    } else {
        for (size_t length; *text; text += length) {
            length = sequence_at(text);
            size_t wanted = columns_of(code_point(text, length));
            if (used + wanted > columns - 1) break;
            fwrite(text, 1, length, stream);
            used += wanted;
        }
        fputs("…", stream);
        used++;
    }
    for (; pad && used < columns; used++) putc(' ', stream);
}

/* Advance widths of the printable ASCII characters in DejaVu Sans, thousandths of the size. */
static const unsigned short advances[] = {
    318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361,  318, 337, 637, 637, 637,
    637, 637, 637, 637, 637, 637, 637, 337, 337, 838, 838, 838, 531, 1000, 685, 687, 699, 771, 632,
    576, 775, 752, 295, 295, 656, 558, 863, 749, 788, 604, 788, 695, 635,  611, 732, 685, 989, 686,
    611, 686, 391, 337, 391, 838, 500, 500, 613, 635, 550, 635, 616, 353,  635, 634, 278, 278, 580,
    278, 975, 634, 612, 635, 635, 412, 521, 393, 634, 592, 818, 592, 592,  525, 637, 337, 637, 838,
};

/* Of one character.  What is not ASCII is taken as wide as the widest letters. */
static double advance(uint32_t code)
{
    if (code >= 0x20 && code < 0x7f) return advances[code - 0x20] / 1000.0;
    if (code == 0x2026) return 1.0;
    if (is_combining(code)) return 0;
    return is_wide(code) ? 1.3 : code < 0x180 || code == 0x2013 ? 0.85 : 1.1;
}

double text_width(const char *text, double size, bool bold)
{
    double width = 0;
    for (size_t length; *text; text += length) {
        length = sequence_at(text);
        width += advance(code_point(text, length));
    }
    return width * size * (bold ? 1.13 : 1.0);
}

static char *cut_buffer(size_t size)
{
    static char *buffer;
    static size_t room;
    while (room < size) buffer = grown(buffer, room, &room, 1);
    return buffer;
}

const char *cut_to_width(const char *text, double width, double size, bool bold, bool at_beginning)
{
    double scale = size * (bold ? 1.13 : 1.0);
    double whole = text_width(text, size, bold), ellipsis = text_width("…", size, bold);
    if (whole <= width) return text;
    char *buffer = cut_buffer(strlen(text) + sizeof "…");
    if (at_beginning) {
        for (size_t length; *text && whole + ellipsis > width; text += length) {
            length = sequence_at(text);
            whole -= advance(code_point(text, length)) * scale;
        }
        strcpy(buffer, "…");
        strcat(buffer, text);
        return buffer;
    }
    double used = ellipsis;
    size_t kept = 0;
    for (size_t length; text[kept]; kept += length) {
        length = sequence_at(text + kept);
        used += advance(code_point(text + kept, length)) * scale;
        if (used > width) break;
    }
    memcpy(buffer, text, kept);
    strcpy(buffer + kept, "…");
    return buffer;
}
