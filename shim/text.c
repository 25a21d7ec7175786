#include "text.h"

#include <string.h>

struct text text_in(char *buffer, size_t size)
{
    buffer[0] = '\0';
    return (struct text){.bytes = buffer, .size = size, .length = 0};
}

void text_append_bytes(struct text *text, const char *bytes, size_t length)
{
    size_t room = text->size - 1 - text->length;
    if (length > room) length = room;
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

void text_append(struct text *text, const char *string)
{
    text_append_bytes(text, string, strlen(string));
}

void text_append_number(struct text *text, long long number)
{
    char digits[24];
    size_t at = sizeof digits;
    unsigned long long rest = number < 0 ? 0ULL - (unsigned long long)number : (unsigned long long)number;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (number < 0) digits[--at] = '-';
    text_append_bytes(text, digits + at, sizeof digits - at);
}

void text_append_hex(struct text *text, uint64_t number, int digits)
{
    char bytes[16];
    for (int i = digits; i-- > 0; number >>= 4) bytes[i] = "0123456789abcdef"[number & 15];
    text_append_bytes(text, bytes, (size_t)digits);
}

/* Decodes the valid UTF-8 sequence that starts here; its length, or 0.  Overlong forms and surrogates are invalid. */
static size_t decode_utf8(const unsigned char *bytes, size_t left, uint32_t *code)
{
    size_t length;
    if (bytes[0] < 0x80) {
        *code = bytes[0];
        return 1;
    }
    if (bytes[0] >= 0xc2 && bytes[0] <= 0xdf) {
        length = 2;
        *code = bytes[0] & 0x1f;
    } else if (bytes[0] >= 0xe0 && bytes[0] <= 0xef) {
        length = 3;
        *code = bytes[0] & 0x0f;
    } else if (bytes[0] >= 0xf0 && bytes[0] <= 0xf4) {
        length = 4;
        *code = bytes[0] & 0x07;
    } else {
        return 0;
    }
    if (left < length) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) return 0;
        *code = *code << 6 | (bytes[i] & 0x3f);
    }
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (*code < smallest[length] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff)) return 0;
    return length;
}

size_t text_utf8_sequence(const char *bytes, size_t left)
{
    uint32_t code;
    return decode_utf8((const unsigned char *)bytes, left, &code);
}

/* The same for what can be shown on one line of a terminal as it is: no control characters (C0, DEL, C1), no line and
 * paragraph separators, none of the marks that reorder text. */
static size_t printable_sequence(const unsigned char *bytes, size_t left)
{
    uint32_t code = 0;
    size_t length = decode_utf8(bytes, left, &code);
    if (length == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0)) return 0;
    if (code == 0x2028 || code == 0x2029 || (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069))
        return 0;
    return length;
}

static void append_printable(struct text *text, const char *bytes, size_t length, bool escaped)
{
    for (size_t i = 0; i < length;) {
        size_t sequence = printable_sequence((const unsigned char *)bytes + i, length - i);
        if (bytes[i] == '\\' && !escaped) {
            text_append(text, "\\\\");
            i++;
        } else if (sequence) {
            /* A sequence is written whole or not at all. */
            if (text->length + sequence < text->size) text_append_bytes(text, bytes + i, sequence);
            i += sequence;
        } else {
            if (bytes[i] == '\n') {
                text_append(text, "\\n");
            } else if (bytes[i] == '\t') {
                text_append(text, "\\t");
            } else {
                text_append(text, "\\x");
                text_append_hex(text, (unsigned char)bytes[i], 2);
            }
            i++;
        }
    }
}

void text_append_untrusted(struct text *text, const char *bytes, size_t length)
{
    append_printable(text, bytes, length, false);
}

void text_append_escaped(struct text *text, const char *string)
{
    append_printable(text, string, strlen(string), true);
}

void text_append_duration(struct text *text, long long seconds)
{
    static const struct {
        long long length;
        const char *unit;
    } units[] = {{86400, " d"}, {3600, " h"}, {60, " min"}, {1, " s"}};
    if (seconds < 0) seconds = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (i < 3 && seconds < units[i].length) continue;
        text_append_number(text, seconds / units[i].length);
        text_append(text, units[i].unit);
        long long rest = seconds % units[i].length;
        if (i < 2 && rest / units[i + 1].length) {
            text_append(text, " ");
            text_append_number(text, rest / units[i + 1].length);
            text_append(text, units[i + 1].unit);
        }
        return;
    }
}

bool text_parse_number(const char **cursor, uint64_t *number)
{
    const char *at = *cursor;
    uint64_t value = 0;
    if (*at < '0' || *at > '9') return false;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
    *cursor = at;
    *number = value;
    return true;
}

/* Matches one pattern element that is no star against one byte; moves *pattern past the element. */
static bool glob_matches_byte(const char **pattern, const char *end, char byte)
{
    const char *at = *pattern;
    if (*at == '?') {
        *pattern = at + 1;
        return true;
    }
    if (*at == '[') {
        const char *set = at + 1;
        bool negated = set < end && (*set == '!' || *set == '^');
        if (negated) set++;
        bool member = false;
        const char *first = set;
        for (; set < end && (*set != ']' || set == first); set++) {
            if (set + 2 < end && set[1] == '-' && set[2] != ']') {
                if ((unsigned char)byte >= (unsigned char)set[0] && (unsigned char)byte <= (unsigned char)set[2])
                    member = true;
                set += 2;
            } else if (*set == byte) {
                member = true;
            }
        }
        if (set < end) {
            *pattern = set + 1;
            return member != negated;
        }
        /* No closing bracket: the bracket stands for itself, as in fnmatch(3). */
    }
    if (*at == '\\' && at + 1 < end) at++;
    *pattern = at + 1;
    return *at == byte;
}

bool text_glob(const char *pattern, const char *pattern_end, const char *string)
{
    /* Only the last star needs to be tried again: what an earlier one swallowed can be swallowed by the last
     * one too.  So no recursion, and time is at most length times length. */
    const char *after_star = NULL;
    const char *retry = NULL;
    while (*string) {
        if (pattern < pattern_end && *pattern == '*') {
            after_star = ++pattern;
            retry = string;
            continue;
        }
        const char *next = pattern;
        if (pattern < pattern_end && glob_matches_byte(&next, pattern_end, *string)) {
            pattern = next;
            string++;
            continue;
        }
        if (!after_star) return false;
        pattern = after_star;
        string = ++retry;
    }
    while (pattern < pattern_end && *pattern == '*') pattern++;
    return pattern == pattern_end;
}
