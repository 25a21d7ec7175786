/* explain.c: imglock explain: what imglock makes of an image, and what would happen now.  Opens nothing for writing. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block_device.h"
#include "blocker.h"
#include "cli.h"
#include "count.h"
#include "device.h"
#include "image.h"
#include "links.h"
#include "lock_file_look.h"
#include "memory.h"
#include "name.h"
#include "open_count.h"
#include "outsiders.h"
#include "setting.h"
#include "stranger.h"
#include "target.h"
#include "usage_list.h"
#include "usage_words.h"

struct subject {
    struct settings settings;
    char path[PATH_MAX];
    bool exists;
    struct stat status;
};

/* "name   text", one line whatever the text contains. */
static void say(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const char *name, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    char *line = words_in_line("", format, list);
    va_end(list);
    if (line) printf("%-9s %s", name, line);
    free(line);
}

/* ---- is it an image ----------------------------------------------------------------------------------------- */

/* The row of the table that the content shows; or NULL, and *error where it cannot be read. */
static const char *look_at_content(const struct subject *subject, int *error)
{
    *error = 0;
    int descriptor = open(subject->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (descriptor < 0) {
        *error = errno;
        return NULL;
    }
    const char *row = image_may_be_read(descriptor, &subject->status)
                          ? image_by_content(subject->path, descriptor, &subject->status, O_RDONLY, error)
                          : NULL;
    close(descriptor);
    return row;
}

static bool is_device(const struct subject *subject)
{
    return subject->exists && S_ISBLK(subject->status.st_mode);
}

/* The same for a block device that IMGLOCK_IMAGES does not name. */
static bool say_device(const struct subject *subject)
{
    const bool empty = block_device_is_empty(subject->status.st_rdev);
    say("image", empty ? "no: a drive without a medium" : "yes, for writing, whatever is on it: it is a block device");
    return !empty;
}

/* Says whether it is an image, and why. */
static bool say_image(const struct subject *subject)
{
    int error = 0;
    if (subject->exists && !image_possible(&subject->status)) {
        say("image", "no: it is neither a regular file nor a block device");
        return false;
    }
    int named = policy_names_image(&subject->settings, subject->path);
    if (!named && is_device(subject)) return say_device(subject);
    const char *by_name = image_by_extension(subject->path);
    const char *by_content = subject->exists && subject->settings.magic ? look_at_content(subject, &error) : NULL;
    if (named) {
        say("image", "%s: IMGLOCK_IMAGES=%s says so", named > 0 ? "yes" : "no", subject->settings.images);
        return named > 0;
    }
    if (by_content)
        say("image", "yes: its content is that of the format '%s'%s%s%s", by_content,
            by_name ? ", and its name that of '" : "", by_name ? by_name : "", by_name ? "'" : "");
    else if (by_name)
        say("image", "yes: its name is that of the format '%s'", by_name);
    else if (error)
        say("image", "no by its name; its content cannot be read: %s", strerror(error));
    else
        say("image", "no: neither its name%s is an image's; IMGLOCK_IMAGES=+%s makes it one",
            !subject->exists          ? " (there is no such file yet)"
            : subject->settings.magic ? " nor its content"
                                      : " (IMGLOCK_MAGIC=off: its content is not looked at)",
            subject->path);
    return by_content || by_name;
}

/* ---- the lock, and who has it ------------------------------------------------------------------------------- */

static void say_mode(const struct subject *subject)
{
    struct settings without = subject->settings;
    without.rules = NULL;
    struct policy_decision ruled = policy_decide(&subject->settings, subject->path, O_RDWR, subject->exists);
    struct policy_decision plain = policy_decide(&without, subject->path, O_RDWR, subject->exists);
    bool rule = ruled.locked != plain.locked || ruled.mode != plain.mode || ruled.insists != plain.insists;
    static const char *const names[] = {
        [MODE_AUTO] = "auto",     [MODE_SHARED] = "shared",           [MODE_EXCLUSIVE] = "exclusive",
        [MODE_NOLOCK] = "nolock", [MODE_FORCE_SHARE] = "force-share", [MODE_INACTIVE] = "inactive"};
    if (rule)
        say("mode", "%s, by IMGLOCK_RULES=%s", ruled.locked ? policy_mode_name(ruled.mode) : "nolock",
            subject->settings.rules);
    else
        say("mode", "%s%s", names[subject->settings.mode],
            subject->settings.mode == MODE_AUTO ? ": reading takes the lock shared, writing exclusively" : "");
}

static void say_users(const struct subject *subject)
{
    struct named_path named = {.path = string_keep(subject->path)};
    struct question question = {.settings = &subject->settings, .named = &named, .count = 1};
    struct usage_list list;
    usages_collect(&question, &list);
    for (size_t i = 0; i < list.count; i++) {
        const struct usage *usage = &list.usages[i];
        char who[128] = "by somebody who cannot be seen from here";
        if (usage->pid) snprintf(who, sizeof who, "%s (pid %d)", usage->command, usage->pid);
        char bytes[PATH_MAX];
        struct text has = text_in(bytes, sizeof bytes);
        usage_append_has(&has, usage);
        say("used", "%s, %s: %s%s%s", usage_mode_name(usage), usage_kind_name(usage->kind), who, has.length ? ": " : "",
            bytes);
    }
    if (!list.count) {
        enum open_count count = subject->exists ? open_count_ask(subject->path) : OPEN_BY_NOBODY;
        say("used", "%s",
            count == OPEN_BY_SOMEBODY ? "it is open by somebody who cannot be seen from here"
            : count == OPEN_BY_NOBODY ? "by nobody"
            : list.unseen             ? "by nobody who can be seen from here"
                                      : "by nobody");
    }
    usages_free(&list);
    free(named.path);
}

/* ---- what would happen -------------------------------------------------------------------------------------- */

/* An open that would be made. */
struct trial {
    const struct subject *subject;
    int flags;
    struct policy_decision decision;
    int lock_descriptor; /* of its lock file; -1: there is none */
    int image;           /* open for reading; -1: it is not there, or may not be read */
    bool counted;        /* result: the kernel's count was asked, since nothing else is in the way */
};

/* Who has announced on the image what does not go with such an open, and is none of those between whom the lock file
 * decides?  NULL: nobody.  *outside: he is outside imglock. */
static const char *find_marker(const struct trial *trial, bool *outside)
{
    const struct subject *subject = trial->subject;
    const int access = trial->flags & O_ACCMODE;
    struct stranger stranger;
    const struct stranger_question question = {.settings = &subject->settings,
                                               .path = subject->path,
                                               .device = subject->status.st_dev,
                                               .inode = subject->status.st_ino,
                                               .descriptor = trial->image,
                                               .mode = trial->decision.mode,
                                               .access = access,
                                               .lock_descriptor = trial->lock_descriptor};
    if (trial->image < 0 || !mark_is_possible(trial->image, subject->status.st_dev) ||
        !stranger_is_there(&question, &stranger))
        return NULL;
    *outside = stranger.outside;
    return stranger.outside ? "somebody outside imglock has locked it" : "it is locked by another name or elsewhere";
}

/* Has somebody outside imglock a file open for writing?  NULL: nobody, or it cannot be told. */
static const char *find_outsider(const struct trial *trial)
{
    const struct stat *status = &trial->subject->status;
    const struct outsiders_question question = {.device = status->st_dev,
                                                .inode = status->st_ino,
                                                .path = trial->subject->path,
                                                .lock_descriptor = trial->lock_descriptor,
                                                .skipped = trial->image,
                                                .ancestors = trial->subject->settings.family};
    struct outsider outsider;
    if (trial->image < 0 || !S_ISREG(status->st_mode) || trial->decision.shares ||
        count_ask(trial->image, F_RDLCK, status->st_dev) != COUNT_SOMEBODY ||
        outsiders_find(&question, &outsider) != OUTSIDERS_FOUND)
        return NULL;
    return "somebody outside imglock has it open for writing";
}

static bool is_nobodys_own(const struct lock_name *name)
{
    (void)name;
    return false;
}

/* Has somebody the storage of a block device?  NULL: nobody. */
static const char *find_use(const struct trial *trial, bool *outside)
{
    struct device_taken taken;
    const struct device_question question = {.settings = &trial->subject->settings,
                                             .device = trial->subject->status.st_rdev,
                                             .descriptor = trial->image,
                                             .mode = trial->decision.mode,
                                             .writes = trial->flags != O_RDONLY &&
                                                       trial->subject->settings.outsiders != OUTSIDERS_IGNORE,
                                             .is_own = is_nobodys_own};
    if (!is_device(trial->subject)) return NULL;
    switch (device_ask(&question, &taken)) {
    case DEVICE_TAKEN:
        *outside = taken.lock_descriptor < 0;
        if (*outside) return strncmp(taken.use, "mounted", 7) == 0 ? "it is mounted" : "it is in use by the kernel";
        close(taken.lock_descriptor);
        return "the lock of its whole disk, or of a partition, is held";
    case DEVICE_UNKNOWN:
        return taken.problem.what;
    default:
        return NULL;
    }
}

/* Why such an open does not get its lock; NULL: it does.  *outside: because of somebody outside imglock. */
static const char *find_reason(struct trial *trial, bool *outside)
{
    const char *why;
    *outside = false;
    if (trial->lock_descriptor >= 0 && lock_in_the_way(trial->lock_descriptor, trial->decision.mode) > 0)
        return "the lock is held";
    if (trial->lock_descriptor >= 0 && trial->flags != O_RDONLY &&
        blocker_find(trial->lock_descriptor, 1u << OPERATION_WRITE))
        return "writing is blocked";
    if ((why = find_use(trial, outside)) || (why = find_marker(trial, outside))) return why;
    *outside = trial->subject->settings.outsiders != OUTSIDERS_IGNORE;
    trial->counted = *outside;
    return *outside ? find_outsider(trial) : NULL;
}

static void say_reason(const struct trial *trial, const char *name, const char *why, bool outside)
{
    const struct settings *settings = &trial->subject->settings;
    const char *wanted = trial->decision.mode == LOCK_EXCLUSIVE ? "an exclusive" : "a shared";
    if (!why || (outside && settings->outsiders == OUTSIDERS_IGNORE)) return say(name, "takes %s lock", wanted);
    if (outside && (settings->outsiders == OUTSIDERS_WARN || (trial->counted && policy_warns_of_outsiders(settings))))
        return say(name, "takes %s lock, with a line (IMGLOCK_%s=warn): %s", wanted,
                   settings->outsiders == OUTSIDERS_WARN ? "OUTSIDERS" : "ON_CONFLICT", why);
    if (settings->on_conflict == CONFLICT_WARN)
        return say(name, "goes through without a lock, with a line (IMGLOCK_ON_CONFLICT=warn)");
    if (policy_may_degrade(settings, trial->flags)) return say(name, "becomes an open for reading: %s", why);
    if (settings->wait_ns == 0) return say(name, "refused at once: %s", why);
    if (settings->wait_ns == WAIT_FOREVER) return say(name, "waits until it gets %s lock: %s", wanted, why);
    say(name, "waits up to %g s for %s lock: %s", (double)settings->wait_ns / 1e9, wanted, why);
}

static void say_outcome(const struct subject *subject, const char *name, int flags)
{
    struct lock_name lock;
    struct lock_problem problem = {0};
    bool outside;
    struct trial trial = {.subject = subject, .flags = flags, .image = -1};
    trial.decision = policy_decide(&subject->settings, subject->path, flags, subject->exists);
    const bool unasked = is_device(subject) && policy_names_image(&subject->settings, subject->path) <= 0;
    if (!trial.decision.locked || (unasked && flags == O_RDONLY)) return say(name, "goes through without a lock");
    if (trial.decision.refusal) return say(name, "refused: %s", trial.decision.refusal);
    if (trial.decision.mode < LOCK_SHARED)
        return say(name, "goes through without a lock, on record as %s", policy_mode_name(trial.decision.mode));
    lock_name_of_image(subject->path, subject->exists ? &subject->status : NULL, &lock);
    trial.lock_descriptor = lock_file_look(subject->settings.directory, &lock, &problem);
    if (trial.lock_descriptor < 0 && trial.lock_descriptor != -ENOENT)
        return say(name, "%s: %s%s%s", subject->settings.allow_on_error ? "goes through without a lock" : "refused",
                   problem.what, problem.error ? ": " : "", problem.error ? strerror(problem.error) : "");
    if (subject->exists) trial.image = open(subject->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    const char *why = find_reason(&trial, &outside);
    say_reason(&trial, name, why, outside);
    if (trial.lock_descriptor >= 0) close(trial.lock_descriptor);
    if (trial.image >= 0) close(trial.image);
}

static void say_command(char **command)
{
    static struct target target;
    char real[PATH_MAX];
    if (target_look(links_see_through(command[0], real), command, &target) != 0)
        say("command", "refused: %s%s%s", target.reason, target.next_step ? "; " : "",
            target.next_step ? target.next_step : "");
    else if (target.go)
        say("command", "%s: it is written in Go, so its own opens take no lock", target.chain);
    else
        say("command", "%s: the library can be preloaded into it", target.chain);
}

static int explain_main(int argc, char **argv)
{
    static struct subject subject;
    struct lock_name lock;
    char path[PATH_MAX];
    int status;
    if (options_next(&explain_subcommand, argc, argv, &status) == OPTIONS_OVER) return status;
    if (optind == argc) return complain_usage("explain: no image given");
    char *image = argv[optind++];
    if (optind < argc && strcmp(argv[optind], "--") == 0)
        optind++;
    else if (optind < argc)
        return complain_usage("explain: it takes one image, and a command behind --");
    if (!settings_read(&subject.settings)) return STATUS_FAILED;
    int error = name_real_path(image, subject.path, &subject.exists, &subject.status);
    if (error) return complain("%s: %s", word_shown(image), strerror(error));
    say("path", "%s%s", subject.path, subject.exists ? "" : " (there is no such file yet)");
    if (say_image(&subject)) {
        say_mode(&subject);
        lock_name_of_image(subject.path, subject.exists ? &subject.status : NULL, &lock);
        lock_path(subject.settings.directory, &lock, path);
        say("lock", "%s", path);
        say_users(&subject);
        say_outcome(&subject, "reading", O_RDONLY);
        say_outcome(&subject, "writing", O_RDWR);
    }
    if (optind < argc) say_command(argv + optind);
    return finish_output(EXIT_SUCCESS);
}

const struct subcommand explain_subcommand = {
    .name = "explain",
    .synopsis = "<image> [-- <command> [<argument>...]]",
    .summary = "Say what imglock makes of an image, and what would happen now",
    .notes = "It opens nothing for writing.  The settings are those of the environment.",
    .operands = COMPLETES_FILE,
    .command = true,
    .separated = true,
    .main = explain_main,
};
