// link: -static-pie
#include "cli_open.c"
