/* A kernel with a HYPERCALL_PAGE note calls through the page that the builder or Xen fills: 32 bytes a hypercall (elfnote.h). */
#include "xenkit.h"

extern u8 hypercall_page[];
asm(".pushsection .text\n.balign 4096\n.globl hypercall_page\nhypercall_page: .fill 4096, 1, 0xcc\n.popsection\n"
    ".pushsection .note.Xen, \"a\", @note\n.balign 4\n.long 4, 8, 2\n.asciz \"Xen\"\n.quad hypercall_page\n.popsection");

static s64 call(u64 nr, u64 a, u64 b)
{
    s64 rc;
    u64 target = (u64)hypercall_page + nr * 32;
    asm volatile("call *%4" : "=a"(rc), "+D"(a), "+S"(b) : "d"(0ul), "r"(target) : "rcx", "r8", "r9", "r10", "r11", "memory");
    return rc;
}

static void page(void)
{
    u32 port = 100000;
    CHECK("page.filled", hypercall_page[NR_xen_version * 32] != 0xcc);
    CHECK_EQ("page.version", call(NR_xen_version, 0, 0), hc_version(0, 0));
    CHECK_EQ("page.pagesize", call(NR_xen_version, 7, 0), 4096);
    CHECK_EQ("page.event", call(NR_event_channel_op, EVTCHNOP_close, (u64)&port), -EINVAL);
    CHECK_EQ("page.yield", call(NR_sched_op, SCHEDOP_yield, 0), 0);
}

extern u8 after_iret[];

/* The slot of iret is jumped to with the frame less rax on the stack: it pushes rcx, r11 and rax itself. */
static void iret(void)
{
    u64 result = 0;
    asm volatile("mov %%rsp, %%rdx\n\t"
                 "pushq $0xe02b\n\tpushq %%rdx\n\tpushq $0x2\n\tpushq $0xe030\n\tpushq $after_iret\n\tpushq $0\n\t"
                 "mov $0x4242, %%eax\n\tmov $0x4343, %%ecx\n\tjmp *%1\n"
                 ".globl after_iret\nafter_iret: mov %%rax, %0"
                 : "=r"(result)
                 : "r"((u64)hypercall_page + NR_iret * 32)
                 : "rax", "rcx", "rdx", "r11", "memory");
    CHECK_EQ("page.iret_keeps_rax", result, 0x4242);
}

PROBE(TEST(page, 5), TEST(iret, 1));
