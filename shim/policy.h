/* policy.h: what the settings say about one open. */
#ifndef IMGLOCK_POLICY_H
#define IMGLOCK_POLICY_H

#include "settings.h"

/* What an open of an image needs, and why it may not be. */
struct policy_decision {
    bool locked;         /* false: nolock, none of imglock's business */
    enum lock_mode mode; /* to be taken, or, below LOCK_SHARED, to be recorded */
    bool insists;        /* on that lock: a shared one will not do, not even for reading alone */
    bool shares;         /* mode shared: several who write are meant to */
    const char *refusal; /* the mode does not allow this open at all; or NULL */
};

/* The decision for an image at real_path opened with these open(2) flags.  existing: it is there already. */
struct policy_decision policy_decide(const struct settings *settings, const char *real_path, int flags, bool existing);

/* Does IMGLOCK_MODE, or a rule, leave this path alone altogether? */
bool policy_ignores(const struct settings *settings, const char *real_path);

/* Would this open, when it cannot have its lock, do as one for reading (IMGLOCK_ON_CONFLICT=read-only)? */
bool policy_may_degrade(const struct settings *settings, int flags);

/* Does somebody outside imglock, who has the image, keep nobody out, after a line? */
bool policy_warns_of_outsiders(const struct settings *settings);

/* What IMGLOCK_IMAGES says of this path: 1 an image, -1 none, 0 nothing. */
int policy_names_image(const struct settings *settings, const char *real_path);

/* "shared", "exclusive": a lock mode's name in messages and records. */
const char *policy_mode_name(enum lock_mode mode);

#endif
