/* markers_question.h: what is asked of the marks on an image (markers.h), and which locks are in its way. */
#ifndef IMGLOCK_MARKERS_QUESTION_H
#define IMGLOCK_MARKERS_QUESTION_H

#include <stdbool.h>

#include "fdinfo.h"
#include "mark.h"

struct markers_question {
    int descriptor; /* open on the image */
    struct mark_range ranges[MARK_RANGES];
    int count;           /* of them */
    int lock_descriptor; /* this process's on the lock file of the image; -1: none */
    bool reads;          /* a plain read lock of the whole file is in nobody's way */
    bool ancestors;      /* IMGLOCK_FAMILY=on */
    bool by_process;     /* what is asked for is a lock by F_SETLK, which those of the descriptor itself exclude, too */
    bool by_marks_alone; /* what is not imglock's mark is a stranger's, whoever has it; even of this process */
    bool all_marks;      /* and what is, is in nobody's way, whoever has it */
    bool recorded;       /* who has but a record in the lock file is no stranger either */
};

/* The question of an open. */
struct markers_question markers_question_of(int descriptor, enum lock_mode mode, int access);

/* Is a lock in the way of what is asked, whoever has it? */
bool markers_question_excludes(const struct markers_question *question, const struct fdinfo_lock *lock);

#endif
