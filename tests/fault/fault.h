/* fault.h: which place of the library fails: what tests/helpers/fault_places.c tells tests/fault/fault.c. */
#ifndef FAULT_H
#define FAULT_H

#include <stdbool.h>

enum { FAULT_PLACES = 4096 };

struct fault_place {
    unsigned long place;
    long number;         /* of the system call */
    long times;          /* that it was made */
    unsigned long at[2]; /* offsets in the library of the innermost calls, for addr2line */
    bool quiet;          /* looks where messages go */
    bool reopens;        /* opens what the program has open, or is about to: it may get that error itself */
    bool looks_up; /* asks whether there is a name; whatever is wrong with it, the program's own call meets, too */
    bool unlocks;  /* gives back locks, which takes no memory here */
};

struct fault_plan {
    int records; /* places are entered as they are seen */
    int count;
    const struct fault_place *chosen; /* fails, or NULL: none does */
    long turn;                        /* the so many-th time */
    long passed;
    long error;
    int failed;
    struct fault_place places[FAULT_PLACES];
};

#endif
