/* random.h: numbers that a seed gives again.  The first state must not be 0. */
#ifndef RANDOM_H
#define RANDOM_H

static unsigned long random_state;

static unsigned random_below(unsigned limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 20) % limit;
}

#endif
