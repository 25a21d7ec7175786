/* cli_go.c: a program with the note that Go's linker writes. */
#include "cli_open.c"

__asm__(".section .note.go.buildid,\"a\",@note\n"
        ".balign 4\n"
        ".long 4, 8, 4\n"
        ".ascii \"Go\\0\\0\"\n"
        ".ascii \"buildid0\"\n"
        ".text\n");
