/* path.c: imglock path: where an image's lock is. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "lock.h"
#include "name.h"
#include "setting.h"

static void print_lock(const char *directory, const struct lock_name *name, char end)
{
    char path[PATH_MAX];
    lock_path(directory, name, path);
    fputs(path, stdout);
    putchar(end);
}

static bool print_locks_of(const struct settings *settings, const char *image, char end)
{
    char path[PATH_MAX];
    bool exists;
    struct stat status;
    struct lock_name name;
    int error = name_real_path(image, path, &exists, &status);
    if (error) {
        complain("%s: cannot tell its lock's path: %s", word_shown(image), strerror(error));
        return false;
    }
    lock_name_of_image(path, exists ? &status : NULL, &name);
    print_lock(settings->directory, &name, end);
    if (settings->key_inode && exists && !S_ISBLK(status.st_mode)) {
        lock_name_of_inode(&status, &name);
        print_lock(settings->directory, &name, end);
    }
    return true;
}

static const struct option_row path_options[] = {{.code = '0', .name = "null", .help = "end each path with a NUL"},
                                                 {0}};

static int path_main(int argc, char **argv)
{
    struct settings settings;
    char end = '\n';
    int status = EXIT_SUCCESS;
    for (int option; (option = options_next(&path_subcommand, argc, argv, &status)) != OPTIONS_END;) {
        switch (option) {
        case '0':
            end = '\0';
            break;
        default:
            return status;
        }
    }
    if (optind == argc) return complain_usage("path: no image given");
    if (!settings_read(&settings)) return STATUS_FAILED;
    for (int i = optind; i < argc; i++)
        if (!print_locks_of(&settings, argv[i], end)) status = EXIT_FAILURE;
    return finish_output(status);
}

const struct subcommand path_subcommand = {
    .name = "path",
    .synopsis = "[-0] <image>...",
    .summary = "Print the path of an image's lock file",
    .notes = "The image need not exist.  With IMGLOCK_KEY=inode the second lock of an image follows.",
    .options = path_options,
    .operands = COMPLETES_FILE,
    .main = path_main,
};
