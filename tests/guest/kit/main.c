/* Runs the tests of a probe, one after another; a test that traps unexpectedly is given up, the next one still runs. */
#include "xenkit.h"

struct start_info *start_info;
struct shared_info *shared_info;
struct vcpu_info *vcpu_info;
const volatile u64 *m2p_table = (const volatile u64 *)HYPERVISOR_START;
int oracle;
struct jump test_abort;
static u32 performed;
static u32 failed;

void check(const char *name, int passed)
{
    performed++;
    failed += !passed;
    printk("%s %s\n", passed ? "ok" : "FAIL", name);
}

/* Small numbers are errors or counts, others addresses: print both ways where it helps. */
void check_eq(const char *name, u64 got, u64 want)
{
    performed++;
    failed += got != want;
    if (got == want)
        printk("ok %s\n", name);
    else if ((s64)got > -4096 && (s64)got < 4096 && (s64)want > -4096 && (s64)want < 4096)
        printk("FAIL %s got %ld want %ld\n", name, (s64)got, (s64)want);
    else
        printk("FAIL %s got 0x%lx want 0x%lx\n", name, got, want);
}

void skip(const char *name, const char *reason)
{
    performed++;
    printk("ok %s # SKIP %s\n", name, reason);
}

void shutdown(u32 reason)
{
    hc_sched(SCHEDOP_shutdown, &reason);
    for (;;)
        hc_sched(SCHEDOP_block, 0);
}

static void map_shared_info(void)
{
    shared_info = page_alloc();
    map_page(shared_info, (start_info->shared_info & PTE_MFN) | PTE_P | PTE_W | PTE_NX);
    vcpu_info = &shared_info->vcpu_info[0];
}

static void find_m2p(void)
{
    struct { u64 start, end, max_mfn; } mapping;
    if (!hc_memory(XENMEM_machphys_mapping, &mapping))
        m2p_table = (const volatile u64 *)mapping.start;
}

static void run(const struct test *test)
{
    performed = 0;
    if (!jump_save(&test_abort))
        test->run();
    trap_hook = 0;
    trap_resume = 0;
    events_disable();
    if (performed != test->checks) {
        failed++;
        printk("FAIL %s.count got %u want %u\n", test->name, performed, test->checks);
    }
}

void kit_main(struct start_info *si)
{
    const struct test *test;
    u32 plan = 0;
    start_info = si;
    oracle = contains(si->cmd_line, "oracle");
    for (test = probe_tests; test->run; test++)
        plan += test->checks;
    printk("1..%u\n", plan);
    find_m2p();
    map_shared_info();
    traps_init();
    for (test = probe_tests; test->run; test++)
        run(test);
    printk("# %u failed\n", failed);
    shutdown(failed ? SHUTDOWN_crash : SHUTDOWN_poweroff);
}
