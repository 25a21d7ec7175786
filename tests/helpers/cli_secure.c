/* cli_secure.c: prints whether the kernel set AT_SECURE for it, which makes the dynamic loader ignore LD_PRELOAD. */
#include <stdio.h>
#include <sys/auxv.h>

int main(void)
{
    return puts(getauxval(AT_SECURE) ? "secure" : "plain") < 0;
}
