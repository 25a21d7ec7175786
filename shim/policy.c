#include "policy.h"

#include <fcntl.h>

#include "arguments.h"
#include "text.h"

/* The mode that IMGLOCK_RULES gives this path, else IMGLOCK_MODE. */
static enum open_mode mode_for(const struct settings *settings, const char *real_path)
{
    struct rule rule;
    for (const char *at = settings->rules; settings_next_rule(&at, &rule);)
        if (text_glob(rule.glob, rule.glob_end, real_path)) return rule.mode;
    return settings->mode;
}

bool policy_ignores(const struct settings *settings, const char *real_path)
{
    return mode_for(settings, real_path) == MODE_NOLOCK;
}

struct policy_decision policy_decide(const struct settings *settings, const char *real_path, int flags, bool existing)
{
    bool reads = (flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC);
    switch (mode_for(settings, real_path)) {
    case MODE_SHARED:
        return (struct policy_decision){.locked = true, .mode = LOCK_SHARED, .shares = true};
    case MODE_EXCLUSIVE:
        return (struct policy_decision){.locked = true, .mode = LOCK_EXCLUSIVE, .insists = true};
    case MODE_NOLOCK:
        return (struct policy_decision){0};
    case MODE_FORCE_SHARE:
        return (struct policy_decision){.locked = true,
                                        .mode = LOCK_FORCE_SHARE,
                                        .refusal = reads ? NULL : "mode force-share is for reading beside a writer"};
    case MODE_INACTIVE:
        return (struct policy_decision){
            .locked = true,
            .mode = LOCK_INACTIVE,
            .refusal = flags & O_TRUNC && existing ? "this process is inactive and holds no lock" : NULL};
    case MODE_AUTO:
        break;
    }
    if (!reads) return (struct policy_decision){.locked = true, .mode = LOCK_EXCLUSIVE};
    bool beside = settings->sharing == SHARING_ALL || (settings->sharing == SHARING_SOME && arguments_share(real_path));
    return (struct policy_decision){.locked = true, .mode = beside ? LOCK_FORCE_SHARE : LOCK_SHARED};
}

bool policy_may_degrade(const struct settings *settings, int flags)
{
    return settings->on_conflict == CONFLICT_READ_ONLY && (flags & O_ACCMODE) == O_RDWR &&
           !(flags & (O_TRUNC | O_APPEND | O_EXCL));
}

bool policy_warns_of_outsiders(const struct settings *settings)
{
    return settings->outsiders == OUTSIDERS_WARN || settings->on_conflict == CONFLICT_WARN;
}

int policy_names_image(const struct settings *settings, const char *real_path)
{
    int answer = 0;
    struct image_name name;
    for (const char *at = settings->images; settings_next_image_name(&at, &name);)
        if (text_glob(name.glob, name.glob_end, real_path)) answer = name.is_image ? 1 : -1;
    return answer;
}

const char *policy_mode_name(enum lock_mode mode)
{
    static const char *const names[] = {[LOCK_NONE] = "none",
                                        [LOCK_FORCE_SHARE] = "force-share",
                                        [LOCK_INACTIVE] = "inactive",
                                        [LOCK_SHARED] = "shared",
                                        [LOCK_EXCLUSIVE] = "exclusive"};
    return names[mode];
}
