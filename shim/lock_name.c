#include "lock_name.h"

#include <openssl/sha.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/sysmacros.h>

#include "text.h"

static void hash_name(const char *bytes, size_t length, struct lock_name *name)
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA_CTX context;
    /* The three calls of old: SHA1() goes through OpenSSL's provider machinery, which allocates. */
    SHA1_Init(&context);
    SHA1_Update(&context, bytes, length);
    SHA1_Final(digest, &context);
    for (unsigned i = 0; i < sizeof digest; i++) {
        name->hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        name->hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    name->hex[2 * sizeof digest] = '\0';
}

/* The name that this thread asked for last: programs open one image again and again, and the hash is a tenth of what
 * such an open costs us.  generation is odd while the entry changes, so that a signal handler that comes in between
 * leaves it alone, and who was interrupted while reading finds out. */
static _Thread_local struct {
    volatile unsigned generation;
    size_t length; /* of the path; 0: empty */
    char path[192];
    struct lock_name name;
} last_name;

static bool remembered(const char *path, size_t length, struct lock_name *name)
{
    unsigned generation = last_name.generation;
    atomic_signal_fence(memory_order_seq_cst);
    if (generation % 2 || last_name.length != length || memcmp(last_name.path, path, length) != 0) return false;
    *name = last_name.name;
    atomic_signal_fence(memory_order_seq_cst);
    return last_name.generation == generation;
}

static void remember(const char *path, size_t length, const struct lock_name *name)
{
    if (length > sizeof last_name.path || last_name.generation % 2) return;
    last_name.generation++;
    atomic_signal_fence(memory_order_seq_cst);
    last_name.length = length;
    memcpy(last_name.path, path, length);
    last_name.name = *name;
    atomic_signal_fence(memory_order_seq_cst);
    last_name.generation++;
}

void lock_name_of_path(const char *real_path, struct lock_name *name)
{
    size_t length = strlen(real_path);
    if (length && remembered(real_path, length, name)) return;
    hash_name(real_path, length, name);
    if (length) remember(real_path, length, name);
}

void lock_name_of_inode(const struct stat *status, struct lock_name *name)
{
    char identity[80];
    struct text text = text_in(identity, sizeof identity);
    if (S_ISBLK(status->st_mode)) {
        lock_name_of_device(status->st_rdev, name);
        return;
    }
    text_append(&text, "inode:");
    text_append_number(&text, major(status->st_dev));
    text_append(&text, ":");
    text_append_number(&text, minor(status->st_dev));
    text_append(&text, ":");
    text_append_number(&text, (long long)status->st_ino);
    hash_name(text.bytes, text.length, name);
}

void lock_name_of_device(dev_t device, struct lock_name *name)
{
    char identity[48];
    struct text text = text_in(identity, sizeof identity);
    text_append(&text, "device:");
    text_append_number(&text, major(device));
    text_append(&text, ":");
    text_append_number(&text, minor(device));
    hash_name(text.bytes, text.length, name);
}

void lock_name_of_image(const char *real_path, const struct stat *status, struct lock_name *name)
{
    if (status && S_ISBLK(status->st_mode))
        lock_name_of_device(status->st_rdev, name);
    else
        lock_name_of_path(real_path, name);
}

void lock_path(const char *directory, const struct lock_name *name, char *path)
{
    size_t length = strlen(directory);
    while (length > 0 && directory[length - 1] == '/') length--;
    memcpy(path, directory, length);
    path[length] = '/';
    lock_file_name(name, path + length + 1);
}
