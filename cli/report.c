/* report.c: imglock report: what audit logs say. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "audit_log.h"
#include "cli.h"
#include "log_file.h"
#include "report_build.h"
#include "report_write.h"

/* Of the command: a conflict was found; none was, in what could be read. */
enum { STATUS_CONFLICT = 1, STATUS_INCOMPLETE = 2 };

struct request {
    void (*write)(const struct report *, FILE *);
    const char *form; /* the option that asked for it */
    const char *output;
};

static bool choose_form(struct request *request, const char *option, void (*write)(const struct report *, FILE *))
{
    if (request->write && request->write != write) {
        complain_usage("%s and %s contradict each other", request->form, option);
        return false;
    }
    request->write = write;
    request->form = option;
    return true;
}

enum { JSON = OPTION_LONG, SVG, TRACE };

static const struct option_row report_options[] = {
    {.code = JSON, .name = "json", .help = "write JSON instead of a text"},
    {.code = SVG, .name = "svg", .help = "draw a picture"},
    {.code = TRACE, .name = "trace", .help = "write Chrome trace events"},
    {.code = 'o',
     .name = "output",
     .argument = "<file>",
     .completes = COMPLETES_FILE,
     .help = "where to write it; standard output by default"},
    {0}};

/* False after a message. */
static bool read_options(int argc, char **argv, struct request *request, int *status)
{
    *status = STATUS_FAILED;
    for (int option; (option = options_next(&report_subcommand, argc, argv, status)) != OPTIONS_END;) {
        switch (option) {
        case JSON:
            if (!choose_form(request, "--json", report_write_json)) return false;
            break;
        case SVG:
            if (!choose_form(request, "--svg", report_write_svg)) return false;
            break;
        case TRACE:
            if (!choose_form(request, "--trace", report_write_trace)) return false;
            break;
        case 'o':
            request->output = optarg;
            break;
        default:
            return false;
        }
    }
    if (!request->write) request->write = report_write_text;
    return true;
}

/* The file for the report; NULL after a complaint. */
static FILE *open_output(const char *path)
{
    int descriptor = log_file_open(path, O_WRONLY);
    if (descriptor < 0) {
        audit_log_complain(path, "cannot write", -descriptor);
        return NULL;
    }
    /* Now that it is open, a pipe that is full is waited for. */
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK);
    /* Emptied only now that it is known to be ours; a terminal or a pipe has nothing to be emptied of. */
    FILE *stream = ftruncate(descriptor, 0) == 0 || errno == EINVAL ? fdopen(descriptor, "w") : NULL;
    if (!stream) complain("%s: cannot write: %m", path);
    return stream;
}

static int write_report(const struct request *request, const struct report *report, int status)
{
    if (!request->output) {
        request->write(report, stdout);
        return finish_output(status);
    }
    FILE *stream = open_output(request->output);
    if (!stream) return STATUS_FAILED;
    request->write(report, stream);
    bool failed = ferror(stream);
    if (fclose(stream) != 0 || failed) return complain("%s: cannot write: %m", request->output);
    return status;
}

/* Reads the logs, or, where none is given, the one that imglock audit named itself last.  False after a complaint. */
static bool read_logs(struct log *log, char **paths, int count)
{
    char *latest = count ? NULL : audit_log_latest();
    if (!count && !latest) {
        complain_usage("report: no log given, and in this directory is none that imglock audit named itself");
        return false;
    }
    if (latest && isatty(STDERR_FILENO)) complain("report: this is %s", latest);
    bool read = !latest || log_read(log, latest);
    for (int i = 0; read && i < count; i++) read = log_read(log, paths[i]);
    /* Its name is in the report. */
    return read;
}

/* What was found counts more than what could not be read; and that nothing was found may not be said then. */
static int status_of(const struct report *report)
{
    if (report_has_conflict(report)) return STATUS_CONFLICT;
    return report->skipped ? STATUS_INCOMPLETE : EXIT_SUCCESS;
}

static int report_main(int argc, char **argv)
{
    struct request request = {0};
    static struct report report;
    int status;
    if (!read_options(argc, argv, &request, &status)) return status;
    if (!read_logs(&report.log, argv + optind, argc - optind)) return STATUS_FAILED;
    log_arrange(&report.log);
    if (!report_build(&report)) return STATUS_FAILED;
    if (report.events == 0 && report.skipped > 0) return complain("report: nothing here is a line of an audit log");
    return write_report(&request, &report, status_of(&report));
}

const struct subcommand report_subcommand = {
    .name = "report",
    .synopsis = "[--json|--svg|--trace] [-o <file>] [<log>...]",
    .summary = "Tell what the logs of audits hold",
    .notes = "Without a log: the one in the current directory that imglock audit named last.\n"
             "The exit status is 1 when two programs met at an image, 2 when none did in what could\n"
             "be read, and some lines could not.  See imglock-report(1).",
    .options = report_options,
    .anywhere = true,
    .operands = COMPLETES_FILE,
    .main = report_main,
};
