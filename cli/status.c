/* status.c: imglock status: who uses which image. */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli.h"
#include "status.h"

/* ---- what is asked for -------------------------------------------------------------------------------------- */

static bool ask(struct question *question, const char *name)
{
    char path[PATH_MAX];
    bool exists;
    struct stat status;
    struct asked *asked = &question->asked[question->count];
    int error = image_real_path(name, path, &exists, &status);
    if (!error && exists && !S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        complain("%s: it is no regular file, block device or directory", name);
        return false;
    }
    if (error) {
        complain("%s: %s", name, strerror(error));
        return false;
    }
    *asked =
        (struct asked){.path = string_keep(path), .directory = exists && S_ISDIR(status.st_mode), .missing = !exists};
    question->count++;
    return true;
}

/* A name that no file has is a mistake, unless somebody holds its lock: "free" would be the wrong answer. */
static bool all_exist(const struct question *question, const struct usage_list *list)
{
    bool all = true;
    for (size_t i = 0; i < question->count; i++) {
        const struct asked *asked = &question->asked[i];
        bool used = !asked->missing;
        for (size_t j = 0; j < list->count && !used; j++)
            used = list->usages[j].image && strcmp(list->usages[j].image, asked->path) == 0;
        if (used) continue;
        complain("%s: %s", asked->path, strerror(ENOENT));
        all = false;
    }
    return all;
}

/* ---- the answer --------------------------------------------------------------------------------------------- */

int status_of_list(const struct usage_list *list)
{
    if (list->count) return EXIT_SUCCESS;
    return list->failed ? STATUS_FAILED : EXIT_FAILURE;
}

void status_note_unseen(const struct usage_list *list)
{
    if (!list->unseen) return;
    complain("%zu %s could not be looked into, and may have images open without a lock", list->unseen,
             list->unseen == 1 ? "process of another user" : "processes of other users");
}

static int print_once(const struct question *question, const struct table_options *options)
{
    struct usage_list list;
    usages_collect(question, &list);
    if (!all_exist(question, &list)) list.failed = true;
    int error = table_print(options, &list);
    if (error) return complain("cannot print: %s", strerror(error));
    int status = finish_output(status_of_list(&list));
    status_note_unseen(&list);
    usages_free(&list);
    return status;
}

/* ---- the command line --------------------------------------------------------------------------------------- */

static bool is_in_colour(const char *when, bool *colour)
{
    const char *no_colour = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    if (strcmp(when, "auto") == 0)
        *colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour) && !(terminal && strcmp(terminal, "dumb") == 0);
    else if (strcmp(when, "always") == 0 || strcmp(when, "never") == 0)
        *colour = *when == 'a';
    else
        return false;
    return true;
}

/* --watch keeps a lock file and a watch for each image. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int status_main(int argc, char **argv)
{
    enum { OPTION_WATCH = 256, OPTION_COLOUR, OPTION_ALL };
    static const struct option known[] = {{"json", no_argument, NULL, 'J'},
                                          {"raw", no_argument, NULL, 'r'},
                                          {"noheadings", no_argument, NULL, 'n'},
                                          {"notruncate", no_argument, NULL, 'u'},
                                          {"output", required_argument, NULL, 'o'},
                                          {"output-all", no_argument, NULL, OPTION_ALL},
                                          {"list-columns", no_argument, NULL, 'H'},
                                          {"watch", no_argument, NULL, OPTION_WATCH},
                                          {"color", optional_argument, NULL, OPTION_COLOUR},
                                          {"help", no_argument, NULL, 'h'},
                                          {"version", no_argument, NULL, 'V'},
                                          {0}};
    struct settings settings;
    struct table_options options = {.headings = true, .wrap = isatty(STDOUT_FILENO), .settings = &settings};
    bool json = false, raw = false, watch = false;
    is_in_colour("auto", &options.colour);
    setlocale(LC_ALL, "");
    table_default_columns(&options);
    for (int option; (option = getopt_long(argc, argv, "Jrnuo:HhV", known, NULL)) != -1;) {
        switch (option) {
        case 'J':
            json = true;
            break;
        case 'r':
            raw = true;
            break;
        case 'n':
            options.headings = false;
            break;
        case 'u':
            options.wrap = false;
            break;
        case 'o':
            if (!table_parse_columns(&options, optarg)) return STATUS_FAILED;
            break;
        case OPTION_ALL:
            table_all_columns(&options);
            break;
        case 'H':
            table_list_columns();
            return finish_output(EXIT_SUCCESS);
        case OPTION_WATCH:
            watch = true;
            break;
        case OPTION_COLOUR:
            if (is_in_colour(optarg ? optarg : "always", &options.colour)) break;
            return complain_usage("status: --color takes auto, always or never, and not '%s'", optarg);
        case 'h':
            return print_help();
        case 'V':
            return print_version();
        default:
            return point_to_help();
        }
    }
    if (json && raw) return complain_usage("options -J and -r contradict each other");
    options.format = json ? TABLE_JSON : raw ? TABLE_RAW : TABLE_PLAIN;
    options.one_line = json && watch;
    if (options.format != TABLE_PLAIN) options.wrap = options.colour = false;
    if (!settings_read(&settings)) return STATUS_FAILED;
    struct question question = {.settings = &settings, .asked = calloc((size_t)argc, sizeof(struct asked))};
    if (!question.asked) return complain("%m");
    for (int i = optind; i < argc; i++)
        if (!ask(&question, argv[i])) return STATUS_FAILED;
    if (!watch) return print_once(&question, &options);
    raise_descriptor_limit();
    return status_watch(&question, &options);
}
