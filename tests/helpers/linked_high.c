// link: -shared -fPIC -Wl,-Ttext-segment=0x7ffd00000000
/* linked_high.c: a library to preload that is linked for a high address.  A second copy of it has to be mapped lower,
 * so that what its addresses have to be moved by is negative. */
int linked_high(void);

int linked_high(void)
{
    return 0;
}
