/* main.c: imglock(1): which of its parts is asked for. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "text.h"

/* ---- messages ----------------------------------------------------------------------------------------------- */

int complain(const char *format, ...)
{
    char *words = NULL;
    va_list list;
    va_start(list, format);
    int length = vasprintf(&words, format, list);
    va_end(list);
    if (length < 0) return STATUS_FAILED;
    /* Names come from the command line, from files and from the environment: none of them may end the line or drive the
     * terminal. */
    size_t size = 4 * (size_t)length + sizeof "imglock: \n";
    char *bytes = malloc(size);
    if (bytes) {
        struct text line = text_in(bytes, size);
        text_append(&line, "imglock: ");
        text_append_untrusted(&line, words, (size_t)length);
        text_append(&line, "\n");
        fflush(stdout);
        if (write(STDERR_FILENO, line.bytes, line.length) < 0) {
            /* Nobody is left to tell; the exit status says it. */
        }
    }
    free(bytes);
    free(words);
    return STATUS_FAILED;
}

int point_to_help(void)
{
    fputs("Try 'imglock --help' for more information.\n", stderr);
    return STATUS_FAILED;
}

int complain_usage(const char *format, ...)
{
    char *words = NULL;
    va_list list;
    va_start(list, format);
    int length = vasprintf(&words, format, list);
    va_end(list);
    if (length >= 0) complain("%s", words);
    free(words);
    return point_to_help();
}

int finish_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    return complain("cannot write to standard output: %m");
}

int print_version(void)
{
    puts("imglock " IMGLOCK_VERSION);
    return finish_output(EXIT_SUCCESS);
}

int print_help(void)
{
    fputs("Usage:\n"
          " imglock [options] [--] <command> [<argument>...]\n"
          " imglock hold [-s|-x|--no-lock] [-n|-w <seconds>] [-E <status>]\n"
          "              [--block <operations>] [--reason <text>] <image>... -- <command> [<argument>...]\n"
          " imglock path [-0] <image>...\n"
          " imglock doctor [<command> [<argument>...]]\n"
          " imglock status [options] [<image>|<directory>...]\n"
          " imglock gc [-n] [-v]\n"
          " imglock audit [-o <log>] [--] <command> [<argument>...]\n"
          " imglock report [--json|--svg|--trace] [-o <file>] <log>...\n"
          " imglock handoff <image> [--from <pid>] --to <pid>\n"
          " imglock inactivate <image> [--from <pid>]\n"
          " imglock activate <image> --to <pid>\n"
          "\n"
          "Run a command that locks the disk images it opens.\n"
          "\n"
          "Options:\n"
          " -s, --shared             every image takes a shared lock\n"
          " -x, --exclusive          every image takes an exclusive lock\n"
          "     --mode <mode>        auto, shared, exclusive, nolock, force-share or inactive\n"
          " -n, --nonblock           refuse at once when an image is locked (the default)\n"
          " -w, --wait <seconds>     wait so long for a lock; forever: without an end\n"
          "     --config <file>      read settings from a file, or from the preset of that name\n"
          "     --audit <file>       refuse nothing, and write what happens to images to a log\n"
          " -v, --verbose            log what happens\n"
          " -h, --help               display this help\n"
          " -V, --version            display version\n"
          "\n"
          "Options for hold:\n"
          " -s, -x, -n, -w           as above, exclusive being the default\n"
          " -E, --conflict-exit-code <status>\n"
          "                          exit status when an image is locked (the default is 1)\n"
          "     --block <operations>\n"
          "                          what others may not do to the images meanwhile: any of\n"
          "                          write,truncate,resize,rename,unlink\n"
          "     --reason <text>      why, for others to read\n"
          "     --no-lock            take no lock, only block operations\n"
          "\n"
          "Options for audit:\n"
          " -o, --output <log>       the log, imglock-audit.jsonl by default\n"
          "\n"
          "Options for report:\n"
          "     --json, --svg, --trace\n"
          "                          JSON, a picture, or Chrome trace events instead of a text\n"
          " -o, --output <file>      where to write it; standard output by default\n"
          "\n"
          "Options for handoff, inactivate and activate:\n"
          "     --from <pid>         the process that gives the lock up, by default its holder\n"
          "     --to <pid>           the inactive process that gets the lock\n"
          "\n"
          "Options for path:\n"
          " -0, --null               end each path with a NUL\n"
          "\n"
          "Options for status:\n"
          " -J, --json               print JSON\n"
          " -r, --raw                print fields with a blank between them\n"
          " -n, --noheadings         leave out the heading\n"
          " -o, --output <list>      print these columns; +<list>: these as well\n"
          "     --output-all         print all columns\n"
          " -H, --list-columns       list the columns\n"
          " -u, --notruncate         do not break long paths\n"
          "     --watch              print again whenever something changes\n"
          "     --color[=<when>]     auto, always or never\n"
          "\n"
          "Options for gc:\n"
          " -n, --dry-run            remove nothing, say what would be removed\n"
          " -v, --verbose            name each lock file\n"
          "\n"
          "The exit status is the command's; 125 when imglock fails, 126 when the command\n"
          "cannot be executed, 127 when it cannot be found.\n"
          "\n"
          "For more details see imglock(1).\n",
          stdout);
    return finish_output(EXIT_SUCCESS);
}

/* ---- subcommands -------------------------------------------------------------------------------------------- */

static const struct subcommand {
    const char *name;
    int (*main)(int argc, char **argv);
} subcommands[] = {
    {"hold", hold_main},
    {"path", path_main},
    {"doctor", doctor_main},
    {"status", status_main},
    {"audit", audit_main},
    {"report", report_main},
    {"gc", gc_main},
    {"handoff", handoff_main},
    {"inactivate", inactivate_main},
    {"activate", activate_main},
};

static const struct subcommand *find_subcommand(const char *name)
{
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        if (strcmp(subcommands[i].name, name) == 0) return &subcommands[i];
    return NULL;
}

bool is_subcommand(const char *name)
{
    return find_subcommand(name) != NULL;
}

int main(int argc, char **argv)
{
    /* getopt's messages begin with it, whatever name this program was started by. */
    static char own_name[] = "imglock";
    if (argc < 1) return STATUS_FAILED;
    argv[0] = own_name;
    if (argc < 2) return complain_usage("no command given");
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) return print_help();
    if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0) return print_version();
    const struct subcommand *subcommand = find_subcommand(argv[1]);
    if (!subcommand) return run_main(argc, argv);
    if (!subcommand->main)
        return complain("this version has no subcommand '%s'; 'imglock -- %s' runs a program of that name",
                        subcommand->name, subcommand->name);
    argv[1] = own_name;
    return subcommand->main(argc - 1, argv + 1);
}
