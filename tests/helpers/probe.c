/* probe.c: probe LOCKFILE [BYTE]: says free, shared or exclusive, as another process sees the two bytes at BYTE (0). */
#include "check.h"

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    puts(argc > 2 ? lock_state_at(argv[1], RELATIVES_START, RELATIVES_LENGTH) : lock_state(argv[1]));
    return 0;
}
