/* probe.c: probe LOCK_FILE [BYTE|beside]: what others see of the lock, of a byte, or of the range in which relatives
 * lock beside a holder: free, shared or exclusive. */
#include "check.h"

int main(int argc, char **argv)
{
    if (argc < 2) return 99;
    if (argc == 2)
        puts(lock_state(argv[1]));
    else if (strcmp(argv[2], "beside") == 0)
        puts(lock_state_at(argv[1], RELATIVES_START, RELATIVES_LENGTH));
    else
        puts(lock_state_at(argv[1], atoi(argv[2]), 1));
    return 0;
}
