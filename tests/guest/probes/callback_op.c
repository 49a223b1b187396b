/* HYPERVISOR_callback_op, set_callbacks and nmi_op (callback.h, nmi.h). */
#include "xenkit.h"

static s64 reg(u16 type, u64 address)
{
    struct callback_register r = { type, 0, 0, address };
    return hc_callback(CALLBACKOP_register, &r);
}

static s64 unreg(u16 type)
{
    struct { u16 type, pad; } r = { type, 0 };
    return hc_callback(CALLBACKOP_unregister, &r);
}

static void registering(void)
{
    CHECK_EQ("register.event", reg(CALLBACKTYPE_event, STUB(VECTOR_EVENT)), 0);
    CHECK_EQ("register.failsafe", reg(CALLBACKTYPE_failsafe, STUB(VECTOR_FAILSAFE)), 0);
    CHECK_EQ("register.syscall", reg(CALLBACKTYPE_syscall, STUB(VECTOR_SYSCALL)), 0);
    CHECK_EQ("register.syscall32", reg(CALLBACKTYPE_syscall32, STUB(VECTOR_SYSCALL32)), 0);
    CHECK_EQ("register.sysenter", reg(CALLBACKTYPE_sysenter, STUB(VECTOR_SYSENTER)), 0);
    CHECK_EQ("register.nmi", reg(CALLBACKTYPE_nmi, STUB(VECTOR_NMI)), 0);
    CHECK_EQ("register.sysenter_old", reg(CALLBACKTYPE_sysenter_old, STUB(VECTOR_SYSENTER)), -ENOSYS);
    CHECK_EQ("register.type_6", reg(6, STUB(0)), -ENOSYS);
    CHECK_EQ("register.type_8", reg(8, STUB(0)), -ENOSYS);
    CHECK_EQ("register.type_65535", reg(65535, STUB(0)), -ENOSYS);
    CHECK_EQ("register.noncanonical", reg(CALLBACKTYPE_event, 0x800000000000), -EINVAL);
    CHECK_EQ("register.noncanonical_first", reg(99, 0x800000000000), -EINVAL);
    CHECK_EQ("register.hypervisor_address", reg(CALLBACKTYPE_sysenter, HYPERVISOR_START), 0); /* jumps there fault in the guest */
    reg(CALLBACKTYPE_sysenter, STUB(VECTOR_SYSENTER));
}

static void unregistering(void)
{
    CHECK_EQ("unregister.event", unreg(CALLBACKTYPE_event), -EINVAL);
    CHECK_EQ("unregister.failsafe", unreg(CALLBACKTYPE_failsafe), -EINVAL);
    CHECK_EQ("unregister.syscall", unreg(CALLBACKTYPE_syscall), -EINVAL);
    CHECK_EQ("unregister.syscall32", unreg(CALLBACKTYPE_syscall32), -EINVAL);
    CHECK_EQ("unregister.sysenter", unreg(CALLBACKTYPE_sysenter), -EINVAL);
    CHECK_EQ("unregister.nmi", unreg(CALLBACKTYPE_nmi), 0);
    CHECK_EQ("unregister.type_9", unreg(9), -ENOSYS);
    CHECK_EQ("number_2", hc_callback(2, 0), -ENOSYS);
    CHECK_EQ("register.wild", hc_callback(CALLBACKOP_register, 0x700000000000), -EFAULT);
    CHECK_EQ("unregister.wild", hc_callback(CALLBACKOP_unregister, 0x700000000000), -EFAULT);
}

USER_FN(u_syscall, "syscall");

/* The old way: event, failsafe and syscall at once; it never fails. */
static void set_callbacks(void)
{
    CHECK_EQ("set_callbacks", HC(NR_set_callbacks, STUB(VECTOR_EVENT), STUB(VECTOR_FAILSAFE), STUB(200), 0), 0);
    user_init();
    CHECK_EQ("set_callbacks.syscall_goes_there", user_run(u_syscall, 0)->vector, 200);
    CHECK_EQ("set_callbacks.noncanonical", HC(NR_set_callbacks, 0x800000000000, 0x800000000000, 0x800000000000, 0), 0);
    CHECK_EQ("set_callbacks.noncanonical.ignored", user_run(u_syscall, 0)->vector, 200);
    reg(CALLBACKTYPE_syscall, STUB(VECTOR_SYSCALL));
    s64 port = bind_ipi(0);
    events_reset();
    events_enable();
    evtchn_send((u32)port);
    events_disable();
    CHECK_EQ("set_callbacks.events_still_come", event_count[port], 1);
}

static void nmi_op(void)
{
    struct { u64 handler, pad; } cb = { STUB(VECTOR_NMI), 0 };
    CHECK_EQ("nmi_op.register", HC(NR_nmi_op, 0, &cb, 0, 0), 0);
    CHECK_EQ("nmi_op.unregister", HC(NR_nmi_op, 1, 0, 0, 0), 0);
    CHECK_EQ("nmi_op.number_2", HC(NR_nmi_op, 2, 0, 0, 0), -ENOSYS);
    cb.handler = 0x800000000000;
    CHECK_EQ("nmi_op.noncanonical", HC(NR_nmi_op, 0, &cb, 0, 0), -EINVAL);
}

PROBE(TEST(registering, 13), TEST(unregistering, 10), TEST(set_callbacks, 5), TEST(nmi_op, 4));
