/* extension.h: file name extensions as numbers, for the perfect hash that make_formats.c lays out and image.c
 * looks up. */
#ifndef IMGLOCK_EXTENSION_H
#define IMGLOCK_EXTENSION_H

#include <stddef.h>
#include <stdint.h>

enum { EXTENSION_MAX = 12, EXTENSION_SLOTS = 1024 };

struct extension {
    uint64_t packed;
    uint8_t length;
    uint8_t row;
};

/* ASCII capitals made small. */
static inline unsigned char extension_byte(unsigned char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (unsigned char)(byte + 32) : byte;
}

/* A number for each letter, for the test of the last two: the same for a capital and the small one, another for each
 * digit. */
enum { EXTENSION_LETTERS = 64 };
static inline unsigned extension_letter(unsigned char byte)
{
    return (byte & 31) | (byte >> 1 & 32);
}

/* The last eight letters, ASCII capitals made small, in one number.  Two extensions that agree in it also
 * have to agree in length; the table has no pair that differs only before the last eight. */
static inline uint64_t extension_pack(const char *extension, size_t length)
{
    uint64_t packed = 0;
    for (size_t i = length > 8 ? length - 8 : 0; i < length; i++)
        packed = packed << 8 | extension_byte((unsigned char)extension[i]);
    return packed;
}

static inline unsigned extension_hash(uint64_t packed, uint64_t multiplier)
{
    return (unsigned)((packed * multiplier) >> 54);
}

_Static_assert(EXTENSION_SLOTS == 1 << (64 - 54), "the hash yields an index into the slots");

#endif
