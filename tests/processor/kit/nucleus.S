/* The kernel around a test: hands its trap table over, goes where the host says, and tells the host of every trap.
 *
 * It is re-entered by nobody: every entry masks events, and `enter` is the only way out. */
    .section .nucleus, "ax"
    .globl nucleus_start
nucleus_start:
    mov $trap_table, %rdi
    xor %eax, %eax              /* set_trap_table */
    syscall
    mov handler_event(%rip), %rdi
    mov handler_failsafe(%rip), %rsi
    xor %edx, %edx
    mov $4, %eax                /* set_callbacks */
    syscall
    xor %edi, %edi
    mov $callback_syscall, %rsi
    mov $30, %eax               /* callback_op: register */
    syscall
    xor %edi, %edi
    mov $callback_syscall32, %rsi
    mov $30, %eax
    syscall
    mov $0xe02b, %edi
    mov $TRAP_STACK + 0x4000, %rsi
    mov $3, %eax                /* stack_switch */
    syscall
    mov $mmuext_user, %rdi
    mov $1, %esi
    xor %edx, %edx
    mov $0x7ff0, %r10d
    mov $26, %eax               /* mmuext_op: NEW_USER_BASEPTR */
    syscall

enter:
    mov $enter_registers, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx                    /* rsp is at the frame of HYPERVISOR_iret now */
    mov $23, %eax
    syscall
    ud2

    .balign 16
trap_stubs:
    .set vector, 0
    .rept 260                   /* 256 event, 257 failsafe, 258 syscall, 259 syscall32 */
    .balign 16
    pushq $vector
    jmp trap
    .set vector, vector + 1
    .endr

trap:
    push %rax
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    mov $62, %eax               /* the host takes the trap and fills enter_registers and enter_frame */
    syscall
    jmp enter

    .data
    .balign 16
    .globl enter_registers
enter_registers: .skip 12 * 8
    .globl enter_frame
enter_frame: .skip 9 * 8
callback_syscall:
    .short 2, 1
    .long 0
    .globl handler_syscall
handler_syscall: .quad 0
callback_syscall32:
    .short 7, 1
    .long 0
    .globl handler_syscall32
handler_syscall32: .quad 0
mmuext_user:
    .long 15, 0
    .quad USER_L4_MFN, 0
    .globl handler_event
handler_event: .quad 0
    .globl handler_failsafe
handler_failsafe: .quad 0
    .globl trap_table
trap_table: .skip 257 * 16
