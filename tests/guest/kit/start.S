/* Entry from the domain builder, entry points for traps and callbacks, and the ways back (elfnote.h, xen-x86_64.h). */
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

    note 1, .quad _start
    note 3, .quad VIRT_BASE
    note 5, .asciz "xen-3.0"
    note 6, .asciz "xenkit"
    note 7, .asciz "1"
    note 8, .asciz "generic"
    note 9, .asciz "yes"

    .section .text.start, "ax"
    .globl _start
_start:
    cld
    mov %rsp, boot_rsp
    mov %rsi, boot_rsi
    pushf
    pop boot_rflags
    lea boot_stack_top, %rsp
    mov %rsi, %rdi
    xor %ebp, %ebp
    call kit_main
    ud2

    .text
/* A stub a vector, 16 bytes each, so that a C table can compute the addresses. 256.. are callbacks (xenkit.h). */
    .balign 16
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 262
    .balign 16
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    push %rax
    push %r8
    push %r9
    push %r10
    push %rdx
    push %rsi
    push %rdi
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    mov %rsp, %rbx
    and $-16, %rsp
    pushf
    andq $~0x100, (%rsp)  /* a trap inside single-stepped code must not be single-stepped */
    popf
    cld
    call trap_entry
    ud2

/* void resume(const struct cpu *cpu, u64 flags): load every register by HYPERVISOR_iret; never returns. */
    .globl resume
resume:
    sub $72, %rsp
    mov 0(%rdi), %rax
    mov %rax, 0(%rsp)
    mov 88(%rdi), %rax     /* r11 */
    mov %rax, 8(%rsp)
    mov 8(%rdi), %rax      /* rcx */
    mov %rax, 16(%rsp)
    mov %rsi, 24(%rsp)
    mov 128(%rdi), %rax    /* rip */
    mov %rax, 32(%rsp)
    mov 136(%rdi), %rax    /* cs */
    mov %rax, 40(%rsp)
    mov 144(%rdi), %rax    /* rflags */
    mov %rax, 48(%rsp)
    mov 32(%rdi), %rax     /* rsp */
    mov %rax, 56(%rsp)
    mov 152(%rdi), %rax    /* ss */
    mov %rax, 64(%rsp)
    mov 16(%rdi), %rdx
    mov 24(%rdi), %rbx
    mov 40(%rdi), %rbp
    mov 48(%rdi), %rsi
    mov 64(%rdi), %r8
    mov 72(%rdi), %r9
    mov 80(%rdi), %r10
    mov 96(%rdi), %r12
    mov 104(%rdi), %r13
    mov 112(%rdi), %r14
    mov 120(%rdi), %r15
    mov 56(%rdi), %rdi
    mov $23, %eax
    syscall
    ud2

/* int jump_save(struct jump *); void jump_to(struct jump *): setjmp and longjmp with 1. */
    .globl jump_save
jump_save:
    mov (%rsp), %rax
    mov %rax, 0(%rdi)
    lea 8(%rsp), %rax
    mov %rax, 8(%rdi)
    mov %rbx, 16(%rdi)
    mov %rbp, 24(%rdi)
    mov %r12, 32(%rdi)
    mov %r13, 40(%rdi)
    mov %r14, 48(%rdi)
    mov %r15, 56(%rdi)
    xor %eax, %eax
    ret

    .globl jump_to
jump_to:
    mov 8(%rdi), %rsp
    mov 16(%rdi), %rbx
    mov 24(%rdi), %rbp
    mov 32(%rdi), %r12
    mov 40(%rdi), %r13
    mov 48(%rdi), %r14
    mov 56(%rdi), %r15
    pushq $2
    popf
    mov $1, %eax
    jmp *0(%rdi)

/* s64 hypercall(u64 nr, a, b, c, d, e, f): seventh argument on the stack. */
    .globl hypercall
hypercall:
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    mov 8(%rsp), %r9
    syscall
    ret

    .bss
    .balign 4096
    .space 32768
    .globl boot_stack_top
boot_stack_top:
    .globl trap_stack
trap_stack:
    .space 16384
    .globl trap_stack_top
trap_stack_top:
    .globl boot_rsp
boot_rsp: .quad 0
    .globl boot_rsi
boot_rsi: .quad 0
    .globl boot_rflags
boot_rflags: .quad 0
    .section .note.GNU-stack, "", @progbits
