/* symbols.c: prints shim/wrap/symbols.def for the tests, a row a line: wrapped, composed, called, left or elsewhere;
 * name, family or library, and since which glibc; with blanks between. */
#include <stdio.h>

int main(void)
{
#define WRAPPED(name, family, since) puts("wrapped " #name " " #family " " #since);
#define COMPOSED(name, family, since) puts("composed " #name " " #family " " #since);
#define CALLED(name, since) puts("called " #name " - " #since);
#define LEFT(name, since, reason) puts("left " #name " - " #since);
#define ELSEWHERE(name, library) puts("elsewhere " #name " " #library);
#include "../../shim/wrap/symbols.def"
    return 0;
}
