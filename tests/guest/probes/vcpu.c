/* HYPERVISOR_vcpu_op (vcpu.h) with one vcpu. */
#include "xenkit.h"

static void states(void)
{
    u32 i;
    int beyond = 1;
    CHECK_EQ("is_up.0", hc_vcpu(VCPUOP_is_up, 0, 0), 1);
    for (i = 1; i < 64; i++)
        beyond &= hc_vcpu(VCPUOP_is_up, i, 0) == -ENOENT;
    CHECK("is_up.beyond", beyond);
    CHECK_EQ("is_up.8191", hc_vcpu(VCPUOP_is_up, 8191, 0), -ENOENT);
    CHECK_EQ("up.running", hc_vcpu(VCPUOP_up, 0, 0), 0);
    CHECK_EQ("up.beyond", hc_vcpu(VCPUOP_up, 1, 0), -ENOENT);
    CHECK_EQ("down.beyond", hc_vcpu(VCPUOP_down, 1, 0), -ENOENT);
    CHECK_EQ("initialise.beyond", hc_vcpu(VCPUOP_initialise, 1, 0), -ENOENT);
    CHECK_EQ("initialise.wild", hc_vcpu(VCPUOP_initialise, 0, 0x700000000000), -EFAULT);
    static u8 context[5168]; /* struct vcpu_guest_context */
    CHECK_EQ("initialise.running", hc_vcpu(VCPUOP_initialise, 0, context), -EEXIST);
    CHECK_EQ("number.99", hc_vcpu(99, 0, 0), -ENOSYS);
    CHECK_EQ("number.99_beyond", hc_vcpu(99, 1, 0), -ENOENT);
    u64 id;
    /* Answered only to a domain 0 that is pinned; the oracle's is, on its one processor. */
    CHECK_EQ("get_physid", hc_vcpu(VCPUOP_get_physid, 0, &id), oracle ? 0 : -EINVAL);
}

static void runstate(void)
{
    static struct runstate_info area;
    struct runstate_info info;
    u64 area_pointer = (u64)&area, sum, before;
    CHECK_EQ("runstate.get", hc_vcpu(VCPUOP_get_runstate_info, 0, &info), 0);
    CHECK_EQ("runstate.running", info.state, 0);
    sum = info.time[0] + info.time[1] + info.time[2] + info.time[3];
    CHECK("runstate.sum_is_not_after_now", sum <= now_ns());
    CHECK("runstate.has_run", info.time[0] > 0);
    before = info.time[0];
    for (u64 end = now_ns() + 2000000; now_ns() < end;)
        ;
    hc_vcpu(VCPUOP_get_runstate_info, 0, &info);
    CHECK("runstate.running_time_grows", info.time[0] > before);
    memset(&area, 0xee, sizeof(area));
    CHECK_EQ("runstate.register", hc_vcpu(VCPUOP_register_runstate_memory_area, 0, &area_pointer), 0);
    CHECK_EQ("runstate.area_filled_at_once", area.state, 0);
    CHECK("runstate.area_entry_time", area.state_entry_time <= now_ns());
    area_pointer = 0xffff830000000000;
    CHECK_EQ("runstate.register_hypervisor", hc_vcpu(VCPUOP_register_runstate_memory_area, 0, &area_pointer), -EFAULT);
    /* The address is used when the vcpu is switched: an unmapped one is no error. */
    area_pointer = 0x700000000000;
    CHECK_EQ("runstate.register_unmapped", hc_vcpu(VCPUOP_register_runstate_memory_area, 0, &area_pointer), 0);
    area_pointer = (u64)&area;
    hc_vcpu(VCPUOP_register_runstate_memory_area, 0, &area_pointer);
    CHECK_EQ("runstate.wild", hc_vcpu(VCPUOP_register_runstate_memory_area, 0, 0x700000000000), -EFAULT);
}

static void time_area(void)
{
    static struct vcpu_time_info area;
    u64 pointer = (u64)&area;
    s64 rc = hc_vcpu(VCPUOP_register_vcpu_time_memory_area, 0, &pointer);
    CHECK("time_area.register", rc == 0 || rc == -ENOSYS);
    CHECK("time_area.filled", rc || (area.tsc_to_system_mul == VCPU0->time.tsc_to_system_mul && area.system_time));
}

static void register_info(void)
{
    struct { u64 mfn; u32 offset; u32 reserved; } place = { 0, 0, 0 };
    u8 *page = page_alloc();
    u8 *table = table_alloc();
    mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(table), 0);
    place.mfn = mfn_of(page);
    place.offset = 4096 - 63;
    CHECK_EQ("info.offset_too_high", hc_vcpu(VCPUOP_register_vcpu_info, 0, &place), -ENXIO);
    place.offset = 4;
    CHECK_EQ("info.offset_misaligned", hc_vcpu(VCPUOP_register_vcpu_info, 0, &place), -ENXIO);
    place.offset = 0;
    place.mfn = 0x7ffffff;
    CHECK_EQ("info.bad_mfn", hc_vcpu(VCPUOP_register_vcpu_info, 0, &place), -EINVAL);
    place.mfn = mfn_of(table);
    CHECK_EQ("info.page_table", hc_vcpu(VCPUOP_register_vcpu_info, 0, &place), -EINVAL);
    place.mfn = mfn_of(page);
    place.offset = 128;
    events_disable();
    VCPU0->cr2 = 0x1234;
    CHECK_EQ("info.register", hc_vcpu(VCPUOP_register_vcpu_info, 0, &place), 0);
    vcpu_info = (struct vcpu_info *)(page + 128);
    CHECK_EQ("info.contents_copied", VCPU0->cr2, 0x1234);
    CHECK_EQ("info.mask_copied", VCPU0->upcall_mask, 1);
    CHECK_EQ("info.all_pending", VCPU0->pending_sel, ~0ul);
    CHECK_EQ("info.upcall_pending", VCPU0->upcall_pending, 1);
    CHECK("info.clock_runs_there", VCPU0->time.tsc_to_system_mul && !(VCPU0->time.version & 1));
    place.offset = 0;
    CHECK_EQ("info.twice", hc_vcpu(VCPUOP_register_vcpu_info, 0, &place), -EINVAL);
    CHECK_EQ("info.page_cannot_be_a_table", ({ make_ro(page); mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page), 0); }), -EINVAL);
    make_rw(page);
    TRY("ud2", ::: "memory");
    CHECK_EQ("info.traps_use_it", traps[0].saved_mask, 1);
    VCPU0->pending_sel = 0;
    VCPU0->upcall_pending = 0;
    s64 port = bind_ipi(0);
    events_reset();
    events_enable();
    evtchn_send((u32)port);
    events_disable();
    CHECK_EQ("info.events_use_it", event_count[port], 1);
    TRY("movb (%0), %%al", ::"r"(0x700000000123ul) : "rax", "memory");
    CHECK_EQ("info.cr2_uses_it", VCPU0->cr2, 0x700000000123);
}

static u32 nmis;

static int count_nmi(struct trap *trap, struct cpu *cpu)
{
    (void)cpu;
    nmis += trap->vector == VECTOR_NMI;
    return 1;
}

/* Delivered at the next return to the guest, events masked or not. */
static void nmi(void)
{
    struct callback_register reg = { CALLBACKTYPE_nmi, 0, 0, STUB(VECTOR_NMI) };
    CHECK_EQ("nmi.register", hc_callback(CALLBACKOP_register, &reg), 0);
    CHECK_EQ("nmi.argument_must_be_null", hc_vcpu(VCPUOP_send_nmi, 0, &reg), -EINVAL);
    events_disable();
    trap_reset();
    trap_hook = count_nmi;
    CHECK_EQ("nmi.send", hc_vcpu(VCPUOP_send_nmi, 0, 0), 0);
    trap_hook = 0;
    CHECK_EQ("nmi.delivered_though_masked", nmis, 1);
    CHECK_EQ("nmi.masks_events", traps[0].upcall_mask, 1);
    CHECK_EQ("nmi.frame_has_no_error_code", traps[0].cpu.cs, 0xe030);
    CHECK_EQ("nmi.beyond", hc_vcpu(VCPUOP_send_nmi, 9, 0), -ENOENT);
}

PROBE(TEST(states, 12), TEST(runstate, 11), TEST(time_area, 2), TEST(register_info, 15), TEST(nmi, 7));
