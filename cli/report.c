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

/* False after a message. */
static bool read_options(int argc, char **argv, struct request *request, int *status)
{
    enum { JSON = 256, SVG, TRACE };
    static const struct option known[] = {{"json", no_argument, NULL, JSON},
                                          {"svg", no_argument, NULL, SVG},
                                          {"trace", no_argument, NULL, TRACE},
                                          {"output", required_argument, NULL, 'o'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"version", no_argument, NULL, 'V'},
                                          {0}};
    *status = STATUS_FAILED;
    for (int option; (option = getopt_long(argc, argv, "o:hV", known, NULL)) != -1;) {
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
        case 'h':
            *status = print_help();
            return false;
        case 'V':
            *status = print_version();
            return false;
        default:
            point_to_help();
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
    int descriptor = log_file_open(request->output, O_WRONLY);
    if (descriptor < 0) return audit_log_complain(request->output, "cannot write", -descriptor);
    /* Emptied only now that it is known to be ours; a terminal or a pipe has nothing to be emptied of. */
    FILE *stream = ftruncate(descriptor, 0) == 0 || errno == EINVAL ? fdopen(descriptor, "w") : NULL;
    if (!stream) return complain("%s: cannot write: %m", request->output);
    request->write(report, stream);
    bool failed = ferror(stream);
    if (fclose(stream) != 0 || failed) return complain("%s: cannot write: %m", request->output);
    return status;
}

int report_main(int argc, char **argv)
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
