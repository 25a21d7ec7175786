#include "audit_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "log_file.h"

static const char stem[] = "imglock-audit", ending[] = ".jsonl";

/* The number in a name that audit_log_open() chose: 1 where it has none.  0: another file. */
static long number_of(const char *name)
{
    if (strncmp(name, stem, strlen(stem)) != 0) return 0;
    name += strlen(stem);
    if (strcmp(name, ending) == 0) return 1;
    if (name[0] != '-' || name[1] < '1' || name[1] > '9') return 0;
    char *end;
    errno = 0;
    long number = strtol(name + 1, &end, 10);
    return errno == 0 && strcmp(end, ending) == 0 ? number : 0;
}

static char *name_of_number(long number)
{
    char *name;
    int length =
        number == 1 ? asprintf(&name, "%s%s", stem, ending) : asprintf(&name, "%s-%ld%s", stem, number, ending);
    return length < 0 ? NULL : name;
}

static long latest_number(void)
{
    long latest = 0;
    DIR *directory = opendir(".");
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (number_of(entry->d_name) > latest) latest = number_of(entry->d_name);
    if (directory) closedir(directory);
    return latest;
}

char *audit_log_latest(void)
{
    long latest = latest_number();
    return latest ? name_of_number(latest) : NULL;
}

char *audit_log_path(const char *name)
{
    char *path;
    char *directory = name[0] == '/' ? strdup("") : getcwd(NULL, 0);
    if (!directory || asprintf(&path, "%s%s%s", directory, *directory ? "/" : "", name) < 0) path = NULL;
    free(directory);
    return path;
}

int audit_log_complain(const char *path, const char *what, int error)
{
    if (error == ELOOP)
        return complain("%s: %s: it is a symbolic link in a directory that everybody may write", path, what);
    if (error == EPERM)
        return complain("%s: %s: in a directory that everybody may write, a file of another user, or one with a "
                        "second name, is not written to",
                        path, what);
    return complain("%s: %s: %s", path, what, strerror(error));
}

static bool is_fit(const char *path, const struct stat *status)
{
    if (S_ISREG(status->st_mode)) return true;
    complain("%s: cannot write the audit log: it is no regular file, so it cannot be read again to see which processes "
             "have ended",
             path);
    return false;
}

/* Opens a log that is not there yet.  False with errno. */
static bool create_next(struct audit_log *log)
{
    for (long number = latest_number() + 1;; number++) {
        char *name = name_of_number(number);
        log->path = name ? audit_log_path(name) : NULL;
        free(name);
        if (!log->path) return false;
        log->descriptor = log_file_open(log->path, O_RDWR | O_APPEND | O_EXCL);
        if (log->descriptor != -EEXIST) return true;
        free(log->path);
    }
}

bool audit_log_open(struct audit_log *log, const char *name)
{
    struct stat status;
    *log = (struct audit_log){0};
    if (name) {
        log->path = audit_log_path(name);
        if (log->path) log->descriptor = log_file_open(log->path, O_RDWR | O_APPEND);
    } else if (!create_next(log)) {
        log->path = NULL;
    }
    if (!log->path) {
        complain("%s: cannot tell the path of the audit log: %m", name ? name : stem);
        return false;
    }
    if (log->descriptor < 0) {
        audit_log_complain(log->path, "cannot write the audit log", -log->descriptor);
        return false;
    }
    if (fstat(log->descriptor, &status) < 0 || !is_fit(log->path, &status)) return false;
    if (status.st_size > 0)
        complain("%s: the log of an earlier audit is in it; this one's lines come after those", log->path);
    lseek(log->descriptor, 0, SEEK_END);
    return true;
}
