/* Privileged instructions of the guest's kernel: which are emulated, which are #GP. */
#include "xenkit.h"

#define CPUID(prefix, leaf, sub, r) \
    asm volatile(prefix "cpuid" : "=a"((r)[0]), "=b"((r)[1]), "=c"((r)[2]), "=d"((r)[3]) : "a"(leaf), "c"(sub))
#define XEN_PREFIX ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e;"
USER_FN(u_cpuid_xen, "mov $0x40000000, %eax\n.byte 0x0f, 0x0b, 0x78, 0x65, 0x6e\ncpuid\nud2");
USER_FN(u_rdtsc, "rdtsc\nud2");

static void cpuid(void)
{
    u32 r[4], native[4];
    CPUID(XEN_PREFIX, 0x40000000, 0, r);
    CHECK("cpuid.signature", r[1] == 0x566e6558 && r[2] == 0x65584d4d && r[3] == 0x4d4d566e); /* XenVMMXenVMM */
    CHECK("cpuid.signature.leaves", r[0] >= 0x40000001 && r[0] < 0x40000100);
    CPUID(XEN_PREFIX, 0x40000001, 0, r);
    CHECK_EQ("cpuid.version_is_hypercall's", r[0], hc_version(0, 0));
    CPUID(XEN_PREFIX, 0x40000002, 0, r);
    CHECK_EQ("cpuid.hypercall_pages", r[0], 1);
    CHECK("cpuid.preserve_ad", r[2] & 1); /* XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD */
    CPUID(XEN_PREFIX, 1, 0, r);
    CHECK("cpuid.1.tsc_fxsr_sse2", (r[3] >> 4 & 1) && (r[3] >> 24 & 1) && (r[3] >> 26 & 1));
    CHECK("cpuid.1.hypervisor", r[2] >> 31);
    CHECK_EQ_UNPRIVILEGED("cpuid.1.no_mtrr", r[3] >> 12 & 1, 0, "domain 0 may see MTRRs");
    CHECK_EQ("cpuid.1.no_pcid_vmx", r[2] & (1u << 17 | 1u << 5), 0);
    CPUID(XEN_PREFIX, 0x80000001, 0, r);
    CHECK("cpuid.80000001.syscall_nx_lm", (r[3] >> 11 & 1) && (r[3] >> 20 & 1) && (r[3] >> 29 & 1));
    CHECK_EQ("cpuid.80000001.no_1g_pages", r[3] >> 26 & 1, 0);
    CPUID("", 0, 0, native);
    CPUID(XEN_PREFIX, 0, 0, r);
    CHECK("cpuid.native_vendor_agrees", r[1] == native[1] && r[2] == native[2] && r[3] == native[3]);
    /* Without CPUID faulting real Xen cannot intercept the plain instruction; Xenion does, and both forms agree. */
    CPUID("", 0x40000000, 0, native);
    CHECK_EQ_UNPRIVILEGED("cpuid.native_signature", native[1], 0x566e6558, "TCG does not fault on cpuid");
    CPUID(XEN_PREFIX, 1, 0, r);
    CPUID("", 1, 0, native);
    CHECK_EQ_UNPRIVILEGED("cpuid.native_features_agree", native[3] == r[3] && (native[2] | 1u << 27) == (r[2] | 1u << 27), 1,
                          "TCG does not fault on cpuid");
    TRY(XEN_PREFIX "nop", ::: "memory");
    CHECK_EQ("prefix.other_instruction", trap_vector(), 6);
    user_init();
    struct trap *t = user_run(u_cpuid_xen, 0);
    CHECK_EQ("cpuid.prefix_in_user_mode", t->vector == 6 ? t->cpu.rbx : 0, 0x566e6558);
    CHECK_EQ("rdtsc.in_user_mode", user_run(u_rdtsc, 0)->vector, 6);
    events_disable();
}

static void control_registers(void)
{
    u64 v = 0, w = 0;
    TRY("mov %%cr0, %0", : "=r"(v)::"memory");
    CHECK("cr0.pe_pg_wp", trap_vector() == VECTOR_NONE && (v & 0x80010001) == 0x80010001);
    TRY("mov %0, %%cr0", ::"r"(v) : "memory");
    CHECK_EQ("cr0.write_same", trap_vector(), VECTOR_NONE);
    TRY("mov %0, %%cr0", ::"r"(v & ~0x10000ul) : "memory");
    CHECK_EQ("cr0.clear_wp", trap_vector(), 13);
    TRY("mov %%cr2, %0", : "=r"(v)::"memory");
    CHECK_EQ("cr2.read", trap_vector(), VECTOR_NONE);
    TRY("movb (%0), %%al", ::"r"(0x700000000777ul) : "rax", "memory");
    asm volatile("mov %%cr2, %0" : "=r"(v));
    CHECK_EQ("cr2.last_fault", v, 0x700000000777);
    TRY("mov %0, %%cr2", ::"r"(0x1357ul) : "memory");
    CHECK_EQ("cr2.write", trap_vector(), VECTOR_NONE);
    CHECK_EQ("cr2.write.in_vcpu_info", VCPU0->cr2, 0x1357);
    TRY("mov %%cr3, %0", : "=r"(v)::"memory");
    CHECK_EQ("cr3.is_l4", v, mfn_of(kernel_l4()) * PAGE);
    TRY("mov %0, %%cr3", ::"r"(v) : "memory");
    CHECK_EQ("cr3.write_same", trap_vector(), VECTOR_NONE);
    TRY("mov %0, %%cr3", ::"r"(0x7ffffff000ul) : "memory");
    CHECK_EQ("cr3.write_bad", trap_vector(), 13);
    TRY("mov %%cr4, %0", : "=r"(v)::"memory");
    CHECK("cr4.pae_osfxsr", trap_vector() == VECTOR_NONE && (v & 0x220) == 0x220);
    printk("# cr4 reads 0x%lx\n", v);
    TRY("mov %0, %%cr4", ::"r"(v) : "memory");
    CHECK_EQ("cr4.write_same", trap_vector(), VECTOR_NONE);
    TRY("mov %0, %%cr4", ::"r"(v | 0x2000) : "memory");
    CHECK_EQ("cr4.write_vmxe", trap_vector(), VECTOR_NONE);
    asm volatile("mov %%cr4, %0" : "=r"(w));
    CHECK_EQ("cr4.vmxe_ignored", w & 0x2000, 0);
    TRY("mov %%cr8, %0", : "=r"(v)::"memory");
    CHECK_EQ("cr8.read", trap_vector(), 13);
}

static void msrs(void)
{
    u32 lo = 0, hi = 0;
    TRY("rdmsr", : "=a"(lo), "=d"(hi) : "c"(0xc0000080) : "memory");
    CHECK_EQ("efer.read", trap_vector(), VECTOR_NONE);
    CHECK_EQ("efer.sce_lme_lma_nx", lo & 0xd01, 0xd01);
    TRY("wrmsr", ::"a"(lo), "d"(hi), "c"(0xc0000080) : "memory");
    CHECK_EQ("efer.write_same", trap_vector(), VECTOR_NONE);
    TRY("wrmsr", ::"a"(lo & ~0x800), "d"(hi), "c"(0xc0000080) : "memory");
    CHECK_EQ("efer.write_other", trap_vector(), 13);
    TRY("rdmsr", : "=a"(lo), "=d"(hi) : "c"(0x1b) : "memory");
    CHECK_EQ("apic_base", trap_vector() == VECTOR_NONE ? (u64)hi << 32 | lo : 0, 0xfee00900);
    TRY("rdmsr", : "=a"(lo), "=d"(hi) : "c"(0x277) : "memory");
    CHECK_EQ("pat", trap_vector() == VECTOR_NONE ? (u64)hi << 32 | lo : 0, 0x50100070406);
    TRY("wrmsr", ::"a"(0x00070406), "d"(0x501), "c"(0x277) : "memory");
    printk("# wrmsr pat same: vector %u\n", trap_vector());
    TRY("rdmsr", : "=a"(lo), "=d"(hi) : "c"(0x10) : "memory");
    CHECK("tsc.read", trap_vector() == VECTOR_NONE && (lo || hi));
    TRY("rdmsr", : "=a"(lo), "=d"(hi) : "c"(0x12345) : "memory");
    CHECK_EQ("unknown.read.vector", trap_vector(), 13);
    CHECK_EQ("unknown.read.error", trap_error(), 0);
    TRY("wrmsr", ::"a"(0), "d"(0), "c"(0x12345) : "memory");
    CHECK_EQ("unknown.write", trap_vector(), 13);
    TRY("wrmsr", ::"a"(0), "d"(0), "c"(0xc0000082) : "memory");
    CHECK_EQ("lstar.write", trap_vector(), 13);
    TRY("rdmsr", : "=a"(lo), "=d"(hi) : "c"(0xc0000082) : "memory");
    CHECK_EQ("lstar.read", trap_vector(), 13);
    TRY("wrmsr", ::"a"(0), "d"(0), "c"(0x79) : "memory");
    CHECK_EQ("microcode.write", trap_vector(), 13);
}

static void interrupt_flag(void)
{
    u64 flags;
    struct { u32 iopl; } set = { 0 };
    events_disable();
    TRY("cli", ::: "memory");
    CHECK_EQ("cli.iopl_0", trap_vector(), 13);
    TRY("sti", ::: "memory");
    CHECK_EQ("sti.iopl_0", trap_vector(), 13);
    set.iopl = 1;
    CHECK_EQ("set_iopl_1", HC(NR_physdev_op, 6, &set, 0, 0), 0);
    TRY("sti", ::: "memory");
    CHECK_EQ("sti.iopl_1", trap_vector(), VECTOR_NONE);
    CHECK_EQ("sti.mask_unchanged", VCPU0->upcall_mask, 1);
    events_enable();
    TRY("cli", ::: "memory");
    CHECK_EQ("cli.iopl_1", trap_vector(), VECTOR_NONE);
    CHECK_EQ("cli.mask_unchanged", VCPU0->upcall_mask, 0);
    asm volatile("pushf; pop %0" : "=r"(flags));
    CHECK_EQ("cli.flag_reads_1", flags & FLAG_IF, FLAG_IF);
    events_disable();
    TRY("pushf; andl $~0x200, (%%rsp); popf", ::: "memory", "cc");
    CHECK_EQ("popf.no_trap", trap_vector(), VECTOR_NONE);
    asm volatile("pushf; pop %0" : "=r"(flags));
    CHECK_EQ("popf.if_ignored", flags & FLAG_IF, FLAG_IF);
    CHECK_EQ("popf.mask_unchanged", VCPU0->upcall_mask, 1);
    TRY("pushf; orl $0x3000, (%%rsp); popf", ::: "memory", "cc");
    asm volatile("pushf; pop %0" : "=r"(flags));
    CHECK_EQ("popf.iopl_ignored", flags & FLAG_IOPL, 0);
    TRY("ud2", ::: "memory");
    CHECK_EQ("iopl_not_in_frame", traps[0].cpu.rflags & FLAG_IOPL, 0);
    set.iopl = 0;
    HC(NR_physdev_op, 6, &set, 0, 0);
}

/* Port 0x20 is closed even to domain 0: what a domain without any port reads is all ones, writes vanish. */
static void ports(void)
{
    u32 value = 0;
    struct { u32 iopl; } set = { 1 };
    TRY("l_in: inb $0x20, %%al", : "=a"(value)::"memory");
    CHECK_EQ("in.iopl_0.vector", trap_vector(), 13);
    CHECK_EQ("in.iopl_0.error", trap_error(), 0);
    CHECK_EQ("in.iopl_0.rip", traps[0].cpu.rip, RIP_OF(l_in));
    HC(NR_physdev_op, 6, &set, 0, 0);
    TRY("inb $0x20, %%al", : "=a"(value) : "a"(0) : "memory");
    CHECK_EQ("in.byte", trap_vector() == VECTOR_NONE ? value : 0, 0xff);
    TRY("inw %%dx, %%ax", : "=a"(value) : "a"(0), "d"(0x20) : "memory");
    CHECK_EQ("in.word", trap_vector() == VECTOR_NONE ? value : 0, 0xffff);
    TRY("inl %%dx, %%eax", : "=a"(value) : "a"(0), "d"(0x3f8) : "memory");
    CHECK_EQ("in.long", trap_vector() == VECTOR_NONE ? value : 0, 0xffffffff);
    TRY("outb %%al, $0x20", ::"a"(0) : "memory");
    CHECK_EQ("out.byte", trap_vector(), VECTOR_NONE);
    TRY("outl %%eax, %%dx", ::"a"(0), "d"(0x3f8) : "memory");
    CHECK_EQ("out.long", trap_vector(), VECTOR_NONE);
    static u8 buffer[4];
    u64 count = 4, to = (u64)buffer;
    TRY("rep insb", : "+c"(count), "+D"(to) : "d"(0x20) : "memory");
    CHECK("rep_ins", trap_vector() == VECTOR_NONE && count == 0 && to == (u64)buffer + 4 && buffer[3] == 0xff);
    set.iopl = 0;
    HC(NR_physdev_op, 6, &set, 0, 0);
}

USER_FN(u_in80, "inb $0x20, %al\nud2");
USER_FN(u_cli, "cli\nud2");

static void user_ports(void)
{
    static u8 bitmap[8192 + 1];
    struct { u32 iopl; } set = { 3 };
    struct { u8 *bitmap; u32 ports; } map = { bitmap, 65536 };
    struct trap *t;
    user_init();
    t = user_run(u_in80, 0);
    CHECK_EQ("user.in.closed", t->vector, 13);
    HC(NR_physdev_op, 6, &set, 0, 0);
    t = user_run(u_in80, 0);
    CHECK_EQ("user.in.iopl_3", t->vector == 6 ? t->cpu.rax & 0xff : 0, 0xff);
    t = user_run(u_cli, 0);
    CHECK_EQ("user.cli.iopl_3", t->vector, 6);
    set.iopl = 0;
    HC(NR_physdev_op, 6, &set, 0, 0);
    CHECK_EQ("iobitmap.set", HC(NR_physdev_op, 7, &map, 0, 0), 0);
    t = user_run(u_in80, 0);
    CHECK_EQ("iobitmap.open", t->vector == 6 ? t->cpu.rax & 0xff : 0, 0xff);
    memset(bitmap, 0xff, sizeof(bitmap));
    t = user_run(u_in80, 0);
    CHECK_EQ("iobitmap.closed", t->vector, 13);
    map.ports = 0;
    CHECK_EQ("iobitmap.none", HC(NR_physdev_op, 7, &map, 0, 0), 0);
    events_disable();
}

static void rest(void)
{
    static u8 operand[16];
    TRY("wbinvd", ::: "memory");
    CHECK_EQ("wbinvd", trap_vector(), VECTOR_NONE);
    TRY("hlt", ::: "memory");
    CHECK_EQ("hlt", trap_vector(), 13);
    TRY("invlpg (%0)", ::"r"(operand) : "memory");
    CHECK_EQ("invlpg", trap_vector(), 13);
    TRY("lgdt (%0)", ::"r"(operand) : "memory");
    CHECK_EQ("lgdt", trap_vector(), 13);
    TRY("lidt (%0)", ::"r"(operand) : "memory");
    CHECK_EQ("lidt", trap_vector(), 13);
    TRY("lldt %w0", ::"r"(0) : "memory");
    CHECK_EQ("lldt", trap_vector(), 13);
    TRY("ltr %w0", ::"r"(8) : "memory");
    CHECK_EQ("ltr", trap_vector(), 13);
    TRY("swapgs", ::: "memory");
    CHECK_EQ("swapgs", trap_vector(), 13);
    TRY("sysretq", ::: "memory");
    CHECK_EQ("sysret", trap_vector(), 13);
    TRY("lmsw %w0", ::"r"(1) : "memory");
    CHECK_EQ("lmsw", trap_vector(), 13);
    TRY("rdtsc", ::: "rax", "rdx", "memory");
    CHECK_EQ("rdtsc", trap_vector(), VECTOR_NONE);
    TRY("mov %%rsp, %%rax; push $0xe02b; push %%rax; pushf; push $0xe033; push $1f; iretq; 1:", ::: "rax", "memory");
    CHECK_EQ("native_iretq", trap_vector(), VECTOR_NONE);
}

PROBE(TEST(cpuid, 17), TEST(control_registers, 15), TEST(msrs, 13), TEST(interrupt_flag, 13), TEST(ports, 9),
      TEST(user_ports, 7), TEST(rest, 12));
