/* gc.c: imglock gc: removes idle lock files.
 *
 * A lock file may be unlinked only by who holds all of it: whoever opened it before and locks it afterwards finds that
 * the name no longer stands for it, and starts anew.  So: open, see that nothing in it is locked, lock everything, see
 * that the name still stands for it, unlink, close.  As long as that lasts, an opener that does not wait would be
 * refused by a lock that protects nothing; whatever can be found out before the lock is found out before it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "cli.h"
#include "holders.h"
#include "lock_directory.h"
#include "setting.h"
#include "text.h"

enum outcome { OUTCOME_REMOVED, OUTCOME_KEPT, OUTCOME_FAILED, OUTCOME_GONE };

struct collection {
    const char *path; /* of the lock directory */
    int directory;
    struct stat status; /* the directory's */
    bool dry_run, verbose;
    size_t removed, kept, failed;
};

/* The name of the image, for a person to read: what the lock file says, whether it is right or not. */
static void append_image(struct text *line, int descriptor)
{
    char image[PATH_MAX];
    if (descriptor < 0 || !record_read_header(descriptor, image)) return;
    text_append(line, " (");
    text_append_untrusted(line, image, strlen(image));
    text_append(line, ")");
}

static void tell(const struct collection *collection, const char *what, const char *file, int descriptor,
                 const char *reason)
{
    static char bytes[10 * PATH_MAX];
    if (!collection->verbose) return;
    struct text line = text_in(bytes, sizeof bytes);
    text_append(&line, what);
    text_append(&line, " ");
    text_append_untrusted(&line, collection->path, strlen(collection->path));
    text_append(&line, "/");
    text_append(&line, file);
    append_image(&line, descriptor);
    if (reason) {
        text_append(&line, ": ");
        text_append(&line, reason);
    }
    puts(line.bytes);
}

/* Bytes 0-1, and whatever else of the file may be locked. */
static bool is_locked(int descriptor)
{
    return bytes_held(descriptor, F_WRLCK, 0, 0, NULL) != 0;
}

/* In a sticky directory only the file's owner, the directory's and root may unlink. */
static bool may_unlink(const struct collection *collection, const struct stat *status)
{
    if (faccessat(collection->directory, ".", W_OK | X_OK, AT_EACCESS) < 0) return false;
    return !(collection->status.st_mode & S_ISVTX) || geteuid() == 0 || geteuid() == status->st_uid ||
           geteuid() == collection->status.st_uid;
}

static bool is_named(const struct collection *collection, const char *file, const struct stat *status)
{
    struct stat named;
    return fstatat(collection->directory, file, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_dev == status->st_dev &&
           named.st_ino == status->st_ino && named.st_nlink == 1;
}

/* Locks the idle lock file, and unlinks it. */
static enum outcome remove_locked(const struct collection *collection, const char *file, int descriptor,
                                  const struct stat *status, const char **reason)
{
    int result = bytes_lock(descriptor, F_WRLCK, 0, 0);
    if (result < 0) {
        *reason = result == -EAGAIN ? "in use" : strerror(-result);
        return result == -EAGAIN ? OUTCOME_KEPT : OUTCOME_FAILED;
    }
    if (!is_named(collection, file, status)) return OUTCOME_GONE;
    if (unlinkat(collection->directory, file, 0) == 0) return OUTCOME_REMOVED;
    *reason = strerror(errno);
    return OUTCOME_FAILED;
}

static enum outcome examine(const struct collection *collection, const char *file, int descriptor, const char **reason)
{
    struct stat status;
    if (fstat(descriptor, &status) < 0) {
        *reason = strerror(errno);
        return OUTCOME_FAILED;
    }
    if (!S_ISREG(status.st_mode) || status.st_nlink > 1) {
        *reason = S_ISREG(status.st_mode) ? "it has a second hard link" : "it is no regular file";
        return OUTCOME_KEPT;
    }
    /* Scripts and other programs make empty lock files, as open(2) and flock(1) do. */
    if (status.st_size > 0 && !record_has_header(descriptor)) {
        *reason = "it is not imglock's";
        return OUTCOME_KEPT;
    }
    if (is_locked(descriptor)) {
        *reason = "in use";
        return OUTCOME_KEPT;
    }
    if (!may_unlink(collection, &status)) {
        *reason = "this user may not remove it";
        return OUTCOME_FAILED;
    }
    if (!collection->dry_run) return remove_locked(collection, file, descriptor, &status, reason);
    return is_named(collection, file, &status) ? OUTCOME_REMOVED : OUTCOME_GONE;
}

static void collect(struct collection *collection, const char *file)
{
    const char *reason = NULL;
    enum outcome outcome;
    /* At the name may lie whatever somebody has put there. */
    int descriptor = openat(collection->directory, file, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (descriptor >= 0) {
        outcome = examine(collection, file, descriptor, &reason);
    } else if (errno == ELOOP || errno == EISDIR || errno == ENXIO) {
        outcome = OUTCOME_KEPT;
        reason = "it is no regular file";
    } else {
        outcome = errno == ENOENT ? OUTCOME_GONE : OUTCOME_FAILED;
        reason = strerror(errno);
    }
    switch (outcome) {
    case OUTCOME_REMOVED:
        collection->removed++;
        tell(collection, collection->dry_run ? "would remove" : "removed", file, descriptor, NULL);
        break;
    case OUTCOME_KEPT:
        collection->kept++;
        tell(collection, "kept", file, descriptor, reason);
        break;
    case OUTCOME_FAILED:
        collection->failed++;
        tell(collection, "cannot remove", file, descriptor, reason);
        break;
    case OUTCOME_GONE: /* somebody else was faster */
        break;
    }
    if (descriptor >= 0) close(descriptor);
}

static const struct option_row gc_options[] = {
    {.code = 'n', .name = "dry-run", .help = "remove nothing, say what would be removed"},
    {.code = 'v', .name = "verbose", .help = "name each lock file"},
    {0}};

static int gc_main(int argc, char **argv)
{
    struct settings settings;
    struct lock_names list = {0};
    struct collection collection = {0};
    int status;
    for (int option; (option = options_next(&gc_subcommand, argc, argv, &status)) != OPTIONS_END;) {
        switch (option) {
        case 'n':
            collection.dry_run = true;
            break;
        case 'v':
            collection.verbose = true;
            break;
        default:
            return status;
        }
    }
    if (optind < argc) return complain_usage("gc: it takes no argument, and '%s' is one", argv[optind]);
    if (!settings_read(&settings)) return STATUS_FAILED;
    collection.path = settings.directory;
    collection.directory = open(settings.directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int error = collection.directory < 0 || fstat(collection.directory, &collection.status) < 0
                    ? errno
                    : lock_directory_list(settings.directory, &list);
    if (error) return complain("cannot read the lock directory %s: %s", settings.directory, strerror(error));
    for (size_t i = 0; i < list.count; i++) {
        char file[LOCK_FILE_LENGTH + 1];
        lock_file_name(&list.names[i], file);
        collect(&collection, file);
    }
    printf("%s: %zu, kept: %zu, could not be removed: %zu\n", collection.dry_run ? "would be removed" : "removed",
           collection.removed, collection.kept, collection.failed);
    free(list.names);
    return finish_output(collection.failed ? EXIT_FAILURE : EXIT_SUCCESS);
}

const struct subcommand gc_subcommand = {
    .name = "gc",
    .synopsis = "[-n] [-v]",
    .summary = "Remove lock files that nobody uses",
    .notes = "A lock file in use is never removed, and programs may take locks meanwhile.",
    .options = gc_options,
    .anywhere = true,
    .main = gc_main,
};
