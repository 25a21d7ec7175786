/* vfork.c: vfork, which no function in C can wrap. */
#include <unistd.h>

#include "../track_process.h"
#include "real.h"

/* A vfork child runs on in its parent's stack frame, so no function of ours may return to it: vfork is counted, and
 * goes on in libc's with the stack as it found it.  Between the two another thread may open an image that counts as
 * ours alone and is the child's, too: the child tells once more, when it calls exec. */
__attribute__((visibility("hidden"))) void *process_before_vfork(void);
__attribute__((used)) void *process_before_vfork(void)
{
    track_note_child();
    return (void *)REAL(vfork);
}

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl vfork, __vfork\n"
        ".type vfork, @function\n"
        ".set __vfork, vfork\n"
        "vfork:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    sub $8, %rsp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    call process_before_vfork\n"
        "    add $8, %rsp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    jmp *%rax\n"
        "    .cfi_endproc\n"
        ".size vfork, . - vfork\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl vfork, __vfork\n"
        ".type vfork, @function\n"
        ".set __vfork, vfork\n"
        "vfork:\n"
        "    .cfi_startproc\n"
        "    hint #34\n" /* bti c */
        "    stp x29, x30, [sp, #-16]!\n"
        "    .cfi_def_cfa_offset 16\n"
        "    .cfi_offset x29, -16\n"
        "    .cfi_offset x30, -8\n"
        "    bl process_before_vfork\n"
        "    ldp x29, x30, [sp], #16\n"
        "    .cfi_restore x29\n"
        "    .cfi_restore x30\n"
        "    .cfi_def_cfa_offset 0\n"
        "    mov x16, x0\n"
        "    br x16\n"
        "    .cfi_endproc\n"
        ".size vfork, . - vfork\n");
#elif defined(__s390x__)
__asm__(".text\n"
        ".globl vfork, __vfork\n"
        ".type vfork, @function\n"
        ".set __vfork, vfork\n"
        "vfork:\n"
        "    .cfi_startproc\n"
        "    stmg %r14, %r15, 112(%r15)\n"
        "    .cfi_offset 14, -48\n"
        "    aghi %r15, -160\n"
        "    .cfi_adjust_cfa_offset 160\n"
        "    brasl %r14, process_before_vfork\n"
        "    lgr %r1, %r2\n"
        "    aghi %r15, 160\n"
        "    .cfi_adjust_cfa_offset -160\n"
        "    lg %r14, 112(%r15)\n"
        "    .cfi_restore 14\n"
        "    br %r1\n"
        "    .cfi_endproc\n"
        ".size vfork, . - vfork\n");
#elif defined(__i386__)
__asm__(".text\n"
        ".globl vfork, __vfork\n"
        ".type vfork, @function\n"
        ".set __vfork, vfork\n"
        "vfork:\n"
        "    .cfi_startproc\n"
        "    sub $12, %esp\n"
        "    .cfi_adjust_cfa_offset 12\n"
        "    call process_before_vfork\n"
        "    add $12, %esp\n"
        "    .cfi_adjust_cfa_offset -12\n"
        "    jmp *%eax\n"
        "    .cfi_endproc\n"
        ".size vfork, . - vfork\n");
#else
#error "imglock counts vfork in assembler; add this machine's here"
#endif
