/*
 * Kernels of a few instructions, for what needs no Linux: -DWORDS="..." is printed -DTIMES=number times, then -DEND=code is run.
 * Notes as in elfnote.h, calls as in xen-x86_64.h, the numbers as in xen.h and sched.h.
 */
#define VIRT_BASE 0xffffffff80000000

    .macro note type, value:vararg
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 4, 2f - 1f, \type
    .asciz "Xen"
1:  \value
2:  .balign 4
    .popsection
    .endm

#ifndef NO_NOTES
    note 1, .quad _start
    note 3, .quad VIRT_BASE
    note 5, .asciz "xen-3.0"
    note 6, .asciz "tiny"
    note 8, .asciz "generic"
#endif

    .macro hypercall number, first, second, third=0
    mov $\number, %eax
    mov $\first, %rdi
    mov $\second, %rsi
    mov $\third, %rdx
    syscall
    .endm

    .macro shutdown reason
    movl $\reason, shutdown_reason
    hypercall 29, 2, shutdown_reason
    .endm

    .text
    .globl _start
_start:
    cld
    lea stack_top, %rsp
    hypercall 18, 0, words_end-words, words
    END
    ud2

/* Ends. */
    .globl poweroff, reboot, crash, wait, spin, triple_fault, garbage
poweroff:
    shutdown 0
reboot:
    shutdown 1
crash:
    shutdown 3
wait: /* no event will ever come: the timer's tick is stopped */
    hypercall 24, 7, 0
    hypercall 29, 1, 0
    jmp wait
spin: /* event delivery is masked from the start */
    jmp spin
triple_fault: /* no trap table, no stack, no way to tell */
    xor %esp, %esp
    ud2
garbage: /* its own stack, its tables' addresses, at last its own code */
    mov $0xdeadbeefdeadbeef, %rax
    mov %rsp, %rdi
1:  push %rax
    mov %rax, (%rdi)
    add $8, %rdi
    jmp 1b

    .section .rodata
words:
    .rept TIMES
    .ascii WORDS
    .endr
words_end:

    .data
    .balign 8
shutdown_reason:
    .long 0
    .space 4096
stack_top:
