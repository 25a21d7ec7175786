/* symbols.c: prints shim/wrap/symbols.def for the tests, a row a line: wrapped, composed, called or left; name, family,
 * and since which glibc; with blanks between. */
#include <stdio.h>

int main(void)
{
#define WRAPPED(name, family, since) puts("wrapped " #name " " #family " " #since);
#define COMPOSED(name, family, since) puts("composed " #name " " #family " " #since);
#define CALLED(name, since) puts("called " #name " - " #since);
#define LEFT(name, since, reason) puts("left " #name " - " #since);
#include "../../shim/wrap/symbols.def"
    return 0;
}
