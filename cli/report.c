/* report.c: imglock report: what audit logs say. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "report_write.h"

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
    if (optind < argc) return true;
    complain_usage("report: no log given");
    return false;
}

static int write_report(const struct request *request, const struct report *report, int status)
{
    if (!request->output) {
        request->write(report, stdout);
        return finish_output(status);
    }
    FILE *stream = fopen(request->output, "we");
    if (!stream) return complain("%s: cannot write: %m", request->output);
    request->write(report, stream);
    bool failed = ferror(stream);
    if (fclose(stream) != 0 || failed) return complain("%s: cannot write: %m", request->output);
    return status;
}

static int report_main(int argc, char **argv)
{
    struct request request = {0};
    static struct report report;
    int status;
    if (!read_options(argc, argv, &request, &status)) return status;
    for (int i = optind; i < argc; i++)
        if (!log_read(&report.log, argv[i])) return STATUS_FAILED;
    log_arrange(&report.log);
    report_build(&report);
    /* That there was no conflict may not be said of something that is no audit log. */
    if (report.log.count == 0 && report.skipped > 0) return complain("report: nothing here is a line of an audit log");
    return write_report(&request, &report, report_has_conflict(&report) ? EXIT_FAILURE : EXIT_SUCCESS);
}

const struct subcommand report_subcommand = {
    .name = "report",
    .synopsis = "[--json|--svg|--trace] [-o <file>] <log>...",
    .summary = "Tell what the logs of audits hold",
    .notes = "See imglock-report(1).",
    .options = report_options,
    .anywhere = true,
    .operands = COMPLETES_FILE,
    .main = report_main,
};
