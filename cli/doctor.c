/* doctor.c: imglock doctor: will locks work here, and for this command? */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "bytes.h"
#include "cli.h"
#include "colour.h"
#include "distant.h"
#include "fdinfo.h"
#include "library.h"
#include "links.h"
#include "login.h"
#include "mark.h"
#include "setting.h"
#include "sys.h"
#include "target.h"

/* ---- grades ------------------------------------------------------------------------------------------------- */

enum grade { GRADE_OK, GRADE_WARNING, GRADE_PROBLEM };

static int problems;

static void report(enum grade grade, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void report(enum grade grade, const char *format, ...)
{
    static const struct {
        const char *word, *colour;
    } shapes[] = {{"ok", "\033[32m"}, {"warning", "\033[33m"}, {"problem", "\033[31m"}};
    va_list list;
    va_start(list, format);
    char *line = words_in_line("", format, list);
    va_end(list);
    bool colour = colour_by_default();
    if (line)
        printf("%s%-7s%s  %s", colour ? shapes[grade].colour : "", shapes[grade].word, colour ? "\033[0m" : "", line);
    free(line);
    if (grade == GRADE_PROBLEM) problems++;
}

/* ---- settings ----------------------------------------------------------------------------------------------- */

static void examine_setting(const char *name, const char *value)
{
    const char *refusal = *value ? setting_refusal(name, value) : NULL;
    if (strcmp(name, "IMGLOCK_LIBRARY") == 0)
        report(GRADE_OK, "setting IMGLOCK_LIBRARY=%s", value);
    else if (!setting_is_known(name)) {
        const char *alike = setting_alike(name);
        report(GRADE_WARNING, "setting %s: nothing reads a variable of this name%s%s%s", name,
               alike ? "; did you mean " : "", alike ? alike : "", alike ? "?" : "");
    } else if (refusal)
        report(GRADE_PROBLEM, "setting %s=%s makes no sense; it takes %s", name, value, refusal);
    else
        report(GRADE_OK, "setting %s=%s", name, value);
}

/* Every IMGLOCK_ variable of the environment; then what they amount to. */
static bool examine_settings(struct settings *settings)
{
    bool any = false;
    for (char *const *entry = environ; *entry; entry++) {
        const char *equals = strchr(*entry, '=');
        if (strncmp(*entry, "IMGLOCK_", 8) != 0 || !equals) continue;
        char *name = strndup(*entry, (size_t)(equals - *entry));
        if (name) examine_setting(name, equals + 1);
        free(name);
        any = true;
    }
    if (!any) report(GRADE_OK, "settings: all are the defaults");
    bool valid = settings_parse(environ, settings, false);
    if (valid && settings->log_target == LOG_TO_FILE) {
        int descriptor = open(settings->log_file, O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (descriptor < 0 && errno != ENOENT)
            report(GRADE_WARNING, "log %s: cannot be written, so messages are lost: %m", settings->log_file);
        if (descriptor >= 0) close(descriptor);
    }
    return valid;
}

/* ---- the lock directory ------------------------------------------------------------------------------------- */

/* Does the kernel itself keep the lock that this description has, so that no server knows of it? */
static bool note_row(const struct fdinfo_lock *lock, void *kept)
{
    *(bool *)kept |= lock->owner == FDINFO_DESCRIPTION;
    return !*(bool *)kept;
}

static bool is_kept_by_the_kernel(int descriptor)
{
    char name[FDINFO_OWN_SIZE];
    bool kept = false;
    fdinfo_own(name, descriptor);
    fdinfo_each_lock(AT_FDCWD, name, note_row, &kept);
    return kept;
}

/* What one test of locks in a directory has shown. */
struct shown {
    int error;
    bool refused;       /* a second exclusive lock was */
    bool free_again;    /* after the first one's descriptor was closed */
    bool mandatory;     /* locked bytes cannot be written by others */
    bool by_the_kernel; /* it keeps the lock itself */
};

#define CLOSE_NS (INT64_C(5) * 1000 * 1000 * 1000)

/* Has two open file descriptions want a lock on one file.  This is what every lock comes down to; a file system may
 * take the call and never refuse. */
static void try_locks(int first, int second, struct shown *shown)
{
    shown->error = -bytes_lock(first, F_WRLCK, LOCK_BYTE, LOCK_BYTES);
    const int refused = shown->error ? 0 : bytes_lock(second, F_WRLCK, LOCK_BYTE, LOCK_BYTES);
    shown->refused = refused == -EAGAIN;
    if (refused && !shown->refused) shown->error = -refused;
    shown->by_the_kernel = is_kept_by_the_kernel(first);
    /* What a client has not sent yet fails later. */
    shown->mandatory = shown->refused && (pwrite(second, "x", 1, LOCK_BYTE) < 0 || fsync(second) < 0) &&
                       (errno == EAGAIN || errno == EACCES || errno == EBUSY);
    close(first);
    /* A client tells its server of a close when it comes to it. */
    const int64_t deadline = sys_monotonic() + CLOSE_NS;
    do {
        shown->free_again = shown->refused && bytes_lock(second, F_WRLCK, LOCK_BYTE, LOCK_BYTES) == 0;
    } while (shown->refused && !shown->free_again && sys_pause(deadline));
}

static bool examine_locks(const char *directory, struct shown *shown)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/.imglock-doctor-XXXXXX", directory) >= (int)sizeof path) return false;
    int first = mkostemp(path, O_CLOEXEC);
    if (first < 0) {
        report(GRADE_PROBLEM, "directory %s: cannot create a file in it: %m", directory);
        return false;
    }
    /* Not to wait for what a mandatory lock keeps. */
    int second = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    shown->error = second < 0 ? errno : 0;
    unlink(path);
    if (second >= 0)
        try_locks(first, second, shown);
    else
        close(first);
    if (second >= 0) close(second);
    if (shown->error)
        report(GRADE_PROBLEM, "locks in %s: its file system gives none: %s%s", directory, strerror(shown->error),
               shown->error == ENOLCK ? "; on NFS 3 the lock daemon has to run, rpc.statd here and on the server" : "");
    else if (!shown->refused)
        report(GRADE_PROBLEM, "locks in %s: its file system gave one exclusive lock twice", directory);
    else if (!shown->free_again)
        report(GRADE_PROBLEM, "locks in %s: a lock outlived its last descriptor", directory);
    else if (shown->mandatory)
        report(GRADE_PROBLEM,
               "locks in %s: they are mandatory: whoever marks an image keeps its own writers from those bytes, and "
               "records cannot be written; on GlusterFS 'gluster volume set VOLUME locks.mandatory-locking off'",
               directory);
    else
        report(GRADE_OK, "locks in %s: open file description locks exclude each other", directory);
    return !shown->error && shown->free_again;
}

/* ---- what a mount promises ---------------------------------------------------------------------------------- */

/* The file system's own options, the last field of its line in mountinfo, proc_pid_mountinfo(5).  NULL: not told. */
static char *mount_options(const char *directory)
{
    struct stat status = {0};
    char wanted[32], *line = NULL, *options = NULL;
    size_t size = 0;
    FILE *mounts = stat(directory, &status) < 0 ? NULL : fopen("/proc/self/mountinfo", "re");
    snprintf(wanted, sizeof wanted, " %u:%u ", major(status.st_dev), minor(status.st_dev));
    while (mounts && getline(&line, &size, mounts) > 0) {
        const char *at = strstr(line, wanted);
        const char *last = strrchr(line, ' ');
        if (!at || !last) continue;
        free(options);
        options = strndup(last + 1, strcspn(last + 1, "\n"));
    }
    free(line);
    if (mounts) fclose(mounts);
    return options;
}

/* Is it one of "rw,vers=4.2,hard,local_lock=none"? */
static bool has_option(const char *options, const char *option)
{
    const size_t length = strlen(option);
    for (const char *at = options; (at = strstr(at, option)); at += length)
        if ((at == options || at[-1] == ',') && (at[length] == ',' || !at[length])) return true;
    return false;
}

/* Who asks NFS 3 of Linux 6.1 for the lock that is in the way hears of exclusive ones alone; marks are shared ones. */
static void examine_nfs(const char *directory)
{
    char *options = mount_options(directory);
    if (!options) return;
    if (has_option(options, "nolock") || has_option(options, "local_lock=all") ||
        has_option(options, "local_lock=posix"))
        report(GRADE_PROBLEM,
               "mount of %s: with nolock or local_lock its locks are this host's own, so other hosts exclude nobody "
               "and nobody excludes them; mount it without",
               directory);
    if (has_option(options, "soft") || has_option(options, "softerr") || has_option(options, "softreval"))
        report(GRADE_WARNING,
               "mount of %s: by soft a server that does not answer in time fails calls, locks among them; mount it "
               "with hard",
               directory);
    if (has_option(options, "vers=3"))
        report(GRADE_WARNING,
               "mount of %s: NFS 3 keeps the locks of a host that died until that host is back, and does not tell of "
               "shared locks, so marks and QEMU's own locks keep no other host out; NFS 4 does both better",
               directory);
    free(options);
}

static void examine_mount(const char *directory, const char *name, const struct shown *shown)
{
    report(GRADE_WARNING,
           "file system of %s: %s, whose server keeps the locks: it has to keep them for every host "
           "that uses the images, and when it restarts they may be lost; IMGLOCK_ON_LOST says what happens then",
           directory, name);
    if (strcmp(name, "NFS") == 0) examine_nfs(directory);
    if (strcmp(name, "FUSE") == 0 && shown->by_the_kernel)
        report(GRADE_WARNING,
               "file system of %s: its server keeps no locks, so the kernel does, for this host alone: other hosts "
               "exclude nobody and nobody excludes them",
               directory);
}

static void examine_file_system(const char *directory, const struct shown *shown)
{
    struct statfs type;
    struct statvfs room;
    if (statfs(directory, &type) == 0 && distant_name(type.f_type))
        examine_mount(directory, distant_name(type.f_type), shown);
    if (statvfs(directory, &room) < 0) return;
    if (room.f_files > 0 && room.f_favail == 0)
        report(GRADE_PROBLEM, "file system of %s: no inode is free for a new lock file; make room", directory);
    else if (room.f_bavail == 0)
        report(GRADE_WARNING, "file system of %s: full; locks hold, but who holds them cannot be recorded; make room",
               directory);
    else
        report(GRADE_OK, "file system of %s: has room", directory);
}

static void examine_directory(const char *directory)
{
    struct stat status;
    struct shown shown = {0};
    if (stat(directory, &status) < 0) {
        report(GRADE_PROBLEM, "directory %s: %m; create it with 'mkdir -m 1777'", directory);
        return;
    }
    if (!S_ISDIR(status.st_mode)) {
        report(GRADE_PROBLEM, "directory %s: it is no directory", directory);
        return;
    }
    if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) < 0) {
        report(GRADE_PROBLEM, "directory %s: this user cannot create lock files in it: %m; chmod it", directory);
        return;
    }
    if (status.st_mode & (S_IWGRP | S_IWOTH) && !(status.st_mode & S_ISVTX))
        report(GRADE_PROBLEM,
               "directory %s: others may delete lock files in it and so void locks; 'chmod +t' forbids it", directory);
    else
        report(GRADE_OK, "directory %s: exists, this user may create lock files in it, others may not delete them",
               directory);
    if (examine_locks(directory, &shown)) examine_file_system(directory, &shown);
}

/* Images lie where the command is run, mostly; 'imglock explain' looks at one of them. */
static void examine_marks(void)
{
    char path[PATH_MAX];
    struct stat status;
    int directory = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || fstat(directory, &status) < 0 || !getcwd(path, sizeof path)) {
        if (directory >= 0) close(directory);
        return;
    }
    if (mark_is_possible(directory, status.st_dev))
        report(GRADE_OK, "images in %s: have marks, which QEMU and those who know them by another name see", path);
    else
        report(GRADE_WARNING,
               "images in %s: have no marks, since locks on SMB would keep their own writers out; so QEMU outside "
               "imglock, "
               "and those who know an image by another name, are not kept out",
               path);
    close(directory);
}

/* Other hosts may have the images where this command is run, and see nothing of a lock directory that they have not. */
static void examine_places(const char *directory)
{
    char path[PATH_MAX];
    struct statfs images, locks;
    if (statfs(".", &images) < 0 || statfs(directory, &locks) < 0 || !getcwd(path, sizeof path)) return;
    const char *name = distant_name(images.f_type);
    if (name && !distant_name(locks.f_type))
        report(GRADE_WARNING,
               "images in %s: on %s, which other hosts may see, while the lock directory %s is this host's own: "
               "programs there are kept out by marks alone, and not named; the preset shared-storage has IMGLOCK_DIR "
               "there",
               path, name, directory);
    struct stat image, lock;
    if (name && strcmp(name, "NFS") == 0 && stat(".", &image) == 0 && stat(directory, &lock) == 0 &&
        image.st_dev != lock.st_dev)
        examine_nfs(path);
}

/* ---- the library -------------------------------------------------------------------------------------------- */

static void examine_library(void)
{
    char reason[PATH_MAX];
    const char *library = library_path();
    if (!library) {
        report(GRADE_PROBLEM, "library: its path is not fit for LD_PRELOAD; see the message above");
        return;
    }
    /* An image that is open here would be locked by the library, which is not the question. */
    closefrom(3);
    if (library_loads(library, reason, sizeof reason))
        report(GRADE_OK, "library %s: the dynamic loader loads it", library);
    else
        report(GRADE_PROBLEM, "library %s: %s; install imglock anew, or IMGLOCK_LIBRARY names another", library,
               reason);
}

/* ---- who is outside ------------------------------------------------------------------------------------------ */

/* May this process ask for leases on every file, or on its user's own? */
static bool may_lease_all(void)
{
    char line[256];
    unsigned long long capabilities = 0;
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "CapEff: %llx", &capabilities) == 1) break;
    if (status) fclose(status);
    return capabilities >> CAP_LEASE & 1;
}

static bool gives_leases(void)
{
    int enabled = 1;
    FILE *setting = fopen("/proc/sys/fs/leases-enable", "re");
    if (setting && fscanf(setting, "%d", &enabled) != 1) enabled = 1;
    if (setting) fclose(setting);
    return enabled;
}

static void examine_outsiders(const struct settings *settings)
{
    if (settings->outsiders == OUTSIDERS_IGNORE)
        report(GRADE_WARNING, "outsiders: by IMGLOCK_OUTSIDERS=ignore nobody asks who has an image open for writing "
                              "without imglock");
    else if (!gives_leases())
        report(GRADE_WARNING, "outsiders: the kernel does not tell who has an image open for writing without imglock; "
                              "sysctl fs.leases-enable=1 makes it");
    else
        report(GRADE_OK,
               "outsiders: who has an image open for writing without imglock is %s, where the image belongs "
               "to %s",
               settings->outsiders == OUTSIDERS_WARN ? "reported" : "in the way",
               may_lease_all() ? "anybody" : "this user");
}

/* ---- what is on for good ------------------------------------------------------------------------------------ */

/* Returns whether anything is on there. */
static bool examine_links(bool of_all)
{
    char directory[PATH_MAX], other[PATH_MAX], names[1024] = "";
    size_t count;
    if ((of_all && links_of_all_are_own()) || !links_directory(of_all, directory)) return false;
    char **list = links_list(directory, &count);
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", list[i]);
        free(list[i]);
    }
    free(list);
    if (!count) return false;
    enum links_in_path place = links_in_path(directory, other);
    if (place == LINKS_FIRST)
        report(GRADE_OK, "on for good: %s, by %s", names, directory);
    else
        report(GRADE_WARNING, "on for good: %s, and without effect: %s %s%s; 'imglock on' tells what to add", names,
               directory, place == LINKS_BEHIND ? "stands in PATH behind " : "is not in PATH", other);
    return true;
}

static void examine_what_is_on(void)
{
    char path[PATH_MAX];
    bool any = false;
    for (int of_all = 0; of_all < 2; of_all++) {
        any |= examine_links(of_all);
        if (!login_path(of_all, path) || !login_is_on(path)) continue;
        report(GRADE_OK, "on for good: %s session, by %s", of_all ? "every user's" : "this user's", path);
        any = true;
    }
    const char *preloaded = getenv("LD_PRELOAD");
    if (preloaded && strstr(preloaded, "libimglock.so")) {
        report(GRADE_OK, "on here: LD_PRELOAD=%s", preloaded);
        any = true;
    }
    if (!any) report(GRADE_OK, "on for good: nothing; see 'imglock help on'");
}

/* ---- the command -------------------------------------------------------------------------------------------- */

static void examine_command(char *const *command)
{
    static struct target target;
    char real[PATH_MAX];
    if (target_look(links_see_through(command[0], real), command, &target) != 0)
        report(GRADE_PROBLEM, "command %s%s%s", target.reason, target.next_step ? "; " : "",
               target.next_step ? target.next_step : "");
    else
        report(GRADE_OK, "command %s: the library can be preloaded into it", target.chain);
    if (target.go)
        report(
            GRADE_WARNING,
            "command %s: it is written in Go, which opens files without libc, so its own opens take no "
            "lock, only those of dynamically linked programs that it starts; 'imglock hold IMAGE -- COMMAND' takes the "
            "lock around it",
            target.chain);
}

static int doctor_main(int argc, char **argv)
{
    struct settings settings;
    int status;
    if (options_next(&doctor_subcommand, argc, argv, &status) == OPTIONS_OVER) return status;
    bool valid = examine_settings(&settings);
    examine_library();
    if (valid)
        examine_directory(settings.directory);
    else
        report(GRADE_WARNING, "directory: not looked at, since the settings make no sense");
    examine_marks();
    if (valid) examine_places(settings.directory);
    if (valid) examine_outsiders(&settings);
    examine_what_is_on();
    if (optind < argc) examine_command(argv + optind);
    return finish_output(problems ? EXIT_FAILURE : EXIT_SUCCESS);
}

const struct subcommand doctor_subcommand = {
    .name = "doctor",
    .synopsis = "[<command> [<argument>...]]",
    .summary = "Say whether locks work here, and for this command",
    .notes = "Each line begins with ok, warning or problem; the exit status is 1 when there is a problem.",
    .operands = COMPLETES_PROGRAM,
    .command = true,
    .main = doctor_main,
};
