/* probe.c: probe LOCKFILE [BYTE]: says free, shared or exclusive, as another process sees the two bytes at BYTE (0). */
#include "check.h"

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    puts(lock_state_at(argv[1], argc > 2 ? atoi(argv[2]) : 0));
    return 0;
}
