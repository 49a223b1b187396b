/* Recording trap and callback handlers, and what the event tests need (trap table: xen.h; frames: xen-x86_64.h). */
#include "xenkit.h"

struct trap traps[32];
u32 trap_count;
u64 trap_resume;
int (*trap_hook)(struct trap *trap, struct cpu *cpu);
volatile u32 upcalls;
volatile u32 event_count[4096];
volatile int events_leave;
extern struct jump user_return;
extern volatile int user_running;
extern u8 trap_stack_top[];

struct raw { /* as trap_common pushes it */
    u64 r15, r14, r13, r12, rbp, rbx, rdi, rsi, rdx, r10, r9, r8, rax, vector, rcx, r11;
    u64 rest[10];
};

#define HAS_ERROR(v) ((v) == 8 || ((v) >= 10 && (v) <= 14) || (v) == 17)

static void read_frame(struct trap *t, const struct raw *raw)
{
    const u64 *at = raw->rest;
    t->vector = (u32)raw->vector;
    t->frame = (u64)&raw->rcx;
    t->cr2 = VCPU0->cr2;
    t->upcall_mask = VCPU0->upcall_mask;
    t->error = HAS_ERROR(t->vector) ? *at++ : 0;
    if (t->vector == VECTOR_FAILSAFE)
        for (int i = 0; i < 4; i++)
            t->data_sel[i] = *at++;
    t->cs_raw = at[1];
    t->saved_mask = (u32)(at[1] >> 32) & 0xff;
    t->cpu = (struct cpu){
        .rax = raw->rax, .rcx = raw->rcx, .rdx = raw->rdx, .rbx = raw->rbx, .rbp = raw->rbp,
        .rsi = raw->rsi, .rdi = raw->rdi, .r8 = raw->r8, .r9 = raw->r9, .r10 = raw->r10, .r11 = raw->r11,
        .r12 = raw->r12, .r13 = raw->r13, .r14 = raw->r14, .r15 = raw->r15,
        .rip = at[0], .cs = at[1] & 0xffff, .rflags = at[2], .rsp = at[3], .ss = at[4],
    };
}

static void take_events(void)
{
    upcalls++;
    VCPU0->upcall_pending = 0;
    if (events_leave)
        return;
    u64 sel = __atomic_exchange_n(&VCPU0->pending_sel, 0, __ATOMIC_SEQ_CST);
    for (; sel; sel &= sel - 1) {
        u64 word = (u64)__builtin_ctzl(sel);
        u64 bits = shared_info->evtchn_pending[word] & ~shared_info->evtchn_mask[word];
        for (; bits; bits &= bits - 1) {
            u32 port = (u32)(word * 64 + (u64)__builtin_ctzl(bits));
            event_count[port]++;
            clear_port(port);
        }
    }
}

static void give_up(const struct trap *t)
{
    printk("# unexpected trap %u error 0x%lx rip 0x%lx cs 0x%lx rflags 0x%lx rsp 0x%lx cr2 0x%lx\n", t->vector, t->error,
           t->cpu.rip, t->cs_raw, t->cpu.rflags, t->cpu.rsp, t->cr2);
    jump_to(&test_abort);
}

void trap_entry(const struct raw *raw)
{
    struct trap now, *t = &now;
    struct cpu cpu;
    int event = raw->vector == VECTOR_EVENT;
    read_frame(t, raw);
    if (trap_count < 32 && !(event && !trap_hook)) {
        traps[trap_count] = now;
        t = &traps[trap_count];
    }
    if (event)
        take_events();
    if (!(event && !trap_hook))
        trap_count++;
    cpu = t->cpu;
    if (trap_hook && trap_hook(t, &cpu))
        resume(&cpu, 0);
    if (event)
        resume(&cpu, 0);
    if (user_running && ((cpu.cs & 3) == 3)) {
        user_running = 0;
        jump_to(&user_return);
    }
    if (!trap_resume || t->vector >= 256)
        give_up(t);
    cpu.rip = trap_resume;
    cpu.rflags &= ~(FLAG_TF | FLAG_NT);
    trap_resume = 0;
    resume(&cpu, 0);
}

void trap_reset(void)
{
    trap_count = 0;
}

u32 trap_vector(void)
{
    return trap_count ? traps[0].vector : VECTOR_NONE;
}

u64 trap_error(void)
{
    return trap_count ? traps[0].error : ~0ul;
}

void trap_set(u8 vector, u8 flags, u64 address)
{
    struct trap_info table[2] = { { vector, flags, KERNEL_CS, 0, address }, { 0, 0, 0, 0, 0 } };
    HC(NR_set_trap_table, table, 0, 0, 0);
}

static void register_callback(u16 type, u16 flags, u32 vector)
{
    struct callback_register reg = { type, flags, 0, STUB(vector) };
    hc_callback(CALLBACKOP_register, &reg);
}

/* int3 and into are open to user mode (DPL 3), every other vector is not; none masks events. */
void traps_init(void)
{
    static struct trap_info table[257];
    for (u32 v = 0; v < 256; v++)
        table[v] = (struct trap_info){ (u8)v, v == 3 || v == 4 ? 3 : 0, KERNEL_CS, 0, STUB(v) };
    HC(NR_set_trap_table, table, 0, 0, 0);
    register_callback(CALLBACKTYPE_event, 0, VECTOR_EVENT);
    register_callback(CALLBACKTYPE_failsafe, 0, VECTOR_FAILSAFE);
    register_callback(CALLBACKTYPE_syscall, 0, VECTOR_SYSCALL);
    register_callback(CALLBACKTYPE_syscall32, 0, VECTOR_SYSCALL32);
    register_callback(CALLBACKTYPE_sysenter, 0, VECTOR_SYSENTER);
    HC(NR_stack_switch, KERNEL_SS, trap_stack_top, 0, 0);
}

void events_reset(void)
{
    upcalls = 0;
    for (u32 i = 0; i < 4096; i++)
        event_count[i] = 0;
}

void events_enable(void)
{
    VCPU0->upcall_mask = 0;
    asm volatile("" ::: "memory");
}

void events_disable(void)
{
    VCPU0->upcall_mask = 1;
    asm volatile("" ::: "memory");
}

s64 bind_virq(u32 virq, u32 vcpu)
{
    u32 arg[3] = { virq, vcpu, 0 };
    s64 rc = hc_event(EVTCHNOP_bind_virq, arg);
    return rc ? rc : (s64)arg[2];
}

s64 bind_ipi(u32 vcpu)
{
    u32 arg[2] = { vcpu, 0 };
    s64 rc = hc_event(EVTCHNOP_bind_ipi, arg);
    return rc ? rc : (s64)arg[1];
}

s64 evtchn_close(u32 port)
{
    return hc_event(EVTCHNOP_close, &port);
}

s64 evtchn_send(u32 port)
{
    return hc_event(EVTCHNOP_send, &port);
}

void mask_port(u32 port)
{
    __atomic_fetch_or(&shared_info->evtchn_mask[port / 64], 1ul << port % 64, __ATOMIC_SEQ_CST);
}

void unmask_port(u32 port)
{
    __atomic_fetch_and(&shared_info->evtchn_mask[port / 64], ~(1ul << port % 64), __ATOMIC_SEQ_CST);
}

void clear_port(u32 port)
{
    __atomic_fetch_and(&shared_info->evtchn_pending[port / 64], ~(1ul << port % 64), __ATOMIC_SEQ_CST);
}

int port_pending(u32 port)
{
    return shared_info->evtchn_pending[port / 64] >> port % 64 & 1;
}

u64 now_ns(void)
{
    const struct vcpu_time_info *t = &VCPU0->time;
    u32 version, lo, hi;
    u64 delta, ns;
    do {
        version = t->version;
        asm volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi)::"memory");
        delta = ((u64)hi << 32 | lo) - t->tsc_timestamp;
        delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
        ns = t->system_time + (u64)((unsigned __int128)delta * t->tsc_to_system_mul >> 32);
    } while (version & 1 || version != t->version);
    return ns;
}

int wait_for(const volatile u32 *word, u64 ns)
{
    u64 end = now_ns() + ns;
    while (!*word && now_ns() < end)
        hc_sched(SCHEDOP_yield, 0);
    return *word != 0;
}

u16 own_domid(void)
{
    u32 unbound[2] = { DOMID_SELF | DOMID_SELF << 16, 0 };
    struct evtchn_status st = { .dom = DOMID_SELF };
    hc_event(EVTCHNOP_alloc_unbound, unbound);
    st.port = unbound[1];
    hc_event(EVTCHNOP_status, &st);
    evtchn_close(unbound[1]);
    return (u16)st.u[0];
}
