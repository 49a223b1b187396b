/*
 * What only a privileged domain may ask. The oracle's domain 0 is one, so that these cannot be asked there; from Xen's sources: an
 * interface version that does not match is -EACCES before privilege is looked at, wild arguments are -EFAULT, the rest -EPERM. A
 * hypervisor without the call says -ENOSYS. All of them refuse, none acts.
 */
#include "xenkit.h"

static int refusal(s64 rc)
{
    return rc == -EPERM || rc == -EACCES || rc == -EFAULT || rc == -ENOSYS || rc == -EINVAL || rc == -ESRCH ||
           rc == -EOPNOTSUPP || rc == -ENXIO || rc == -ENODEV;
}

static void control(void)
{
    static const struct { const char *name; u32 nr; } calls[] = {
        { "platform_op", NR_platform_op }, { "xsm_op", NR_xsm_op }, { "xenoprof_op", NR_xenoprof_op },
        { "hvm_op", NR_hvm_op }, { "sysctl", NR_sysctl }, { "domctl", NR_domctl }, { "kexec_op", NR_kexec_op },
        { "tmem_op", NR_tmem_op }, { "argo_op", NR_argo_op }, { "xenpmu_op", NR_xenpmu_op }, { "dm_op", NR_dm_op },
        { "hypfs_op", NR_hypfs_op },
    };
    static u8 arg[256];
    for (u32 i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (oracle) {
            skip(calls[i].name, "domain 0 may");
            continue;
        }
        int good = 1;
        for (u32 op = 0; op < 64; op++) {
            memset(arg, 0, sizeof(arg));
            arg[0] = (u8)op;
            s64 rc = calls[i].nr == NR_platform_op || calls[i].nr == NR_sysctl || calls[i].nr == NR_domctl
                         ? HC(calls[i].nr, arg, 0, 0, 0)
                         : HC(calls[i].nr, op, arg, 0, 0);
            /* get_time, xentrace and guest_request_vm_event are open to every kind of domain. */
            int open = calls[i].nr == NR_hvm_op && (op == 10 || op == 11 || op == 24);
            if (!refusal(rc) && !open) {
                printk("# %s %u answered %ld\n", calls[i].name, op, rc);
                good = 0;
            }
        }
        check(calls[i].name, good);
    }
}

static void others(void)
{
    u32 unbound[2] = { 0 | 2u << 16, 0 }; /* for domain 0: the one number that is never its own */
    u16 dom0 = 0;
    struct { u16 domid; u16 pad; u32 reason; } remote = { 0, 0, SHUTDOWN_crash };
    if (oracle) {
        skip("alloc_unbound_of_another", "domain 0 may");
        skip("remote_shutdown_of_domain_0", "domain 0 may");
        skip("reservation_of_domain_0", "domain 0 may");
        skip("map_frame_of_domain_0", "it is the owner");
        return;
    }
    s64 rc = hc_event(EVTCHNOP_alloc_unbound, unbound);
    CHECK("alloc_unbound_of_another", rc == -EPERM || rc == -ESRCH);
    rc = hc_sched(SCHEDOP_remote_shutdown, &remote);
    CHECK("remote_shutdown_of_domain_0", rc == -EPERM || rc == -ESRCH);
    rc = hc_memory(3, &dom0);
    CHECK("reservation_of_domain_0", rc == -EPERM || rc == -ESRCH);
    u8 *page = page_alloc();
    rc = HC(NR_update_va_mapping_otherdomain, page, mfn_of(page) * PAGE | PTE_P, UVMF_INVLPG, 0);
    CHECK("map_frame_of_domain_0", rc == -EPERM || rc == -ESRCH);
}

PROBE(TEST(control, 12), TEST(others, 4));
