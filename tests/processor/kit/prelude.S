/* Macros for the tests. */
    .macro HYPERCALL number
    mov $\number, %eax
    syscall
    .endm

    .macro HOST number          /* calls function NUMBER of the test, in Python; its result in rax */
    mov $\number, %edi
    mov $63, %eax
    syscall
    .endm

    .macro HIRET                /* returns from a handler: the stack is as the hypervisor left it (and the error code gone) */
    pop %rcx
    pop %r11
    pushq $0
    push %rcx
    push %r11
    push %rax
    mov $23, %eax
    syscall
    .endm

    .macro MAP address, entry, flags /* update_va_mapping */
    mov $\address, %rdi
    mov $\entry, %rsi
    mov $\flags, %edx
    HYPERCALL 14
    .endm

    .macro MMUEXT operation     /* label of a struct mmuext_op */
    mov $\operation, %rdi
    mov $1, %esi
    xor %edx, %edx
    mov $0x7ff0, %r10d
    HYPERCALL 26
    .endm

    .macro MMU_UPDATE request, count=1
    mov $\request, %rdi
    mov $\count, %esi
    xor %edx, %edx
    mov $0x7ff0, %r10d
    HYPERCALL 1
    .endm

    .equ P, 1
    .equ W, 2
    .equ U, 4
    .equ AD, 0x60
    .equ NX, 1 << 63
    .equ RW, P | W | AD | NX
    .equ RO, P | AD | NX
    .equ RWX, P | W | AD
    .equ RX, P | AD
