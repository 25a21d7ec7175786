// link: -static
#include "cli_open.c"
