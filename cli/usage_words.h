/* usage_words.h: a usage in words: how it is locked, what kind it is, and what it has of the image. */
#ifndef IMGLOCK_USAGE_WORDS_H
#define IMGLOCK_USAGE_WORDS_H

#include "text.h"
#include "usage.h"

/* The mode's name; "unlocked" for an open that imglock has nothing to do with. */
const char *usage_mode_name(const struct usage *usage);

const char *usage_kind_name(enum usage_kind kind);

/* What it has of the image if not its lock, in words: "QEMU's own lock: writes, shares nothing"; or nothing. */
void usage_append_has(struct text *text, const struct usage *usage);

#endif
