/* path.c: imglock path: where an image's lock is. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "lock.h"

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
    int error = image_real_path(image, path, &exists, &status);
    if (error) {
        complain("%s: cannot tell its lock's path: %s", image_shown(image), strerror(error));
        return false;
    }
    lock_name_of_path(path, &name);
    print_lock(settings->directory, &name, end);
    if (settings->key_inode && exists) {
        lock_name_of_inode(&status, &name);
        print_lock(settings->directory, &name, end);
    }
    return true;
}

int path_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"null", no_argument, NULL, '0'}, {"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {0}};
    struct settings settings;
    char end = '\n';
    for (int option; (option = getopt_long(argc, argv, "+0hV", options, NULL)) != -1;) {
        switch (option) {
        case '0':
            end = '\0';
            break;
        case 'h':
            return print_help();
        case 'V':
            return print_version();
        default:
            return point_to_help();
        }
    }
    if (optind == argc) return complain_usage("path: no image given");
    if (!settings_read(&settings)) return STATUS_FAILED;
    int status = EXIT_SUCCESS;
    for (int i = optind; i < argc; i++)
        if (!print_locks_of(&settings, argv[i], end)) status = EXIT_FAILURE;
    return finish_output(status);
}
