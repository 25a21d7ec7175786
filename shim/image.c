#include "image.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "extension.h"
#include "sys.h"

enum { HEAD_SIZE = 2048, SMALLEST_IMAGE = 512 };

/* What the checks look at: the first bytes and the size. */
struct probe {
    unsigned char head[HEAD_SIZE];
    size_t length; /* of head */
    int descriptor;
    off_t size;
    bool block_device;
    off_t window; /* the offset that head was read from: 0, until FAR and TAIL rows move it */
};

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

static bool mbr_partitions(const struct probe *probe)
{
    /* 55 AA alone ends every boot sector, and one in 65,536 files of chance.  A table has four flag bytes of
     * 00 or 80 and at least one partition with a type and a length; boot sectors of FAT and NTFS have rows
     * of their own. */
    bool any = false;
    for (int i = 0; i < 4; i++) {
        const unsigned char *entry = probe->head + 446 + 16 * i;
        if (entry[0] != 0 && entry[0] != 0x80) return false;
        if (entry[4] != 0 && le32(entry + 12) != 0) any = true;
    }
    return any;
}

static bool apple_map(const struct probe *probe)
{
    return memcmp(probe->head + 512, "PM\0\0", 4) == 0;
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

static bool fat_floppy(const struct probe *probe)
{
    static const off_t sizes[] = {163840, 184320, 327680, 368640, 737280, 1228800, 1474560, 1720320, 2949120};
    const unsigned char *head = probe->head;
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (probe->size == sizes[i])
            /* One or two FATs, a media byte as floppies have it, and a sector count that is the size's. */
            return (head[16] == 1 || head[16] == 2) && head[21] >= 0xf0 && le16(head + 19) == probe->size / 512;
    return false;
}

static bool ext_block_size(const struct probe *probe)
{
    /* Block size 1 KiB << 0..6, at least one inode, a state of known bits. */
    return le32(probe->head + 1024 + 24) <= 6 && le32(probe->head + 1024) != 0 && le16(probe->head + 1024 + 58) <= 7;
}

static bool hfs_block_size(const struct probe *probe)
{
    uint32_t block = be32(probe->head + 1024 + 20);
    return block != 0 && block % 512 == 0;
}

static bool adf_size(const struct probe *probe)
{
    return probe->head[3] <= 7 && (probe->size == 901120 || probe->size == 1802240);
}

static bool ipf_record(const struct probe *probe)
{
    return be32(probe->head + 4) == 12; /* the CAPS record is twelve bytes long */
}

static bool d64_size(const struct probe *probe)
{
    return probe->size == 174848 || probe->size == 175531 || probe->size == 196608 || probe->size == 197376;
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

static bool imd_version(const struct probe *probe)
{
    const unsigned char *head = probe->head;
    return head[4] >= '0' && head[4] <= '9' && head[5] == '.' && head[6] >= '0' && head[6] <= '9';
}

static bool scp_header(const struct probe *probe)
{
    /* Revolutions 1 to 5, first track not behind the last. */
    return probe->head[5] >= 1 && probe->head[5] <= 5 && probe->head[6] <= probe->head[7] && probe->head[7] <= 167;
}

static bool d88_size(const struct probe *probe)
{
    /* The header holds the size of the file; the write-protect and media bytes have few values. */
    const unsigned char *head = probe->head;
    return (off_t)le32(head + 28) == probe->size && (head[26] == 0 || head[26] == 0x10) && head[27] % 16 == 0 &&
           head[27] <= 0x40;
}

static bool apple_floppy(const struct probe *probe)
{
    return probe->size == 143360 || probe->size == 232960;
}

/* ---- the table ------------------------------------------------------------------------------------------ */

enum kind { IMAGE, CONTENT };
enum where { HEAD, FAR, TAIL, SIZED, NAME };

struct format {
    const char *name;
    const char *bytes;
    bool (*check)(const struct probe *probe);
    uint32_t offset;
    uint8_t length; /* of bytes */
    uint8_t kind;
    uint8_t where;
};

static const struct format formats[] = {
#define FORMAT(name, extensions, kind, where, offset, bytes, check) \
    {name, bytes, check, offset, sizeof(bytes) - 1, kind, where},
#include "formats.def"
#undef FORMAT
};
enum { FORMATS = sizeof formats / sizeof *formats };

/* Made from formats.def by make_formats.c: a perfect hash of the extensions, and which rows have to be looked
 * at for which first byte. */
#include "formats_index.h"

/* The row whose extension ends this path, or -1. */
static int row_by_extension(const char *path)
{
    size_t length = strlen(path);
    size_t longest = length < EXTENSION_MAX + 1 ? length : EXTENSION_MAX + 1;
    for (size_t i = 1; i <= longest; i++) {
        char byte = path[length - i];
        if (byte == '/') return -1;
        if (byte != '.') continue;
        uint64_t packed = extension_pack(path + length - i + 1, i - 1);
        const struct extension *slot = &extensions[extension_hash(packed, EXTENSION_MULTIPLIER)];
        return slot->packed == packed && slot->length == i - 1 && i > 1 ? slot->row : -1;
    }
    return -1;
}

/* A sparse bundle is a directory; what gets opened are its bands, which have no extension. */
static bool in_sparse_bundle(const char *path)
{
    static const char directory[] = ".sparsebundle/bands";
    const char *slash = strrchr(path, '/');
    size_t length = sizeof directory - 1;
    return slash && slash - path > (ptrdiff_t)length && memcmp(slash - length, directory, length) == 0;
}

const char *image_by_extension(const char *path)
{
    int row = row_by_extension(path);
    if (row >= 0 && !(formats[row].where == SIZED && formats[row].length == 0)) return formats[row].name;
    return in_sparse_bundle(path) ? "sparsebundle band" : NULL;
}

/* The length bytes at offset, or NULL when they cannot be had.  Moves the window. */
static const unsigned char *bytes_at(struct probe *probe, off_t offset, size_t length)
{
    if (offset < 0 || offset + (off_t)length > probe->size) return NULL;
    if (offset < probe->window || offset + (off_t)length > probe->window + (off_t)probe->length) {
        off_t start = offset & ~(off_t)511;
        ssize_t got = sys_pread(probe->descriptor, probe->head, HEAD_SIZE, start);
        probe->window = start;
        probe->length = got > 0 ? (size_t)got : 0;
        if (offset + (off_t)length > start + (off_t)probe->length) return NULL;
    }
    return probe->head + (offset - probe->window);
}

static bool row_matches(const struct format *format, struct probe *probe)
{
    if (probe->block_device && format->kind == CONTENT) return false;
    off_t offset = format->offset;
    switch (format->where) {
    case HEAD:
        return memcmp(probe->head + offset, format->bytes, format->length) == 0 && format->check(probe);
    case TAIL:
        offset = probe->size - offset;
        break;
    case SIZED:
        if (!format->length || !format->check(probe)) return false;
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
        if (row_matches(&formats[*row], probe)) return formats[*row].name;
    for (const uint8_t *row = rows_further_in; *row != FORMATS; row++) {
        const struct format *format = &formats[*row];
        /* One byte first: this loop runs for every file that is no image. */
        if (format->length && probe->head[format->offset] != (unsigned char)format->bytes[0]) continue;
        if (row_matches(format, probe)) return format->name;
    }
    return NULL;
}

static const char *match_rows(const uint8_t *row, struct probe *probe)
{
    for (; *row != FORMATS; row++)
        if (row_matches(&formats[*row], probe)) return formats[*row].name;
    return NULL;
}

static bool zero_start(const struct probe *probe)
{
    const unsigned char *head = probe->head;
    return head[0] == 0 && memcmp(head, head + 1, SMALLEST_IMAGE - 1) == 0;
}

/* Would a read move the access time?  The rule of relatime, relatime_need_update() in fs/inode.c.  With
 * noatime or strictatime mounts the answer is wrong; it then costs two calls, or a time stamp that every reader
 * moves. */
static bool read_moves_access_time(const struct stat *status)
{
    struct timespec now;
    if (status->st_atim.tv_sec < status->st_mtim.tv_sec || status->st_atim.tv_sec < status->st_ctim.tv_sec) return true;
    if (status->st_atim.tv_sec == status->st_mtim.tv_sec && status->st_atim.tv_nsec <= status->st_mtim.tv_nsec)
        return true;
    if (status->st_atim.tv_sec == status->st_ctim.tv_sec && status->st_atim.tv_nsec <= status->st_ctim.tv_nsec)
        return true;
    /* The time of day to within some hundred looks: asking the kernel each time would be a call more. */
    static _Atomic time_t recently;
    static _Atomic unsigned looks;
    if (looks++ % 256 == 0 && sys_clock(CLOCK_REALTIME_COARSE, &now) == 0) recently = now.tv_sec;
    return recently - status->st_atim.tv_sec >= 24 * 3600;
}

const char *image_by_content(const char *path, int descriptor, const struct stat *status, int flags)
{
    struct probe probe;
    probe.descriptor = descriptor;
    probe.size = status->st_size;
    probe.block_device = S_ISBLK(status->st_mode);
    probe.window = 0;
    if (probe.block_device) {
        uint64_t size;
        if (sys_call(SYS_ioctl, descriptor, BLKGETSIZE64, (long)&size, 0, 0, 0) < 0) return NULL;
        probe.size = (off_t)size;
    }
    if (path && apple_floppy(&probe)) {
        int row = row_by_extension(path);
        if (row >= 0 && formats[row].where == SIZED) return formats[row].name;
    }
    /* A refused open must not move a time stamp, and this look comes before the refusal.  O_NOATIME is for
     * the owner and for root; for others the read counts as what it is. */
    bool quiet = !(flags & O_NOATIME) && read_moves_access_time(status) &&
                 sys_fcntl(descriptor, F_SETFL, (flags & ~O_ACCMODE) | O_NOATIME) == 0;
    const char *name = NULL;
    ssize_t got = sys_pread(descriptor, probe.head, HEAD_SIZE, 0);
    if (got == -EINVAL && (flags & O_DIRECT)) {
        /* O_DIRECT wants aligned memory, which the stack is not. */
        sys_fcntl(descriptor, F_SETFL, (flags & ~(O_ACCMODE | O_DIRECT)) | (quiet ? O_NOATIME : 0));
        got = sys_pread(descriptor, probe.head, HEAD_SIZE, 0);
        quiet = true;
    }
    if (got >= SMALLEST_IMAGE) {
        probe.length = (size_t)got;
        memset(probe.head + got, 0, HEAD_SIZE - (size_t)got);
        name = match_head(&probe);
        if (!name && zero_start(&probe)) name = match_rows(rows_behind_zeros, &probe);
        if (!name && (d64_size(&probe) || d71_size(&probe) || d81_size(&probe))) name = match_rows(rows_by_size, &probe);
    }
    if (quiet) sys_fcntl(descriptor, F_SETFL, flags & ~O_ACCMODE);
    return name;
}

bool image_may_be_read(int descriptor, const struct stat *status)
{
    if (S_ISBLK(status->st_mode)) return true;
    if (status->st_size < SMALLEST_IMAGE) return false;
    /* proc, sysfs and their kin have no device and no blocks, and reading their files can have effects.  So
     * have sparse files on tmpfs or btrfs; statfs tells them apart, and is rarely needed. */
    if (major(status->st_dev) != 0 || status->st_blocks != 0) return true;
    struct statfs about;
    if (sys_call(SYS_fstatfs, descriptor, (long)&about, 0, 0, 0, 0) < 0) return false;
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
