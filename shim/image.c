#include "image.h"

#include <endian.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/statfs.h>

#include "extension.h"
#include "look.h"
#include "sys.h"

static uint32_t le16(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8;
}

static uint32_t le32(const unsigned char *bytes)
{
    return le16(bytes) | le16(bytes + 2) << 16;
}

static uint32_t be16(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

static uint32_t be32(const unsigned char *bytes)
{
    return be16(bytes) << 16 | be16(bytes + 2);
}

/* ---- checks: the closer looks that formats.def names ---------------------------------------------------- */

static bool always(const struct probe *probe)
{
    (void)probe;
    return true;
}

static bool qcow_version(const struct probe *probe)
{
    return be32(probe->head + 4) >= 1 && be32(probe->head + 4) <= 3;
}

static bool vmdk_version(const struct probe *probe)
{
    return le32(probe->head + 4) >= 1 && le32(probe->head + 4) <= 3;
}

static bool luks_version(const struct probe *probe)
{
    return be16(probe->head + 6) == 1 || be16(probe->head + 6) == 2;
}

static bool ciso_header(const struct probe *probe)
{
    /* GameCube and Wii: block size 2 MiB; PSP: header size 0 or 24. */
    uint32_t word = le32(probe->head + 4);
    return word == 0x200000 || word == 0x18 || word == 0;
}

static bool diskcopy_sizes(const struct probe *probe)
{
    /* A name of up to 63 letters; the sizes of data and tags, which with the header make the file's. */
    return probe->head[0] >= 1 && probe->head[0] <= 63 &&
           (off_t)be32(probe->head + 64) + be32(probe->head + 68) + 84 == probe->size;
}

/* Linux kernels, and EFI programs, have a first sector that looks like a disk's. */
static bool is_kernel(const struct probe *probe)
{
    return memcmp(probe->head, "MZ", 2) == 0 || memcmp(probe->head + 514, "HdrS", 4) == 0;
}

static bool mbr_partitions(const struct probe *probe)
{
    /* 55 AA alone ends every boot sector, and one in 65,536 files of chance.  A table has four flag bytes of
     * 00 or 80 and at least one partition with a length and a type, or the flag of the one to boot from (Debian's
     * installation images have an active partition of type 0), or nothing in it at all. */
    static const unsigned char no_entries[64];
    if (is_kernel(probe)) return false;
    for (int i = 0; i < 4; i++)
        if (probe->head[446 + 16 * i] & 0x7f) return false;
    for (int i = 0; i < 4; i++) {
        const unsigned char *entry = probe->head + 446 + 16 * i;
        if ((entry[4] != 0 || entry[0] != 0) && le32(entry + 12) != 0) return true;
    }
    return memcmp(probe->head + 446, no_entries, sizeof no_entries) == 0;
}

static bool boot_code(const struct probe *probe)
{
    /* A boot sector with neither a table nor a known file system behind it. */
    return probe->size % SECTOR == 0 && !is_kernel(probe);
}

static bool apple_map(const struct probe *probe)
{
    /* The map begins in block 1.  CD-ROMs have blocks of 2 KiB, behind what was read; there the block size has to
     * do. */
    uint32_t block = be16(probe->head + 2);
    if (block == 2048) return probe->size % 2048 == 0;
    return (block == 512 || block == 1024) && memcmp(probe->head + block, "PM\0\0", 4) == 0;
}

static bool atari_partitions(const struct probe *probe)
{
    /* The disk's size in sectors, and a first partition that exists. */
    uint32_t sectors = be32(probe->head + 0x1c2);
    return sectors != 0 && (off_t)sectors * SECTOR <= probe->size && (probe->head[0x1c6] & 1);
}

static bool sun_checksum(const struct probe *probe)
{
    uint32_t sum = 0;
    for (int i = 0; i < 512; i += 2) sum ^= be16(probe->head + i);
    return sum == 0;
}

static bool boot_sector(const struct probe *probe)
{
    return (probe->head[0] == 0xeb || probe->head[0] == 0xe9) && le16(probe->head + 510) == 0xaa55;
}

static bool fat_parameters(const struct probe *probe)
{
    /* The parameter block of FAT12 and FAT16.  DOS 3, the Atari ST and MSX write no name of the file system, and some
     * no 55 AA: each field has to make sense, and the whole has to fit into the file. */
    const unsigned char *head = probe->head;
    uint32_t sector = le16(head + 11), cluster = head[13], reserved = le16(head + 14), fats = head[16];
    uint32_t root_entries = le16(head + 17), media = head[21], fat_sectors = le16(head + 22);
    uint64_t sectors = le16(head + 19) ? le16(head + 19) : le32(head + 32);
    if (sector < 512 || sector > 4096 || (sector & (sector - 1)) || !cluster || (cluster & (cluster - 1))) return false;
    if (!reserved || (fats != 1 && fats != 2) || (media != 0xf0 && media < 0xf8)) return false;
    if (!fat_sectors || !root_entries || root_entries * 32 % sector) return false;
    return reserved + fats * fat_sectors + root_entries * 32 / sector < sectors &&
           sectors * sector <= (uint64_t)probe->size;
}

static bool dos1_floppy(const struct probe *probe)
{
    /* DOS 1 knows its four floppies by the first byte of the FAT, in the second sector. */
    switch (probe->head[512]) {
    case 0xfc:
        return probe->size == 184320;
    case 0xfd:
        return probe->size == 368640;
    case 0xfe:
        return probe->size == 163840;
    case 0xff:
        return probe->size == 327680;
    default:
        return false;
    }
}

static bool ext_superblock(const struct probe *probe)
{
    /* Inodes, blocks, a block size of 1 KiB << 0..6, and revision 0 or 1. */
    const unsigned char *super = probe->head + 1024;
    return le32(super) != 0 && le32(super + 4) != 0 && le32(super + 24) <= 6 && le32(super + 76) <= 1;
}

static bool hfs_volume(const struct probe *probe)
{
    /* The bitmap is in sector 3; there are allocation blocks, of whole sectors. */
    const unsigned char *block = probe->head + 1024;
    return be16(block + 14) == 3 && be16(block + 18) != 0 && be32(block + 20) != 0 && be32(block + 20) % SECTOR == 0;
}

static bool prodos_volume(const struct probe *probe)
{
    /* The volume directory's header: storage type 15, a name, entries of 39 bytes, 13 a block. */
    const unsigned char *block = probe->head + 1024;
    return block[4] > 0xf0 && block[35] == 39 && block[36] == 13;
}

static bool amiga_dos(const struct probe *probe)
{
    /* The eight kinds of file system: floppies, and hard disk images without a partition table. */
    return probe->head[3] <= 7 && probe->size % SECTOR == 0;
}

static bool ipf_record(const struct probe *probe)
{
    return be32(probe->head + 4) == 12; /* the CAPS record is twelve bytes long */
}

static bool d64_size(const struct probe *probe)
{
    return probe->size == 174848 || probe->size == 175531 || /* 35 tracks, without and with error bytes */
           probe->size == 196608 || probe->size == 197376 || /* 40 */
           probe->size == 205312 || probe->size == 206114;   /* 42 */
}

static bool d71_size(const struct probe *probe)
{
    return probe->size == 349696 || probe->size == 351062;
}

static bool d81_size(const struct probe *probe)
{
    return probe->size == 819200 || probe->size == 822400;
}

static bool msa_header(const struct probe *probe)
{
    /* Sectors a track, sides less one, first and last track. */
    uint32_t sectors = be16(probe->head + 2);
    return sectors >= 1 && sectors <= 36 && be16(probe->head + 4) < 2 && be16(probe->head + 6) <= 86 &&
           be16(probe->head + 8) <= 86;
}

static bool atr_sectors(const struct probe *probe)
{
    uint32_t size = le16(probe->head + 4);
    return size == 128 || size == 256 || size == 512;
}

static bool imd_header(const struct probe *probe)
{
    /* "IMD 1.18: 22/11/2026 01:48:00".  Not every program puts a plain number before the colon. */
    for (int i = 5; i < 40; i++)
        if (memcmp(probe->head + i, ": ", 2) == 0) return probe->head[i + 4] == '/' && probe->head[i + 7] == '/';
    return false;
}

static bool teledisk_version(const struct probe *probe)
{
    return probe->head[4] >= 10 && probe->head[4] <= 21; /* 1.0 to 2.1 */
}

static bool scp_header(const struct probe *probe)
{
    /* Revolutions, first track not behind the last, both heads or one of them. */
    const unsigned char *head = probe->head;
    return head[5] >= 1 && head[5] <= 31 && head[6] <= head[7] && head[7] <= 167 && head[10] <= 2;
}

static bool d88_header(const struct probe *probe)
{
    /* No magic: zeros behind the name of 16 letters, few values for write protection and medium, the size of the file,
     * and where the first track is: behind a table of 160 or 164 tracks. */
    static const unsigned char zeros[10];
    const unsigned char *head = probe->head;
    uint32_t first_track = le32(head + 32);
    return (off_t)le32(head + 28) == probe->size && memcmp(head + 16, zeros, sizeof zeros) == 0 &&
           (head[26] == 0 || head[26] == 0x10) && head[27] % 16 == 0 && head[27] <= 0x40 &&
           (first_track == 672 || first_track == 688 || first_track == 0) && probe->size >= 672;
}

static bool uml_version(const struct probe *probe)
{
    /* Version 1 has the byte order of its host, 2 and 3 have the network's. */
    return probe->head[0] == 'M' ? le32(probe->head + 4) == 1
                                 : be32(probe->head + 4) >= 2 && be32(probe->head + 4) <= 4;
}

static bool aws_tape(const struct probe *probe)
{
    /* Each block has a header of 6 bytes: its length, that of the block before, and flags.  Nothing is before the first
     * one, and the second says how long the first is.  A first block that is not a label, and so a long one, is told by
     * its name alone. */
    uint32_t length = le16(probe->head);
    size_t second = 6 + length;
    if (length == 0 || le16(probe->head + 2) != 0 || probe->head[5] != 0) return false;
    if (second + 6 > probe->length) return false;
    uint32_t flags = probe->head[second + 4];
    return le16(probe->head + second + 2) == length && ((flags & 0xfc) == 0xa0 || flags == 0x40);
}

static bool apple_size(const struct probe *probe)
{
    return probe->size == 143360 || probe->size == 232960;
}

/* ---- the table ------------------------------------------------------------------------------------------ */

enum where { HEAD, FAR, TAIL, SIZED, NAME };

/* Without pointers, of which there would be 470 for the dynamic linker to relocate in every process. */
struct format {
    char name[36];
    char bytes[40];
    uint32_t offset;
    uint8_t length; /* of bytes */
    uint8_t where;
};

static const struct format formats[] = {
#define FORMAT(name, extensions, where, offset, bytes, check) {name, bytes, offset, sizeof(bytes) - 1, where},
#include "formats.def"
#undef FORMAT
};
enum { FORMATS = sizeof formats / sizeof *formats };

/* A row by its line in formats.def. */
#define ROW_IN_LINE(line) row_in_line_##line
#define ROW(line) ROW_IN_LINE(line)
enum row {
#define FORMAT(name, extensions, where, offset, bytes, check) ROW(__LINE__),
#include "formats.def"
#undef FORMAT
};

/* The row's closer look. */
static inline bool check(enum row row, const struct probe *probe)
{
    switch (row) {
#define FORMAT(name, extensions, where, offset, bytes, check) \
    case ROW(__LINE__):                                       \
        return check(probe);
#include "formats.def"
#undef FORMAT
    }
    return false;
}

/* Made from formats.def by make_formats.c: a perfect hash of the extensions, and which rows have to be looked
 * at for which first byte. */
#include "formats_index.h"

enum { OTHER_EXTENSION = -1, NO_EXTENSION = -2 };

static int row_of(uint64_t packed, size_t length)
{
    const struct extension *slot = &extensions[extension_hash(packed, EXTENSION_MULTIPLIER)];
    return slot->packed == packed && slot->length == length && length > 0 ? slot->row : OTHER_EXTENSION;
}

/* Packs as extension_pack does, on the way back from the end. */
static int row_by_walking(const char *path, size_t length)
{
    size_t longest = length < EXTENSION_MAX + 1 ? length : EXTENSION_MAX + 1;
    uint64_t packed = 0;
    for (size_t i = 0; i < longest; i++) {
        unsigned char byte = (unsigned char)path[length - 1 - i];
        if (byte == '/') return NO_EXTENSION;
        if (byte == '.') return row_of(packed, i);
        if (i < 8) packed |= (uint64_t)extension_byte(byte) << 8 * i;
    }
    return NO_EXTENSION;
}

/* Eight bytes at once, each in a byte of a word. */
#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* 0x80 in each byte of the word that is this one. */
static uint64_t bytes_equal(uint64_t word, unsigned char byte)
{
    uint64_t other = word ^ EACH(byte);
    return ~((((other & EACH(0x7f)) + EACH(0x7f)) | other) | EACH(0x7f));
}

/* As extension_byte, for eight. */
static uint64_t bytes_small(uint64_t word)
{
    uint64_t low = word & EACH(0x7f);
    uint64_t capital = (low + EACH(0x80 - 'A')) & ~(low + EACH(0x7f - 'Z')) & ~word & EACH(0x80);
    return word | capital >> 2;
}

/* The row whose extension ends this path, or one of the above.  Extensions of up to seven letters are found in the last
 * eight bytes without a loop. */
static int row_by_extension(const char *path, size_t length)
{
    uint64_t end;
    if (length < sizeof end) return row_by_walking(path, length);
    memcpy(&end, path + length - sizeof end, sizeof end);
    end = be64toh(end); /* the last byte lowest */
    uint64_t dots = bytes_equal(end, '.');
    uint64_t slashes = bytes_equal(end, '/');
    if (!dots && !slashes) return row_by_walking(path, length);
    if ((slashes & -slashes) - 1 < (dots & -dots) - 1) return NO_EXTENSION; /* the lowest; none is the highest */
    int bits = __builtin_ctzll(dots) - 7;
    return row_of(bytes_small(end & ((UINT64_C(1) << bits) - 1)), (size_t)bits / 8);
}

/* A sparse bundle is a directory; what gets opened are its bands, which have no extension, and a number in hexadecimal
 * for a name. */
static bool in_sparse_bundle(const char *path, size_t path_length)
{
    static const char directory[] = ".sparsebundle/bands";
    const char *slash = memrchr(path, '/', path_length);
    size_t length = sizeof directory - 1;
    if (!slash || slash - path <= (ptrdiff_t)length || memcmp(slash - length, directory, length) != 0) return false;
    const char *digit = slash + 1;
    while ((*digit >= '0' && *digit <= '9') ||
           (extension_byte((unsigned char)*digit) >= 'a' && extension_byte((unsigned char)*digit) <= 'f'))
        digit++;
    return digit > slash + 1 && *digit == '\0';
}

/* Asked of every file that is opened: most are told by the last two letters, for a third of what the rest takes. */
static inline bool may_end_image(const unsigned char *end)
{
    return endings[extension_letter(end[-2])] >> extension_letter(end[-1]) & 1;
}

const char *image_by_extension(const char *path)
{
    size_t length = strlen(path);
    if (length >= 2 && !may_end_image((const unsigned char *)path + length)) return NULL;
    int row = row_by_extension(path, length);
    if (row >= 0 && !(formats[row].where == SIZED && formats[row].length == 0)) return formats[row].name;
    return row == NO_EXTENSION && in_sparse_bundle(path, length) ? "sparsebundle band" : NULL;
}

/* The length bytes at offset, or NULL when they cannot be had.  Moves the window. */
static const unsigned char *bytes_at(struct probe *probe, off_t offset, size_t length)
{
    if (offset < 0 || offset + (off_t)length > probe->size) return NULL;
    if (offset < probe->window || offset + (off_t)length > probe->window + (off_t)probe->length) {
        look_read(probe, offset & ~(off_t)(SECTOR - 1));
        if (offset + (off_t)length > probe->window + (off_t)probe->length) return NULL;
    }
    return probe->head + (offset - probe->window);
}

static bool row_matches(enum row row, struct probe *probe)
{
    const struct format *format = &formats[row];
    off_t offset = format->offset;
    switch (format->where) {
    case HEAD:
        return memcmp(probe->head + offset, format->bytes, format->length) == 0 && check(row, probe);
    case TAIL:
        offset = probe->size - offset;
        break;
    case SIZED:
        if (!format->length || !check(row, probe)) return false;
        break;
    default:
        break;
    }
    const unsigned char *bytes = bytes_at(probe, offset, format->length);
    return bytes && memcmp(bytes, format->bytes, format->length) == 0;
}

static const char *match_head(struct probe *probe)
{
    for (const uint8_t *row = rows_by_first_byte + first_byte_rows[probe->head[0]]; *row != FORMATS; row++)
        if (formats[*row].bytes[1] == (char)probe->head[1] && row_matches(*row, probe)) return formats[*row].name;
    /* One byte at each offset first: this is what every file that is no image costs. */
    if (look_further_in(probe->head))
        for (size_t i = 0; i < sizeof rows_further_in / sizeof *rows_further_in; i++)
            if (probe->head[rows_further_in[i].offset] == rows_further_in[i].byte &&
                row_matches(rows_further_in[i].row, probe))
                return formats[rows_further_in[i].row].name;
    int row = row_without_bytes(probe);
    return row >= 0 && row_matches((enum row)row, probe) ? formats[row].name : NULL;
}

static const char *match_rows(const uint8_t *row, struct probe *probe)
{
    for (; *row != FORMATS; row++)
        if (row_matches(*row, probe)) return formats[*row].name;
    return NULL;
}

static bool zero_start(const struct probe *probe)
{
    const unsigned char *head = probe->head;
    return head[0] == 0 && memcmp(head, head + 1, SECTOR - 1) == 0;
}

_Atomic time_t look_time;
_Atomic unsigned look_count;

void look_at_clock(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME_COARSE, &now) == 0) look_time = now.tv_sec;
}

static bool is_later(const struct timespec *time, const struct timespec *other)
{
    return time->tv_sec > other->tv_sec || (time->tv_sec == other->tv_sec && time->tv_nsec > other->tv_nsec);
}

bool look_has_been_read(const struct stat *status)
{
    return is_later(&status->st_atim, &status->st_mtim) && is_later(&status->st_atim, &status->st_ctim);
}

const char *look_match(const char *path, struct probe *probe)
{
    if (path && apple_size(probe)) {
        int row = row_by_extension(path, strlen(path));
        if (row >= 0 && formats[row].where == SIZED) return formats[row].name;
    }
    if (probe->length < SMALLEST_IMAGE) return NULL;
    if (probe->length < HEAD_SIZE) memset(probe->head + probe->length, 0, HEAD_SIZE - probe->length);
    const char *name = match_head(probe);
    if (!name && zero_start(probe)) name = match_rows(rows_behind_zeros, probe);
    if (!name && look_is_floppy_size(probe->size)) name = match_rows(rows_by_size, probe);
    return name;
}

const char *image_by_content(const char *path, int descriptor, const struct stat *status, int flags, int *error)
{
    unsigned char head[HEAD_SIZE];
    return look_at_content(path, descriptor, status, flags, head, error);
}

/* Apart, for the stack: with link-time optimization what looks at a content would stand on this frame. */
__attribute__((noinline)) bool image_is_on_storage(int descriptor)
{
    struct statfs about;
    if (sys_fstatfs(descriptor, &about) < 0) return true;
    switch (about.f_type) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
    case SECURITYFS_MAGIC:
    case SELINUX_MAGIC:
    case SMACK_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case PSTOREFS_MAGIC:
    case EFIVARFS_MAGIC:
    case BPF_FS_MAGIC:
    case NSFS_MAGIC:
    case 0x62656570: /* configfs; <linux/magic.h> has no name for it */
        return false;
    default:
        return true;
    }
}
