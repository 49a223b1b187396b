/* Floating-point exceptions, and that nobody else's state shows or ours gets lost. */
#define _GNU_SOURCE
#include <fenv.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "faults.h"

/* x87 tells at the next waiting instruction; the exception's own bits are unmasked only. */
#define X87(name, unmasked, text)                                                                                      \
    CASE(name)                                                                                                         \
    {                                                                                                                  \
        uint16_t control = 0x037f & ~(unmasked);                                                                       \
        uint32_t zero = 0;                                                                                             \
        float huge = 3e38f, tiny = 1e-38f, minus = -1;                                                                 \
        asm volatile("fninit\n fldcw %0\n" text "\n" AT "fwait\n"                                                      \
                     :                                                                                                 \
                     : "m"(control), "m"(zero), "m"(huge), "m"(tiny), "m"(minus)                                      \
                     : "rax", "memory", "st");                                                                         \
    }

X87(x87_invalid, 1, "fldz\n fldz\n fdivp")
X87(x87_denormal, 2, "movl $1, %1\n flds %1")
X87(x87_zero_divide, 4, "fld1\n fldz\n fdivrp %%st, %%st(1)")
X87(x87_overflow, 8, "flds %2\n fmuls %2\n fstps %1")
X87(x87_underflow, 16, "flds %3\n fmuls %3\n fstps %1")
X87(x87_precision, 32, "fldpi\n fld1\n fdivp")
X87(x87_stack_underflow, 1, "fstp %%st(0)")
X87(x87_stack_overflow, 1, "fld1\nfld1\nfld1\nfld1\nfld1\nfld1\nfld1\nfld1\nfld1")
X87(x87_square_root_of_minus_one, 1, "flds %4\n fsqrt")

#define SSE(name, unmasked, text)                                                                                      \
    CASE(name)                                                                                                         \
    {                                                                                                                  \
        uint32_t mxcsr = 0x1f80 & ~((unmasked) << 7);                                                                  \
        float one = 1, zero = 0, huge = 3e38f, tiny = 1e-38f, three = 3;                                               \
        asm volatile("ldmxcsr %0\n movss %1, %%xmm0\n movss %2, %%xmm1\n movss %3, %%xmm2\n movss %4, %%xmm3\n"         \
                     "movss %5, %%xmm4\n" AT text                                                                      \
                     :                                                                                                 \
                     : "m"(mxcsr), "m"(one), "m"(zero), "m"(huge), "m"(tiny), "m"(three)                               \
                     : "rax", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4");                                       \
    }

SSE(sse_invalid, 1, "divss %%xmm1, %%xmm1")
SSE(sse_zero_divide, 4, "divss %%xmm1, %%xmm0")
SSE(sse_overflow, 8, "mulss %%xmm2, %%xmm2")
SSE(sse_underflow, 16, "mulss %%xmm3, %%xmm3")
SSE(sse_precision, 32, "divss %%xmm4, %%xmm0")
SSE(sse_convert_invalid, 1, "cvttss2si %%xmm2, %%eax")

CASE(sse_bad_mxcsr)
{
    uint32_t mxcsr = 0x80001f80;
    asm volatile(AT "ldmxcsr %0" : : "m"(mxcsr) : "rax");
}

CASE(float_results)
{
    volatile double third = 1.0 / 3, root = __builtin_sqrt(2.0);
    volatile long double pi = 0;
    asm("fldpi" : "=t"(pi));
    double sum = 0;
    for (int i = 1; i < 1000; i++)
        sum += third / i * root;
    result("%.17g %.17g %.19Lg", sum, third * root, pi);
}

static void scramble(int number)
{
    (void)number;
    asm volatile("pcmpeqd %%xmm0, %%xmm0\n pcmpeqd %%xmm7, %%xmm7\n pcmpeqd %%xmm15, %%xmm15\n fninit\n fldz"
                 :
                 :
                 : "xmm0", "xmm7", "xmm15", "st");
}

CASE(state_survives_a_signal_and_a_switch)
{
    static const double in[4] = {1.25, -7.5, 1e300, 42};
    double out[4];
    signal(SIGUSR1, scramble);
    if (fork() == 0) { /* somebody else who uses the same registers */
        for (int i = 0; i < 2000; i++) {
            scramble(0);
            getppid();
        }
        _exit(0);
    }
    for (int i = 0; i < 200; i++) {
        int64_t number = i % 2 ? 24 /* sched_yield */ : 62 /* kill */;
        register int64_t rax asm("rax") = number;
        asm volatile("movsd %[a], %%xmm0\n movsd %[b], %%xmm7\n movsd %[c], %%xmm15\n fldl %[d]\n syscall\n"
                     "movsd %%xmm0, %[oa]\n movsd %%xmm7, %[ob]\n movsd %%xmm15, %[oc]\n fstpl %[od]"
                     : "+r"(rax), [oa] "=m"(out[0]), [ob] "=m"(out[1]), [oc] "=m"(out[2]), [od] "=m"(out[3])
                     : "D"((int64_t)getpid()), "S"((int64_t)SIGUSR1), [a] "m"(in[0]), [b] "m"(in[1]), [c] "m"(in[2]),
                       [d] "m"(in[3])
                     : "rcx", "r11", "xmm0", "xmm7", "xmm15", "st", "memory");
        if (memcmp(in, out, sizeof in))
            result("lost in round %d: %g %g %g %g", i, out[0], out[1], out[2], out[3]);
    }
    result("kept");
}
