// link: -Wl,--dynamic-linker=/opt/other/ld-linux-x86-64.so.2
#include "cli_open.c"
