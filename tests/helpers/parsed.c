// link: build/shim/settings.o build/shim/arguments.o build/shim/text.o
/* parsed.c: prints what the environment's settings mean, of those that take a word: name and word. */
#include <errno.h>
#include <stdio.h>

#include "../../shim/settings.h"

int main(void)
{
    const struct settings *settings = settings_get();
    const char *name = "";
#define FIRST(word, value) \
    if (number == (int)(value)) name = word;
#define NEXT FIRST
#define LAST FIRST
#define WORD(label, field, words, meaning)  \
    {                                       \
        int number = (int)settings->field;  \
        words printf(#label " %s\n", name); \
    }
#include "../../shim/settings.def"
    return 0;
}
