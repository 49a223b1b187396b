/* HYPERVISOR_physdev_op (physdev.h): the two operations of an unprivileged domain, and the rest refused. */
#include "xenkit.h"

static void iopl(void)
{
    struct { u32 iopl; } set = { 4 };
    CHECK_EQ("set_iopl.4", HC(NR_physdev_op, 6, &set, 0, 0), -EINVAL);
    for (set.iopl = 0; set.iopl < 4; set.iopl++) {
        char name[] = "set_iopl.level0";
        name[14] = (char)('0' + set.iopl);
        CHECK_EQ(name, HC(NR_physdev_op, 6, &set, 0, 0), 0);
    }
    set.iopl = 0;
    HC(NR_physdev_op, 6, &set, 0, 0);
    CHECK_EQ("set_iopl.wild", HC(NR_physdev_op, 6, 0x700000000000, 0, 0), -EFAULT);
    struct { u64 bitmap; u32 ports; u32 pad; } map = { 0x700000000000, 65536, 0 };
    CHECK_EQ("set_iobitmap.unmapped_is_accepted", HC(NR_physdev_op, 7, &map, 0, 0), 0);
    map.ports = 65537;
    CHECK_EQ("set_iobitmap.too_many", HC(NR_physdev_op, 7, &map, 0, 0), -EINVAL);
    map.bitmap = HYPERVISOR_START;
    map.ports = 8;
    CHECK_EQ("set_iobitmap.hypervisor", HC(NR_physdev_op, 7, &map, 0, 0), -EINVAL);
    map.ports = 0;
    map.bitmap = 0;
    CHECK_EQ("set_iobitmap.none", HC(NR_physdev_op, 7, &map, 0, 0), 0);
    CHECK_EQ("set_iobitmap.wild", HC(NR_physdev_op, 7, 0x700000000000, 0, 0), -EFAULT);
    CHECK_EQ("number_99", HC(NR_physdev_op, 99, &map, 0, 0), -ENOSYS);
}

/* Domain 0 drives the machine's interrupts with these; nobody else may. */
static void machine(void)
{
    static u8 arg[64];
    static const u32 ops[] = { 2, 5, 8, 9, 10, 12, 13, 14, 15, 16, 18, 22, 25 };
    int refused = 1;
    for (u32 i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        memset(arg, 0xff, sizeof(arg));
        if (!oracle && HC(NR_physdev_op, ops[i], arg, 0, 0) >= 0) {
            refused = 0;
            printk("# physdev_op %u was not refused\n", ops[i]);
        }
    }
    CHECK_EQ_UNPRIVILEGED("machine.refused", refused, 1, "domain 0 may");
}

PROBE(TEST(iopl, 12), TEST(machine, 1));
