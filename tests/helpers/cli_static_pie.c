// link: -static-pie -fPIE
#include "cli_open.c"
