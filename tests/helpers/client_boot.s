# client_boot.s: a boot sector for any PC; see boot_sector in clients.bash.  16-bit code, GNU as.
        .code16
        .globl _start
_start: cli
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw $0x7c00, %sp
        sti
        cld
        movw $0x0301, %ax               # int 13h: write one sector, of the drive in %dl that we came from,
        movw $0x0002, %cx               # cylinder 0, sector 2
        movb $0, %dh                    # head 0
        movw $line, %bx
        int $0x13
        jc failed
        movw $0x0201, %ax               # and read it back, for which DOSBox writes out what it had kept
        movw $0x8000, %bx
        int $0x13
        movw $good, %si
        jnc say
failed: movw $bad, %si
say:    lodsb
        testb %al, %al
        jz end
        outb %al, $0xe9
        movw $0x3f8, %dx
        outb %al, %dx
        jmp say
end:
.if STAY
stay:   hlt
        jmp stay
.endif
        movw $0x604, %dx                # QEMU's ACPI: off
        movw $0x2000, %ax
        outw %ax, %dx
        movw $0x8900, %dx               # Bochs: off
        movw $off, %si
        movw $8, %cx
        rep outsb
stop:   cli
        hlt
        jmp stop
good:   .asciz "the guest wrote its line\r\n"
bad:    .asciz "the guest could not write\r\n"
off:    .ascii "Shutdown"
line:   .ascii "a line from the guest\n"
        .org 510
        .word 0xaa55
