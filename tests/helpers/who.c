// link: -Ishim build/shim/who.o build/shim/text.o
/* who.c: who PID: what who_append says of the process. */
#include <stdio.h>
#include <stdlib.h>

#include "who.h"

int main(int argc, char **argv)
{
    char bytes[2048];
    struct text text = text_in(bytes, sizeof bytes);
    if (argc != 2) return 2;
    who_append(&text, atoi(argv[1]));
    puts(bytes);
    return 0;
}
