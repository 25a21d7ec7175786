// link: -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1
#include "cli_open.c"
