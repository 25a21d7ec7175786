/* cpuid.c: SHA-1 without a look at the processor.
 *
 * libcrypto.a asks for the processor's abilities in a constructor.  In a virtual machine each CPUID instruction is a
 * trap of some 6 us, a twentieth of an exec, and what they gain is nanoseconds on the 60 bytes of a path.  The
 * archive's own member is left out when its symbols are here; all abilities unknown, SHA-1 takes the code that runs
 * everywhere.  On ARM it may ask by running instructions that end in SIGILL.  Elsewhere, and with a shared libcrypto,
 * this file is empty. */
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
extern const uint32_t OPENSSL_ia32cap_P[4];
extern void OPENSSL_cpuid_setup(void);

const uint32_t OPENSSL_ia32cap_P[4] = {0};

void OPENSSL_cpuid_setup(void)
{
}
#elif defined(__aarch64__)
extern unsigned OPENSSL_armcap_P;
extern void OPENSSL_cpuid_setup(void);

unsigned OPENSSL_armcap_P = 0;

void OPENSSL_cpuid_setup(void)
{
}
#endif
