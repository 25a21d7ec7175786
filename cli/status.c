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
#include "colour.h"
#include "memory.h"
#include "name.h"
#include "open_count.h"
#include "other_name.h"
#include "setting.h"
#include "status.h"
#include "usage_list.h"
#include "usage_opens.h"

/* ---- what is asked for -------------------------------------------------------------------------------------- */

static bool ask(struct question *question, const char *name)
{
    char path[PATH_MAX];
    bool exists;
    struct stat status;
    struct named_path *named = &question->named[question->count];
    int error = name_real_path(name, path, &exists, &status);
    if (!error && exists && !S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        complain("%s: it is no regular file, block device or directory", name);
        return false;
    }
    if (error) {
        complain("%s: %s", word_shown(name), strerror(error));
        return false;
    }
    *named = (struct named_path){.path = string_keep(path),
                                 .directory = exists && S_ISDIR(status.st_mode),
                                 .missing = !exists && !name_is_gluster(name)};
    question->count++;
    return true;
}

/* A name that no file has is a mistake, unless somebody holds its lock: "free" would be the wrong answer. */
static bool all_exist(const struct question *question, const struct usage_list *list)
{
    bool all = true;
    for (size_t i = 0; i < question->count; i++) {
        const struct named_path *named = &question->named[i];
        bool used = !named->missing;
        for (size_t j = 0; j < list->count && !used; j++)
            used = list->usages[j].image && strcmp(list->usages[j].image, named->path) == 0;
        if (used) continue;
        complain("%s: %s", named->path, strerror(ENOENT));
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

/* Is somebody known to use the image?  locked: to hold any lock on it. */
static bool is_in_use(const struct usage_list *list, const char *image, bool locked)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct usage *usage = &list->usages[i];
        if (locked && usage->mode < LOCK_SHARED && !usage->meaning.bytes) continue;
        if (usage->image && strcmp(usage->image, image) == 0) return true;
    }
    return false;
}

/* An image of which nobody was found to be a user may still be used by whom we could not look into, or who is in
 * another container.  The kernel knows; where it does not say, the image is not called free.  Returns whether all is
 * told. */
static bool ask_the_kernel(const struct question *question, struct usage_list *list)
{
    bool told = true;
    for (size_t i = 0; i < question->count; i++) {
        const struct named_path *named = &question->named[i];
        struct mark_meaning meaning = {.bytes = 0};
        if (named->directory || named->missing || is_in_use(list, named->path, true)) continue;
        if (image_locks_ask(named->path, &meaning)) {
            usages_add_unknown(list, named->path, &meaning);
            continue;
        }
        if (is_in_use(list, named->path, false)) continue;
        switch (open_count_ask(named->path)) {
        case OPEN_BY_SOMEBODY:
            usages_add_unknown(list, named->path, &meaning);
            break;
        case OPEN_BY_NOBODY:
            break;
        case OPEN_UNKNOWN:
            told &= !list->unseen;
            break;
        }
    }
    for (size_t i = 0; i < question->count; i++)
        if (question->named[i].directory && list->unseen) told = false;
    return told && (question->count || !list->unseen);
}

static int print_once(const struct question *question, const struct table_options *options)
{
    struct usage_list list;
    usages_collect(question, &list);
    bool all = all_exist(question, &list);
    if (!all) list.failed = true;
    bool told = ask_the_kernel(question, &list);
    if (!told) list.failed = true;
    int error = table_print(options, &list);
    if (error) return complain("cannot print: %s", strerror(error));
    /* A person who asked is not left without an answer. */
    if (!list.count && options->words && all) puts(told ? "Nothing is in use." : "Nothing is seen to be in use.");
    int status = finish_output(status_of_list(&list));
    /* Who asked for images of which all is known need not hear of others. */
    if (!told || !question->count || list.count) status_note_unseen(&list);
    usages_free(&list);
    return status;
}

/* ---- the command line --------------------------------------------------------------------------------------- */

/* --watch keeps a lock file and a watch for each image. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

enum { OPTION_WATCH = OPTION_LONG, OPTION_FOLLOW, OPTION_COLOUR, OPTION_ALL };

static const struct option_row status_options[] = {
    {.code = 'J', .name = "json", .help = "print JSON"},
    {.code = 'r', .name = "raw", .help = "print fields with a blank between them"},
    {.code = 'n', .name = "noheadings", .help = "leave out the heading"},
    {.code = 'o',
     .name = "output",
     .argument = "<list>",
     .completes = COMPLETES_COLUMN_LIST,
     .help = "print these columns; +<list>: these as well"},
    {.code = OPTION_ALL, .name = "output-all", .help = "print all columns"},
    {.code = 'H', .name = "list-columns", .help = "list the columns"},
    {.code = 'u', .name = "notruncate", .help = "do not break long paths"},
    {.code = OPTION_WATCH, .name = "watch", .help = "show what is new and what went, in place on a terminal"},
    {.code = OPTION_FOLLOW, .name = "follow", .help = "print a line for each change"},
    {.code = OPTION_COLOUR,
     .name = "color",
     .argument = "<when>",
     .optional = true,
     .completes = COMPLETES_WORD,
     .words = "auto always never",
     .help = "auto, always or never"},
    {0}};

static int status_main(int argc, char **argv)
{
    struct settings settings;
    struct table_options options = {.headings = true, .wrap = isatty(STDOUT_FILENO), .settings = &settings};
    int status;
    bool json = false, raw = false, watch = false;
    options.colour = colour_by_default();
    setlocale(LC_ALL, "");
    table_default_columns(&options);
    for (int option; (option = options_next(&status_subcommand, argc, argv, &status)) != OPTIONS_END;) {
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
        case OPTION_FOLLOW:
            options.follow = watch = true;
            break;
        case OPTION_COLOUR:
            if (colour_wanted(optarg ? optarg : "always", &options.colour)) break;
            return complain_usage("status: --color takes auto, always or never, and not '%s'", optarg);
        default:
            return status;
        }
    }
    if (json && raw) return complain_usage("options -J and -r contradict each other");
    options.format = json ? TABLE_JSON : raw ? TABLE_RAW : TABLE_PLAIN;
    if (json && options.follow) return complain_usage("options -J and --follow contradict each other");
    options.one_line = json && watch;
    if (options.follow) options.format = TABLE_RAW;
    options.words = options.format == TABLE_PLAIN && isatty(STDOUT_FILENO);
    options.marks = options.words && watch;
    if (options.format != TABLE_PLAIN) options.wrap = options.colour = false;
    if (!settings_read(&settings)) return STATUS_FAILED;
    struct question question = {.settings = &settings, .named = memory_get((size_t)argc, sizeof(struct named_path))};
    for (int i = optind; i < argc; i++)
        if (!ask(&question, argv[i])) return STATUS_FAILED;
    if (!watch) return print_once(&question, &options);
    raise_descriptor_limit();
    return status_watch(&question, &options);
}

const struct subcommand status_subcommand = {
    .name = "status",
    .synopsis = "[options] [<image>|<directory>...]",
    .summary = "List who uses which image now",
    .notes = "The exit status is 0 when something is in use, 1 when nothing is, 125 when that\n"
             "cannot be told.",
    .options = status_options,
    .anywhere = true,
    .operands = COMPLETES_FILE,
    .main = status_main,
};
