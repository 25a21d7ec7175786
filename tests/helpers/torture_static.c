// link: -static
/* torture_static.c: torture_outside.c as a static program, which no library gets into. */
#include "torture_outside.c"
