/* settings.c: prints shim/settings.def, a row a line, for the tests and for what makes README's table: name, words or
 * nothing, values, meaning, what a message says; with tabs between. */
#include <errno.h>
#include <stdio.h>

int main(void)
{
    static const char *const rows[][5] = {
/* The words' values are of no use here. */
#define FIRST(word, value) word
#define NEXT(word, value) " " word
#define LAST(word, value) " " word
#define WORD(name, field, words, meaning) {"IMGLOCK_" #name, words, "", meaning, ""},
#define VALUE(name, parse, takes, values, meaning) {"IMGLOCK_" #name, "", values, meaning, takes},
#include "../../shim/settings.def"
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        printf("%s\t%s\t%s\t%s\t%s\n", rows[i][0], rows[i][1], rows[i][2], rows[i][3], rows[i][4]);
    return 0;
}
