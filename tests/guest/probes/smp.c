/* Several vCPUs (vcpu.h): bringing them up, events between them, who spins, yields, polls and blocks, and going down again. */
/* vcpus: 4 */
/* seconds: 150 */
#include "xenkit.h"

#define VCPUS 4
#define MS 1000000ul
#define PATIENCE (10000 * MS) /* how long vCPU 0 waits for another one before the check has failed */
#define HANDED 1000           /* times */
#define TRIES 100             /* looks at what the other one is to change, on average */
#define COUNTED 10000
enum { RUNNING, RUNNABLE, BLOCKED, OFFLINE };
enum { BY_PAUSE, BY_YIELD, BY_NOTHING };
#define IN_USER_MODE 3 /* the vCPU that begins there */
#define IN_KERNEL 4    /* VGCF_in_kernel */
#define R12(n) (0x1200 + (n))
#define R13(n) (0x1300 + (n))

struct selector { u16 value, pad[3]; };
struct vcpu_guest_context {
    u8 fpu_ctxt[512];
    u64 flags;
    struct {
        u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
        u64 error_and_vector, rip;
        struct selector cs;
        u64 rflags, rsp;
        struct selector ss, es, ds, fs, gs;
    } regs;
    struct trap_info traps[256];
    u64 ldt_base, ldt_ents, gdt_frames[16], gdt_ents, kernel_ss, kernel_sp, ctrlreg[8], debugreg[8];
    u64 event_callback, failsafe_callback, syscall_callback, vm_assist, fs_base, gs_base_kernel, gs_base_user;
};
_Static_assert(sizeof(struct vcpu_guest_context) == 5168, "struct vcpu_guest_context");
struct singleshot { u64 timeout; u32 flags, pad; };
struct info_place { u64 mfn; u32 offset, pad; };

/* A vCPU's own; its ports are in word ID of the pending bits, so nobody takes another one's events. */
struct processor {
    struct processor *self; /* at %gs:0 */
    u32 id, port, timer, polled;
    struct vcpu_info *info;
    void (*volatile work)(struct processor *);
    volatile u32 started, apic_id, upcalls, events[64], step;
    volatile u64 r12, r13, value, late;
    volatile s64 rc;
};
static struct processor cpus[VCPUS];
static u8 stacks[VCPUS][8192] __attribute__((aligned(16)));
static u8 user_syscall_stacks[VCPUS][8192] __attribute__((aligned(16)));
#define EVENTS(cpu, port) ((cpu)->events[(port) % 64])

/* smp_begin: where they begin, and where the application of one of them comes with its `syscall`. */
extern u8 smp_begin[], smp_event[], smp_trap[];
asm(".text\n"
    "smp_begin: mov %gs:0, %rdi; mov %r12, %rsi; mov %r13, %rdx; call smp_main\n"
    "smp_event: push %rax; push %rdx; push %rsi; push %rdi; push %r8; push %r9; push %r10\n"
    "cld; mov %gs:0, %rdi; call smp_take\n"
    "pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi; pop %rdx; pop %rax\n"
    "pop %rcx; pop %r11; push $0; push %rcx; push %r11; push %rax; mov $23, %eax; syscall\n"
    "smp_trap: mov %gs:0, %rdi; mov %rsp, %rsi; cld; call smp_trapped\n");
USER_FN(user_begin, "mov $1, %eax; cpuid; shr $24, %ebx; mov %rbx, %r12; syscall");

void smp_main(struct processor *me, u64 r12, u64 r13) __attribute__((noreturn));
void smp_take(struct processor *me);
void smp_trapped(struct processor *me, const u64 *frame) __attribute__((noreturn));

void smp_trapped(struct processor *me, const u64 *frame)
{
    printk("# unexpected trap on vcpu %u: 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx\n", me->id, frame[0], frame[1], frame[2], frame[3], frame[4]);
    shutdown(SHUTDOWN_crash);
}

void smp_take(struct processor *me)
{
    me->upcalls++;
    me->info->upcall_pending = 0;
    __atomic_exchange_n(&me->info->pending_sel, 0, __ATOMIC_SEQ_CST);
    u64 bits = shared_info->evtchn_pending[me->id] & ~shared_info->evtchn_mask[me->id];
    for (; bits; bits &= bits - 1) {
        u32 bit = (u32)__builtin_ctzl(bits);
        me->events[bit]++;
        clear_port(me->id * 64 + bit);
    }
}

static u32 apic_id(void)
{
    u32 eax = 1, ebx, ecx = 0, edx;
    asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ebx >> 24;
}

static void mask(struct processor *me, u8 masked)
{
    me->info->upcall_mask = masked;
    asm volatile("" ::: "memory");
}

static s64 set_singleshot(u32 n, u64 timeout)
{
    struct singleshot set = { timeout, 0, 0 };
    return hc_vcpu(VCPUOP_set_singleshot_timer, n, &set);
}

/* What each does for ever: what vCPU 0 gives it, and then block. */
void smp_main(struct processor *me, u64 r12, u64 r13)
{
    hc_vcpu(VCPUOP_stop_periodic_timer, me->id, 0);
    me->apic_id = apic_id();
    me->r12 = r12;
    me->r13 = r13;
    me->started = 1;
    for (;;) {
        mask(me, 1);
        if (!me->work) {
            hc_sched(SCHEDOP_block, 0);
            continue;
        }
        me->work(me);
        me->work = 0;
    }
}

/* ---- vCPU 0's side */
static const char *of(u32 n, const char *what)
{
    static char name[64];
    memcpy(name, "vcpu0.", 6);
    name[4] = (char)('0' + n);
    memcpy(name + 6, what, strlen(what) + 1);
    return name;
}

static void give(u32 n, void (*work)(struct processor *))
{
    cpus[n].work = work;
    evtchn_send(cpus[n].port);
}

#define UNTIL(condition, act)                               \
    ({                                                      \
        u64 give_up_ = now_ns() + PATIENCE;                 \
        while (!(condition) && now_ns() < give_up_)         \
            act;                                            \
        !!(condition);                                      \
    })
#define YIELD hc_sched(SCHEDOP_yield, 0)
static int finishes(u32 n) { return UNTIL(!cpus[n].work, YIELD); }
/* Without a hypercall or PAUSE: only the end of a turn lets another vCPU go on. */
static int finishes_while_we_compute(u32 n) { return UNTIL(!cpus[n].work, ); }

static struct runstate_info runstate(u32 n)
{
    struct runstate_info info = { .state = -1 };
    hc_vcpu(VCPUOP_get_runstate_info, n, &info);
    return info;
}

static int becomes(u32 n, s32 state) { return UNTIL(runstate(n).state == state, YIELD); }

/* ---- bringing up */
static struct vcpu_guest_context context;

static void fill_context(u32 n)
{
    memset(&context, 0, sizeof context);
    context.flags = n == IN_USER_MODE ? 0 : IN_KERNEL;
    context.regs.r12 = R12(n);
    context.regs.r13 = R13(n);
    context.regs.rip = n == IN_USER_MODE ? user_address(user_begin) : (u64)smp_begin;
    context.regs.rsp = n == IN_USER_MODE ? USER_STACK_TOP : (u64)(stacks + n + 1);
    context.regs.cs.value = n == IN_USER_MODE ? USER_CS : KERNEL_CS;
    context.regs.ss.value = n == IN_USER_MODE ? USER_SS : KERNEL_SS;
    context.regs.rflags = FLAG_IF;
    for (u32 v = 0; v < 256; v++)
        context.traps[v] = (struct trap_info){ (u8)v, 0, KERNEL_CS, 0, (u64)smp_trap };
    context.kernel_ss = KERNEL_SS;
    context.kernel_sp = (u64)(user_syscall_stacks + n + 1);
    context.ctrlreg[3] = mfn_of(kernel_l4()) * PAGE;
    context.ctrlreg[1] = n == IN_USER_MODE ? mfn_of(user_l4) * PAGE : 0;
    context.event_callback = (u64)smp_event;
    context.failsafe_callback = (u64)smp_trap;
    context.syscall_callback = (u64)smp_begin;
    context.gs_base_kernel = (u64)&cpus[n];
}

static void initialise_refused(const char *what, u64 *field, u64 value)
{
    u64 good = *field;
    *field = value;
    CHECK_EQ(what, hc_vcpu(VCPUOP_initialise, 1, &context), -EINVAL);
    *field = good;
}

static void refusals(void)
{
    user_init();
    fill_context(1);
    CHECK_EQ("is_up.beyond", hc_vcpu(VCPUOP_is_up, VCPUS, 0), -ENOENT);
    CHECK_EQ("up.not_initialised", hc_vcpu(VCPUOP_up, 1, 0), -EINVAL);
    CHECK_EQ("runstate.not_up", runstate(1).state, OFFLINE);
    CHECK_EQ("initialise.wild", hc_vcpu(VCPUOP_initialise, 1, 0x700000000000), -EFAULT);
    initialise_refused("initialise.no_kernel_table", &context.ctrlreg[3], 0);
    initialise_refused("initialise.not_a_table", &context.ctrlreg[3], mfn_of(user_data) * PAGE);
    initialise_refused("initialise.bad_user_table", &context.ctrlreg[1], mfn_of(user_data) * PAGE);
    initialise_refused("initialise.rip", &context.regs.rip, 1ul << 47);
    initialise_refused("initialise.event_callback", &context.event_callback, 1ul << 47);
    initialise_refused("initialise.trap", &context.traps[200].address, 1ul << 47);
    initialise_refused("initialise.gdt_entries", &context.gdt_ents, 8192);
    initialise_refused("initialise.ldt_entries", &context.ldt_ents, 8193);
    CHECK_EQ("up.refused_before", hc_vcpu(VCPUOP_up, 1, 0), -EINVAL);
}

static u32 port_in(u32 word, s64 (*bind)(u32 vcpu))
{
    s64 port;
    while ((port = bind(word)) > 0 && (u32)port / 64 < word)
        ;
    return (u32)port;
}

static s64 bind_timer(u32 vcpu) { return bind_virq(VIRQ_TIMER, vcpu); }

static void prepare(u32 n)
{
    static u8 *page;
    struct processor *cpu = &cpus[n];
    *cpu = (struct processor){ .self = cpu, .id = n, .info = &shared_info->vcpu_info[n] };
    cpu->port = n ? port_in(n, bind_ipi) : (u32)bind_ipi(0);
    cpu->polled = (u32)bind_ipi(n);
    cpu->timer = (u32)bind_timer(n);
    if (n < 2) /* the others have theirs in a page of ours */
        return;
    page = page ? page : page_alloc();
    struct info_place place = { mfn_of(page), 64 * n, 0 };
    CHECK_EQ(of(n, "register_info"), hc_vcpu(VCPUOP_register_vcpu_info, n, &place), 0);
    cpu->info = (struct vcpu_info *)(page + 64 * n);
}

static void bring_up(u32 n)
{
    struct processor *cpu = &cpus[n];
    prepare(n);
    fill_context(n);
    CHECK_EQ(of(n, "is_up.before"), hc_vcpu(VCPUOP_is_up, n, 0), 0);
    CHECK_EQ(of(n, "initialise"), hc_vcpu(VCPUOP_initialise, n, &context), 0);
    CHECK_EQ(of(n, "initialise.again"), hc_vcpu(VCPUOP_initialise, n, &context), -EEXIST);
    CHECK_EQ(of(n, "is_up.initialised"), hc_vcpu(VCPUOP_is_up, n, 0), 0);
    YIELD;
    CHECK_EQ(of(n, "runs_only_when_up"), cpu->started, 0);
    CHECK_EQ(of(n, "up"), hc_vcpu(VCPUOP_up, n, 0), 0);
    CHECK_EQ(of(n, "is_up"), hc_vcpu(VCPUOP_is_up, n, 0), 1);
    CHECK(of(n, "starts"), UNTIL(cpu->started, YIELD));
    CHECK_EQ(of(n, "apic_id"), cpu->apic_id, 2 * n);
    CHECK_EQ(of(n, "r12"), cpu->r12, n == IN_USER_MODE ? 2 * n /* the application's */ : R12(n));
    CHECK_EQ(of(n, "r13"), cpu->r13, R13(n));
    CHECK(of(n, "clock"), cpu->info->time.tsc_to_system_mul && !(cpu->info->time.version & 1));
    CHECK(of(n, "blocks"), becomes(n, BLOCKED));
}

static void bringing_up(void)
{
    hc_vcpu(VCPUOP_stop_periodic_timer, 0, 0);
    prepare(0);
    for (u32 n = 1; n < VCPUS; n++)
        bring_up(n);
    CHECK_EQ("vcpu0.apic_id", apic_id(), 0);
    CHECK_EQ("vcpu0.is_up", hc_vcpu(VCPUOP_is_up, 0, 0), 1);
}

/* ---- events */

/* vCPU 0 sleeps until the port has had COUNT events; whether it had before its timer came. */
static int sleep_until(u32 port, u32 count)
{
    set_singleshot(0, now_ns() + PATIENCE);
    for (;;) {
        events_disable();
        if (event_count[port] >= count || event_count[cpus[0].timer])
            break;
        hc_sched(SCHEDOP_block, 0);
    }
    hc_vcpu(VCPUOP_stop_singleshot_timer, 0, 0);
    return !event_count[cpus[0].timer];
}

static void send_back(struct processor *me)
{
    me->value = (u64)becomes(0, BLOCKED);
    me->rc = evtchn_send(cpus[0].port);
}

static void laps(struct processor *me)
{
    while (me->step < HANDED) {
        mask(me, 1);
        if (EVENTS(me, me->polled) == me->step) {
            hc_sched(SCHEDOP_block, 0);
            continue;
        }
        me->step++;
        evtchn_send(me->id + 1 < VCPUS ? cpus[me->id + 1].polled : cpus[0].port);
    }
}

static void ipis(void)
{
    struct processor *one = &cpus[1];
    CHECK("ipi.target_blocks", becomes(1, BLOCKED));
    u32 before = EVENTS(one, one->port);
    CHECK_EQ("ipi.send", evtchn_send(one->port), 0);
    CHECK("ipi.arrives", UNTIL(EVENTS(one, one->port) != before, YIELD));
    CHECK("ipi.target_blocks_again", becomes(1, BLOCKED));
    CHECK_EQ("ipi.once", EVENTS(one, one->port), before + 1);
    events_reset();
    give(1, send_back);
    CHECK("ipi.back.wakes", sleep_until(cpus[0].port, 1));
    CHECK("ipi.back.finishes", finishes(1));
    CHECK_EQ("ipi.back.sender_saw_us_block", one->value, 1);
    CHECK_EQ("ipi.back.send", one->rc, 0);
    CHECK_EQ("ipi.back.once", event_count[cpus[0].port], 1);
    events_reset();
    for (u32 n = 1; n < VCPUS; n++)
        give(n, laps);
    u32 lap = 0;
    do
        evtchn_send(one->polled);
    while (sleep_until(cpus[0].port, ++lap) && lap < HANDED);
    CHECK_EQ("ipi.laps", lap, HANDED);
    CHECK("ipi.laps.finish", finishes(1) && finishes(2) && finishes(3));
    CHECK_EQ("ipi.laps.each_event_once", event_count[cpus[0].port], HANDED);
}

/* ---- who spins lets the other one go on */
static volatile u32 owner, held;

/* Takes the lock and hands it over, TIMES; returns how often it looked. */
static inline __attribute__((always_inline)) u64 hand_over(u32 me, u32 other, u32 times, int how)
{
    u64 looks = 0, give_up = now_ns() + PATIENCE;
    for (u32 i = 0; i < times; i++) {
        for (; owner != me && now_ns() < give_up; looks++)
            if (how == BY_PAUSE)
                asm volatile("pause" ::: "memory");
            else if (how == BY_YIELD)
                YIELD;
        held += owner == me;
        owner = other;
    }
    return looks;
}

static void hand_over_by_pause(struct processor *me) { me->value = hand_over(1, 0, HANDED, BY_PAUSE); }
static void hand_over_by_yield(struct processor *me) { me->value = hand_over(1, 0, HANDED, BY_YIELD); }
static void hand_over_by_nothing(struct processor *me) { me->value = hand_over(1, 0, 5, BY_NOTHING); }

static void spinning(void)
{
    u64 looks;
    owner = held = 0;
    give(1, hand_over_by_pause);
    looks = hand_over(0, 1, HANDED, BY_PAUSE);
    CHECK("pause.finishes", finishes(1));
    CHECK_EQ("pause.handed", held, 2 * HANDED);
    CHECK("pause.gives_way", looks + cpus[1].value < 2 * HANDED * TRIES);
    owner = held = 0;
    give(1, hand_over_by_yield);
    looks = hand_over(0, 1, HANDED, BY_YIELD);
    CHECK("yield.finishes", finishes(1));
    CHECK_EQ("yield.handed", held, 2 * HANDED);
    CHECK("yield.gives_way", looks + cpus[1].value < 2 * HANDED * TRIES);
    owner = held = 0;
    give(1, hand_over_by_nothing);
    hand_over(0, 1, 5, BY_NOTHING);
    CHECK("no_pause.finishes", finishes_while_we_compute(1));
    CHECK_EQ("no_pause.handed", held, 10);
}

/* ---- waiting */
static void poll_for_event(struct processor *me)
{
    u32 port = me->polled;
    struct sched_poll p = { &port, 1, 0, 0 };
    me->rc = hc_sched(SCHEDOP_poll, &p);
    me->value = (u64)port_pending(port);
    clear_port(port);
}

static void poll_for_time(struct processor *me)
{
    u32 port = me->polled;
    u64 blocked = runstate(me->id).time[BLOCKED];
    struct sched_poll p = { &port, 1, 0, now_ns() + 20 * MS };
    me->rc = hc_sched(SCHEDOP_poll, &p);
    me->late = now_ns() >= p.timeout;
    me->value = runstate(me->id).time[BLOCKED] - blocked;
}

static void polling(void)
{
    struct processor *one = &cpus[1];
    mask_port(one->polled);
    give(1, poll_for_event);
    CHECK("poll.waits", becomes(1, BLOCKED) && one->work);
    CHECK_EQ("poll.send", evtchn_send(one->polled), 0);
    CHECK("poll.woken", finishes(1));
    CHECK_EQ("poll.answer", one->rc, 0);
    CHECK_EQ("poll.pending", one->value, 1);
    one->late = 0;
    give(1, poll_for_time);
    CHECK("poll.timeout.ends_while_another_computes", finishes_while_we_compute(1));
    CHECK_EQ("poll.timeout.answer", one->rc, 0);
    CHECK_EQ("poll.timeout.not_early", one->late, 1);
    CHECK("poll.timeout.blocked", one->value > 0);
    unmask_port(one->polled);
}

static void sleep_by_timer(struct processor *me)
{
    u64 timeout = now_ns() + 10 * MS, blocked = runstate(me->id).time[BLOCKED];
    me->rc = set_singleshot(me->id, timeout);
    for (;;) {
        mask(me, 1);
        if (EVENTS(me, me->timer))
            break;
        hc_sched(SCHEDOP_block, 0);
    }
    me->late = now_ns() >= timeout;
    me->value = runstate(me->id).time[BLOCKED] - blocked;
}

static void timers(void)
{
    struct processor *one = &cpus[1];
    events_disable();
    events_reset();
    EVENTS(one, one->timer) = one->late = 0;
    give(1, sleep_by_timer);
    CHECK("timer.ends_while_another_computes", finishes_while_we_compute(1));
    CHECK_EQ("timer.answer", one->rc, 0);
    CHECK_EQ("timer.once", EVENTS(one, one->timer), 1);
    CHECK_EQ("timer.not_early", one->late, 1);
    CHECK("timer.blocked", one->value > 0);
    CHECK_EQ("timer.is_its_own", port_pending(cpus[0].timer), 0);
    CHECK_EQ("timer.of_another", set_singleshot(1, 0), -EINVAL);
    CHECK_EQ("timer.stop_of_another", hc_vcpu(VCPUOP_stop_singleshot_timer, 1, 0), -EINVAL);
}

/* ---- all at once */
static volatile u32 counter;

static void count(struct processor *me)
{
    (void)me;
    for (u32 i = 0; i < COUNTED; i++) {
        asm volatile("lock incl %0" : "+m"(counter)::"cc");
        if (i % 8 == 0)
            asm volatile("pause" ::: "memory");
    }
}

/* In registers of all kinds, without PAUSE: the turns end in the middle of it. Leaves what is in them afterwards. */
static void keep_registers(struct processor *me)
{
    u32 mxcsr = 0x1f80 | me->id << 13, mxcsr_after, usual = 0x1f80;
    u64 sum = me->id, xmm, base;
    HC(NR_set_segment_base, 0, &me->value, 0, 0); /* SEGBASE_FS */
    me->value = R12(me->id);
    asm volatile("ldmxcsr %[in]; movq %[sum], %%xmm9; pushf; stc; mov $3000000, %%ecx\n"
                 "1: rcl $1, %[sum]; ror $1, %[sum]; lea 1(%[sum]), %[sum]; dec %%ecx; jnz 1b\n"
                 "popf; stmxcsr %[out]; movq %%xmm9, %[xmm]; mov %%fs:0, %[base]"
                 : [sum] "+r"(sum), [xmm] "=r"(xmm), [base] "=r"(base), [out] "=m"(mxcsr_after)
                 : [in] "m"(mxcsr)
                 : "rcx", "cc", "memory");
    asm volatile("ldmxcsr %0" ::"m"(usual));
    me->step = (mxcsr_after == mxcsr) | (xmm == me->id) << 1 | (base == R12(me->id)) << 2;
    me->late = sum;
}

static void together(void)
{
    u64 alone[VCPUS];
    counter = 0;
    for (u32 n = 1; n < VCPUS; n++)
        give(n, count);
    count(&cpus[0]);
    CHECK("count.finishes", finishes(1) && finishes(2) && finishes(3));
    CHECK_EQ("count.sum", counter, VCPUS * COUNTED);
    for (u32 n = 0; n < VCPUS; n++) {
        keep_registers(&cpus[n]); /* here, and alone: what comes of it */
        alone[n] = cpus[n].late;
    }
    for (u32 n = 1; n < VCPUS; n++)
        give(n, keep_registers);
    keep_registers(&cpus[0]);
    CHECK("registers.finish", finishes(1) && finishes(2) && finishes(3));
    for (u32 n = 0; n < VCPUS; n++) {
        CHECK_EQ(of(n, "registers"), cpus[n].step, 7);
        CHECK_EQ(of(n, "registers.sum"), cpus[n].late, alone[n]);
    }
}

/* ---- page tables of their own */
#define OWN 8 /* slot of the L4 in which theirs differ */
#define OWN_WORD ((volatile u64 *)((u64)OWN << 39))
#define LINK (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)
static u64 *other_l4;

/* An L3 table behind whose first page VALUE is. */
static u64 own_l3(u64 value)
{
    u64 *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc(), *page = page_alloc();
    *page = value;
    l1[0] = mfn_of(page) * PAGE | PTE_P | PTE_U | PTE_A | PTE_D;
    l2[0] = mfn_of(l1) * PAGE | LINK;
    l3[0] = mfn_of(l2) * PAGE | LINK;
    make_ro(l1);
    make_ro(l2);
    make_ro(l3);
    return mfn_of(l3) * PAGE | LINK;
}

static u32 reads_other_than(u64 value, u32 me, u32 other)
{
    u32 wrong = 0;
    for (u32 i = 0; i < HANDED; i++) {
        if (!UNTIL(owner == me, asm volatile("pause" ::: "memory")))
            return HANDED;
        wrong += *OWN_WORD != value;
        owner = other;
    }
    return wrong;
}

static void read_own(struct processor *me)
{
    me->rc = mmuext(MMUEXT_NEW_BASEPTR, mfn_of(other_l4), 0);
    me->value = reads_other_than(R13(1), 1, 0);
    mmuext(MMUEXT_NEW_BASEPTR, mfn_of(kernel_l4()), 0);
}

static void own_tables(void)
{
    other_l4 = page_alloc();
    memcpy(other_l4, kernel_l4(), PAGE);
    other_l4[OWN] = own_l3(R13(1));
    make_ro(other_l4);
    CHECK_EQ("own_tables.ours", pte_write(&kernel_l4()[OWN], own_l3(R13(0))), 0);
    owner = 0;
    give(1, read_own);
    CHECK_EQ("own_tables.we_read_ours", reads_other_than(R13(0), 0, 1), 0);
    CHECK("own_tables.finishes", finishes(1));
    CHECK_EQ("own_tables.its", cpus[1].rc, 0);
    CHECK_EQ("own_tables.it_reads_its_own", cpus[1].value, 0);
}

/* ---- runstates */
static volatile u32 stop;
static struct runstate_info area;

static void spin_until_stopped(struct processor *me)
{
    u64 pointer = (u64)&area;
    me->rc = hc_vcpu(VCPUOP_register_runstate_memory_area, me->id, &pointer);
    while (!stop)
        me->step++;
    me->late = area.state == RUNNING ? area.time[RUNNABLE] : 0;
}

static int adds_up(u32 n)
{
    u64 before = now_ns(), sum = 0;
    struct runstate_info info = runstate(n);
    for (int i = 0; i < 4; i++)
        sum += info.time[i];
    return before <= sum && sum <= now_ns();
}

static void runstates(void)
{
    struct processor *one = &cpus[1];
    u64 ours = runstate(0).time[RUNNABLE], its = runstate(1).time[RUNNABLE];
    CHECK("runstate.blocks", becomes(1, BLOCKED));
    stop = one->step = 0;
    give(1, spin_until_stopped);
    for (int i = 0; i < 3; i++) { /* each change has been a turn of its own, and the next one is ours */
        u32 step = one->step;
        if (!UNTIL(one->step != step, ))
            break;
    }
    CHECK_EQ("runstate.running", runstate(0).state, RUNNING);
    CHECK_EQ("runstate.waits_for_its_turn", runstate(1).state, RUNNABLE);
    CHECK("runstate.others_block", runstate(2).state == BLOCKED && runstate(3).state == BLOCKED);
    CHECK("runstate.ours_grows", runstate(0).time[RUNNABLE] > ours);
    CHECK("runstate.its_grows", runstate(1).time[RUNNABLE] > its);
    stop = 1;
    CHECK("runstate.finishes", finishes(1));
    CHECK_EQ("runstate.area", one->rc, 0);
    CHECK("runstate.area.has_it", one->late > its);
    for (u32 n = 0; n < VCPUS; n++)
        CHECK(of(n, "runstate.adds_up"), adds_up(n));
}

/* ---- fairness */
static void count_until_stopped(struct processor *me)
{
    while (!stop)
        me->step++;
}

static void wake_another_and_count(struct processor *me)
{
    give(2, count_until_stopped);
    count_until_stopped(me);
}

static u64 has_run(u32 n) { return runstate(n).time[RUNNING]; }

/* Who has run alone for long is not kept waiting for as long by those that begin now. */
static void fairness(void)
{
    u64 alone = 1000 * MS, ours = has_run(0), theirs;
    CHECK("fair.others_block", becomes(1, BLOCKED) && becomes(2, BLOCKED));
    while (has_run(0) - ours < alone)
        ;
    stop = cpus[1].step = cpus[2].step = 0;
    theirs = has_run(1) + has_run(2);
    ours = has_run(0);
    give(1, wake_another_and_count);
    while (has_run(0) - ours < alone / 10)
        ;
    theirs = has_run(1) + has_run(2) - theirs;
    stop = 1;
    CHECK("fair.finish", finishes(1) && finishes(2));
    CHECK("fair.both_run", theirs > 0 && cpus[1].step && cpus[2].step);
    CHECK("fair.no_debt", theirs < alone);
}

/* ---- down */
static void go_down(struct processor *me)
{
    mask(me, 0);
    me->step = 1;
    me->rc = 77;
    me->rc = hc_vcpu(VCPUOP_down, me->id, 0);
    me->step = 2;
}

/* Its guest makes progress: looks for as long as a few turns take, with the processor left to it. */
static int goes_on(u32 n, u64 ns)
{
    u32 step = cpus[n].step, nothing = 0;
    struct sched_poll p = { &nothing, 0, 0, now_ns() + ns };
    hc_sched(SCHEDOP_poll, &p);
    return cpus[n].step != step;
}

static void down_and_up(void)
{
    struct processor *one = &cpus[1], *two = &cpus[2];
    one->step = 0;
    give(1, go_down);
    CHECK("down.goes", UNTIL(!hc_vcpu(VCPUOP_is_up, 1, 0), YIELD));
    CHECK_EQ("down.runstate", runstate(1).state, OFFLINE);
    u32 events = EVENTS(one, one->port);
    CHECK_EQ("down.send", evtchn_send(one->port), 0);
    CHECK("down.stays", !goes_on(1, 30 * MS));
    CHECK_EQ("down.in_the_hypercall", one->step, 1);
    CHECK_EQ("down.no_upcall", EVENTS(one, one->port), events);
    CHECK_EQ("down.up_again", hc_vcpu(VCPUOP_up, 1, 0), 0);
    CHECK("down.goes_on", finishes(1));
    CHECK_EQ("down.answer", one->rc, 0);
    CHECK_EQ("down.behind_the_hypercall", one->step, 2);
    CHECK_EQ("down.upcall_afterwards", EVENTS(one, one->port), events + 1);
    stop = two->step = 0;
    give(2, count_until_stopped);
    CHECK("down.other.computes", UNTIL(two->step, YIELD));
    CHECK_EQ("down.other", hc_vcpu(VCPUOP_down, 2, 0), 0);
    CHECK_EQ("down.other.is_up", hc_vcpu(VCPUOP_is_up, 2, 0), 0);
    CHECK("down.other.stays", !goes_on(2, 30 * MS));
    CHECK_EQ("down.other.up_again", hc_vcpu(VCPUOP_up, 2, 0), 0);
    u32 step = two->step;
    CHECK("down.other.goes_on", UNTIL(two->step != step, YIELD));
    stop = 1;
    CHECK("down.other.finishes", finishes(2));
    CHECK("down.other.blocks", becomes(2, BLOCKED));
    CHECK_EQ("down.blocked", hc_vcpu(VCPUOP_down, 2, 0), 0);
    CHECK_EQ("down.blocked.runstate", runstate(2).state, OFFLINE);
    give(2, count_until_stopped);
    CHECK("down.blocked.stays", !goes_on(2, 30 * MS) && two->work);
    CHECK_EQ("down.blocked.up_again", hc_vcpu(VCPUOP_up, 2, 0), 0);
    CHECK("down.blocked.finishes", finishes(2));
}

/* What is left for the last test: the kit's shutdown then ends a domain whose other vCPUs are all down. */
static void all_down(void)
{
    struct info_place place = { mfn_of(page_alloc()), 0, 0 };
    CHECK_EQ("info.of_another_that_is_up", hc_vcpu(VCPUOP_register_vcpu_info, 1, &place), -EINVAL);
    for (u32 n = 1; n < VCPUS; n++) {
        CHECK_EQ(of(n, "down"), hc_vcpu(VCPUOP_down, n, 0), 0);
        CHECK_EQ(of(n, "down.is_up"), hc_vcpu(VCPUOP_is_up, n, 0), 0);
    }
}

PROBE(TEST(refusals, 13), TEST(bringing_up, 3 * 13 + 4), TEST(ipis, 13), TEST(spinning, 8), TEST(polling, 9), TEST(timers, 8),
      TEST(together, 11), TEST(own_tables, 5), TEST(runstates, 13), TEST(fairness, 4), TEST(down_and_up, 24), TEST(all_down, 7));
